/**
 * A log record as one line: JSON for machines (journald, files), a short text for a terminal. Both show
 * the same; secrets are hidden in both ({@link Redaction}).
 */
import type { LogRecord } from "@logtape/logtape";
import { type Paint, paint } from "../cli/terminal.ts";
import { Redaction } from "./redaction.ts";

/** Makes a line of a record, its end included. */
export type LogFormat = (record: LogRecord) => string;

/** The ids that a record may carry, in the order in which they are shown. */
const IDS = ["run", "vm", "host"] as const;
const OWN_KEYS = new Set(["time", "level", "area", "message"]);

/** A record without secrets. */
interface Entry {
  readonly time: Date;
  readonly level: LogRecord["level"];
  readonly area: string;
  readonly message: string;
  /** Ids first. */
  readonly fields: readonly (readonly [string, unknown])[];
}

function entryOf(record: LogRecord): Entry {
  const redaction = new Redaction(record.properties);
  const shown = redaction.value(record.properties) as Record<string, unknown>;
  const isId = (key: string) => (IDS as readonly string[]).includes(key);
  return {
    time: new Date(record.timestamp),
    level: record.level,
    area: redaction.text(
      record.category.slice(record.category[0] === "clusterrr" ? 1 : 0).join("."),
    ),
    message: redaction.text(
      record.message.map((part) => typeof part === "string" ? part : word(redaction.value(part)))
        .join(""),
    ),
    fields: [
      ...IDS.flatMap((id) => id in shown ? [[id, shown[id]] as const] : []),
      ...Object.entries(shown).filter(([key]) => !isId(key)),
    ],
  };
}

/** `{"time": …, "level": …, "area": …, "message": …, "run": …, …}` and a newline. */
export const jsonFormat: LogFormat = (record) => {
  const { time, level, area, message, fields } = entryOf(record);
  // A field that is named like one of ours gets a mark: ours can be relied on.
  const marked = fields.map(([key, value]) => [OWN_KEYS.has(key) ? `${key}_` : key, value]);
  const own = { time: time.toISOString(), level, area, message };
  return JSON.stringify({ ...own, ...Object.fromEntries(marked) }) + "\n";
};

/** `18:05:01.123 info    agent: the VM has ended  run=a38df86f vm=left`, in local time. */
export function terminalFormat(color: boolean): LogFormat {
  const style = paint(color);
  return (record) => {
    const { time, level, area, message, fields } = entryOf(record);
    const clock = [time.getHours(), time.getMinutes(), time.getSeconds()].map(twoDigits).join(":");
    const at = `${clock}.${String(time.getMilliseconds()).padStart(3, "0")}`;
    const tail = fields.map(([key, value]) => ` ${printable(key)}=${printable(word(value))}`);
    return `${style.dim(at)} ${colored(level, style)} ${area}: ${printable(message)}` +
      `${tail.length === 0 ? "" : style.dim(` ${tail.join("")}`)}\n`;
  };
}

function colored(level: LogRecord["level"], style: Paint): string {
  const padded = level.padEnd(7);
  switch (level) {
    case "error":
    case "fatal":
      return style.bad(padded);
    case "warning":
      return style.warn(padded);
    case "info":
      return padded;
    default:
      return style.dim(padded);
  }
}

/** A value inside a line of text. */
function word(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value) ?? "undefined";
}

/** Without control characters: what a peer sent must not move the cursor or look like a line of ours. */
function printable(text: string): string {
  return text.replaceAll("\n", "\n    ").replaceAll(
    // deno-lint-ignore no-control-regex
    /[\x00-\x09\x0b-\x1f\x7f-\x9f]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

function twoDigits(n: number): string {
  return String(n).padStart(2, "0");
}
