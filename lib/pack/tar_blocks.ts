/**
 * The blocks of a tar archive around the files' bytes. A pack is tar for the sake of other tools; it has one way to
 * write each file, so that a reader compares instead of interpreting. That is all of tar that is needed.
 *
 * Layout: POSIX.1-2001, pax, "ustar Interchange Format" and "pax Extended Header".
 */

export const BLOCK_BYTES = 512;
/** Behind the last file: two blocks of zeros. */
export const END_BYTES = 2 * BLOCK_BYTES;
/** The longest path that the name field takes. */
export const PATH_BYTES_MAX = 100;
/** What eleven octal digits hold; a larger file has its size in a pax header. */
const OCTAL_SIZE_MAX = 8 ** 11 - 1;

const SIZE_AT = 124;
const CHECKSUM_AT = 148;
const MODE = 0o644;

/** What stands before the bytes of a file: one block, or three where its size takes a pax header. */
export function headerOf(path: string, bytes: number): Uint8Array {
  if (path.length > PATH_BYTES_MAX) throw new Error(`the path is too long for a pack: ${path}`);
  if (bytes <= OCTAL_SIZE_MAX) return block(path, bytes, "0");
  const record = paxRecord("size", `${bytes}`);
  const header = new Uint8Array(3 * BLOCK_BYTES);
  header.set(block("pax", record.length, "x"));
  header.set(record, BLOCK_BYTES);
  header.set(block(path, 0, "0"), 2 * BLOCK_BYTES);
  return header;
}

/** Zeros behind the bytes of a file, up to the next block. */
export function paddingOf(bytes: number): number {
  return (BLOCK_BYTES - bytes % BLOCK_BYTES) % BLOCK_BYTES;
}

/** The size in a header block; `undefined` where there are no eleven octal digits. */
export function sizeIn(header: Uint8Array): number | undefined {
  const digits = new TextDecoder("latin1").decode(header.subarray(SIZE_AT, SIZE_AT + 11));
  return /^[0-7]{11}$/.test(digits) ? parseInt(digits, 8) : undefined;
}

function block(path: string, bytes: number, type: "0" | "x"): Uint8Array {
  const header = new Uint8Array(BLOCK_BYTES);
  const put = (at: number, text: string) => header.set(new TextEncoder().encode(text), at);
  const octal = (n: number, digits: number) => n.toString(8).padStart(digits, "0");
  put(0, path);
  put(100, octal(MODE, 7)); // behind each number a zero byte
  put(108, octal(0, 7)); // user
  put(116, octal(0, 7)); // group
  put(SIZE_AT, octal(bytes, 11));
  put(136, octal(0, 11)); // time of the last change
  put(CHECKSUM_AT, " ".repeat(8));
  put(156, type);
  put(257, "ustar\0" + "00");
  put(329, octal(0, 7)); // device
  put(337, octal(0, 7));
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(CHECKSUM_AT, octal(sum, 6) + "\0 ");
  return header;
}

/** `LENGTH KEY=VALUE\n`, where LENGTH counts itself. */
function paxRecord(key: string, value: string): Uint8Array {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length;
  while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length;
  return new TextEncoder().encode(`${length}${rest}`);
}
