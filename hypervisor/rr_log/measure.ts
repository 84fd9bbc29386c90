/**
 * How long an rr log event is: the one place that knows where events end.
 *
 * The scanner takes the flat {@link RrLengths} into its inner loop and asks {@link measureEvent} for
 * the rest; the decoder asks it for everything, so the two cannot disagree about a byte.
 */
import { FormatError } from "../../lib/errors.ts";
import { measureInput } from "./input.ts";
import { KIND_INSTRUCTION, type RrLogTable } from "./tables.ts";

/** No such kind. */
export const LENGTH_UNKNOWN = 0;
/** The length has to be read from the event. */
export const LENGTH_VARIABLE = -1;
/** A received frame: variable too, and the scanner reports it apart. */
export const LENGTH_FRAME = -2;
/** The last event. */
export const LENGTH_END = -3;

/** A table for inner loops, by kind byte: the event's whole length, or one of `LENGTH_…`. */
export type RrLengths = Int32Array;

/** Flattens a table. */
export function lengthsOf(table: RrLogTable): RrLengths {
  if (table.kinds[KIND_INSTRUCTION]?.type !== "instruction") {
    throw new Error(`table ${table.qemu}: kind ${KIND_INSTRUCTION} must be INSTRUCTION`);
  }
  const lengths = new Int32Array(256).fill(LENGTH_UNKNOWN);
  table.kinds.forEach(({ type, body }, kind) => {
    lengths[kind] = type === "end"
      ? LENGTH_END
      : type === "frame"
      ? LENGTH_FRAME
      : body.layout === "fixed"
      ? 1 + body.bytes
      : LENGTH_VARIABLE;
  });
  return lengths;
}

/** A big-endian u32. */
export function readU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>>
    0;
}

/**
 * The length of the event that starts at `bytes[at]`, as far as the bytes before `end` tell: when
 * the result is more than `end - at`, at least so many bytes are needed to know more, otherwise
 * the event is whole and this is its length. At least one byte must be there.
 * @param offset of the event in the log, for errors
 * @throws {FormatError} unknown kind or tag, a length above its limit, an impossible run length
 */
export function measureEvent(
  bytes: Uint8Array,
  at: number,
  end: number,
  table: RrLogTable,
  name: string,
  offset: number,
): number {
  const kindByte = bytes[at]!;
  const kind = table.kinds[kindByte];
  if (kind === undefined) throw unknownKind(kindByte, table, name, offset);
  const body = kind.body;
  switch (body.layout) {
    case "fixed":
      if (kindByte === KIND_INSTRUCTION && end - at >= 5) {
        const count = readU32(bytes, at + 1);
        if (!isRunLength(count)) throw badRunLength(count, name, offset);
      }
      return 1 + body.bytes;
    case "array": {
      const header = 1 + body.before + 4;
      if (end - at < header) return header;
      const length = readU32(bytes, at + header - 4);
      if (length > body.limit) throw tooLong(kind.name, length, body.limit, name, offset);
      return header + length;
    }
    case "input":
      return measureInput(bytes, at, end, name, offset);
    case "samples": {
      const header = 1 + 8 + 8;
      if (end - at < header) return header;
      const length = (readU32(bytes, at + 1) * 2 ** 32 + readU32(bytes, at + 5)) * 16;
      if (length > body.limit) throw tooLong(kind.name, length, body.limit, name, offset);
      return header + length;
    }
  }
}

/** QEMU counts a run in a positive C `int` and writes no empty ones (`replay-internal.c`). */
export function isRunLength(count: number): boolean {
  return count > 0 && count < 2 ** 31;
}

/** The error for a run length that QEMU cannot have written. */
export function badRunLength(count: number, name: string, offset: number): FormatError {
  return new FormatError(
    name,
    offset,
    `an instruction run of ${count}; QEMU writes 1 to 2147483647. The log is damaged here`,
  );
}

/** The error for a kind byte that the table does not have. */
export function unknownKind(
  kind: number,
  table: RrLogTable,
  name: string,
  offset: number,
): FormatError {
  return new FormatError(
    name,
    offset,
    `event kind ${kind} does not exist in the log of QEMU ${table.qemu}. ` +
      `The log is damaged here, or another QEMU version wrote it`,
  );
}

function tooLong(
  event: string,
  length: number,
  limit: number,
  name: string,
  offset: number,
): FormatError {
  return new FormatError(
    name,
    offset,
    `${event} of ${length} bytes; at most ${limit} are accepted. The log is damaged here`,
  );
}
