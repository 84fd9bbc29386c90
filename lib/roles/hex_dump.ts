/** Frames as people read them: 16 bytes a line, offset, hex, text. */

/** A hex dump; the bytes at which `other` differs are marked with `*` behind the line. */
export function hexDump(bytes: Uint8Array, other?: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.subarray(at, at + 16);
    const hex = Array.from(row, (b) => b.toString(16).padStart(2, "0")).join(" ");
    const text = Array.from(row, (b) => b >= 32 && b < 127 ? String.fromCharCode(b) : ".").join("");
    const differs = other !== undefined && row.some((b, i) => b !== other[at + i]);
    lines.push(
      `  ${at.toString(16).padStart(4, "0")}  ${hex.padEnd(47)}  ${text}${differs ? "  *" : ""}`,
    );
  }
  return lines.join("\n");
}
