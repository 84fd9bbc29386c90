/** Tables of aligned columns for people. */
import type { Paint } from "./terminal.ts";

/** A column: its title, and on which side its cells line up. */
export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
}

/** Characters a text takes; names here are letters and digits of one cell each. */
function width(text: string): number {
  return [...text].length;
}

/**
 * Title line and rows as text, each line ended. `colorCell` styles a padded cell, so that styles do
 * not count as width.
 */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  style: Paint,
  colorCell: (text: string, row: number, column: number) => string = (text) => text,
): string {
  const widths = columns.map((column, c) =>
    Math.max(width(column.title), ...rows.map((row) => width(row[c] ?? "")))
  );
  const last = columns.length - 1;
  const pad = (text: string, c: number) => {
    const fill = " ".repeat(Math.max(0, widths[c]! - width(text)));
    if (columns[c]!.align === "right") return fill + text;
    return c === last ? text : text + fill;
  };
  const lines = [columns.map((column, c) => style.dim(pad(column.title, c))).join("  ")];
  for (const [r, row] of rows.entries()) {
    lines.push(columns.map((_, c) => colorCell(pad(row[c] ?? "", c), r, c)).join("  "));
  }
  return lines.map((line) => line.trimEnd() + "\n").join("");
}

/** A count with its noun: "1 VM", "3 VMs". */
export function plural(n: number, noun: string, many = `${noun}s`): string {
  return `${n} ${n === 1 ? noun : many}`;
}
