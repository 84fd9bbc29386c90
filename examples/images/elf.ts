/**
 * Reads from ELF files what a guest image needs to know: the shared libraries a program loads, its
 * interpreter, and the modules a kernel module stands on. 64-bit little-endian only.
 * Layout: elf(5); `.modinfo` is a run of NUL-separated `key=value` texts (kernel/module/main.c).
 */
import { FormatError } from "../../lib/errors.ts";

/** What a dynamic program or library names: `libc.so.6`, `/lib64/ld-linux-x86-64.so.2`. */
export interface ElfNeeds {
  readonly libraries: readonly string[];
  readonly interpreter: string | undefined;
}

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NEEDED = 1;
const DT_STRTAB = 5;

/** Whether `bytes` start like an ELF file. */
export function isElf(bytes: Uint8Array): boolean {
  return bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

/**
 * The libraries and the interpreter that `bytes` ask the dynamic linker for; none in a static program.
 * @throws {FormatError} where a table points outside the file
 */
export function elfNeeds(file: string, bytes: Uint8Array): ElfNeeds {
  try {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const segments = segmentsOf(view);
    const interpreter = segments.find((s) => s.type === PT_INTERP);
    return {
      libraries: neededLibraries(bytes, view, segments),
      interpreter: interpreter && textAt(bytes, interpreter.offset),
    };
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new FormatError(file, 0, "an ELF table points outside the file", { cause });
  }
}

function segmentsOf(view: DataView): Segment[] {
  const tableOffset = Number(view.getBigUint64(32, true));
  const entrySize = view.getUint16(54, true);
  const count = view.getUint16(56, true);
  return Array.from({ length: count }, (_, i) => {
    const at = tableOffset + i * entrySize;
    return {
      type: view.getUint32(at, true),
      offset: Number(view.getBigUint64(at + 8, true)),
      address: Number(view.getBigUint64(at + 16, true)),
      size: Number(view.getBigUint64(at + 32, true)),
    };
  });
}

function neededLibraries(bytes: Uint8Array, view: DataView, segments: Segment[]): string[] {
  const dynamic = segments.find((s) => s.type === PT_DYNAMIC);
  if (dynamic === undefined) return [];
  const names: number[] = [];
  let stringsAddress = 0;
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += 16) {
    const tag = Number(view.getBigInt64(at, true));
    const value = Number(view.getBigUint64(at + 8, true));
    if (tag === DT_NEEDED) names.push(value);
    if (tag === DT_STRTAB) stringsAddress = value;
  }
  const strings = fileOffset(segments, stringsAddress);
  return names.map((name) => textAt(bytes, strings + name));
}

/** Where in the file the byte at virtual `address` is. */
function fileOffset(segments: Segment[], address: number): number {
  const home = segments.find((s) =>
    s.type === PT_LOAD && address >= s.address && address < s.address + s.size
  );
  if (home === undefined) throw new RangeError("address in no segment");
  return address - home.address + home.offset;
}

function textAt(bytes: Uint8Array, start: number): string {
  const end = bytes.indexOf(0, start);
  if (start >= bytes.length || end < 0) throw new RangeError("text outside the file");
  return new TextDecoder().decode(bytes.subarray(start, end));
}

/** The names of the modules that a kernel module needs, from its `.modinfo`. */
export function moduleNeeds(file: string, bytes: Uint8Array): string[] {
  if (!isElf(bytes)) throw new FormatError(file, 0, "not an uncompressed kernel module");
  const text = new TextDecoder("latin1").decode(bytes);
  const found = /\0depends=([^\0]*)\0/.exec(text);
  if (found === null) throw new FormatError(file, 0, "no depends= in the module's .modinfo");
  return found[1]!.split(",").filter((name) => name !== "");
}
