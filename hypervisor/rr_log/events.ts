/**
 * The decoded form of rr log events, for `dump` and for tests. The scanner does not use it.
 *
 * {@link decodeEvents} and {@link encodeEvent} are exact inverses; layouts as in FORMAT.md.
 */
import { FormatError } from "../../lib/errors.ts";
import { decodeInput, encodeInput, type RrInput } from "./input.ts";
import { measureEvent } from "./measure.ts";
import type { RrKind, RrLogTable } from "./tables.ts";

/** What an event says, by the type of its kind. */
export type RrEventBody =
  | { readonly type: "plain" | "end" }
  /** `count` instructions were executed. */
  | { readonly type: "instruction"; readonly count: number }
  /** A bottom half or a block request ran. */
  | { readonly type: "id"; readonly id: bigint }
  | { readonly type: "input"; readonly input: RrInput }
  /** Character device `id` received `bytes`. */
  | { readonly type: "charRead"; readonly id: number; readonly bytes: Uint8Array }
  /** Network filter `id` received a frame. */
  | {
    readonly type: "frame";
    readonly id: number;
    readonly flags: number;
    readonly payload: Uint8Array;
  }
  /** A character device's write returned `result` and reached `written`. */
  | { readonly type: "charWrite"; readonly result: number; readonly written: number }
  | { readonly type: "bytes"; readonly bytes: Uint8Array }
  | { readonly type: "result"; readonly result: number }
  | { readonly type: "audioOut"; readonly played: bigint }
  /** `samples`: left and right, u64 each. */
  | { readonly type: "audioIn"; readonly position: bigint; readonly samples: Uint8Array }
  /** The guest got `bytes` of randomness; `result` below 0 is a failure. */
  | { readonly type: "random"; readonly result: number; readonly bytes: Uint8Array }
  /** A host clock was read, in nanoseconds. */
  | { readonly type: "clock"; readonly value: bigint };

/** One event and where it stands. `icount` is the instruction count after it. */
export type RrEvent = RrEventBody & {
  readonly offset: number;
  readonly icount: number;
  readonly kind: number;
  readonly name: string;
};

const VERSION_WORD_BYTES = 4;

/**
 * Decodes whole events, in order, up to END or to the end of `bytes`. A log that was cut off between
 * two events ends without END; the FIFO form's version word behind END is accepted.
 * @param name of the log, for errors
 * @param startOffset of `bytes[0]` in the log: 12 in a file with a header
 * @throws {FormatError} with the offset: damage, an event cut off in the middle, bytes behind END
 */
export function* decodeEvents(
  bytes: Uint8Array,
  table: RrLogTable,
  name: string,
  startOffset = 0,
): Generator<RrEvent> {
  let icount = 0;
  let at = 0;
  while (at < bytes.length) {
    const offset = startOffset + at;
    const length = measureEvent(bytes, at, bytes.length, table, name, offset);
    const kind = bytes[at]!;
    const { name: event, type } = table.kinds[kind]!;
    if (length > bytes.length - at) {
      throw new FormatError(
        name,
        offset,
        `the log is cut off inside ${event}: ${bytes.length - at} of at least ${length} bytes`,
      );
    }
    const body = decodeBody(bytes.subarray(at, at + length), type);
    if (body.type === "instruction") icount += body.count;
    yield { offset, icount, kind, name: event, ...body };
    at += length;
    if (body.type === "end") {
      checkTrailer(bytes.subarray(at), table, name, startOffset + at);
      return;
    }
  }
}

function checkTrailer(
  trailer: Uint8Array,
  table: RrLogTable,
  name: string,
  offset: number,
): void {
  if (trailer.length === 0) return;
  const view = new DataView(trailer.buffer, trailer.byteOffset, trailer.length);
  if (trailer.length === VERSION_WORD_BYTES && view.getUint32(0) === table.version) return;
  throw new FormatError(
    name,
    offset,
    `${trailer.length} bytes follow END; the version word 0x${table.version.toString(16)} ` +
      `or nothing fits`,
  );
}

/** Decodes one whole event: kind byte and body. */
function decodeBody(event: Uint8Array, type: RrKind["type"]): RrEventBody {
  const view = new DataView(event.buffer, event.byteOffset, event.length);
  switch (type) {
    case "plain":
    case "end":
      return { type };
    case "instruction":
      return { type, count: view.getUint32(1) };
    case "id":
      return { type, id: view.getBigUint64(1) };
    case "input":
      return { type, input: decodeInput(event, 0) };
    case "charRead":
      return { type, id: view.getUint8(1), bytes: event.slice(6) };
    case "frame":
      return { type, id: view.getUint8(1), flags: view.getUint32(2), payload: event.slice(10) };
    case "charWrite":
      return { type, result: view.getInt32(1), written: view.getInt32(5) };
    case "bytes":
      return { type, bytes: event.slice(5) };
    case "result":
      return { type, result: view.getInt32(1) };
    case "audioOut":
      return { type, played: view.getBigUint64(1) };
    case "audioIn":
      return { type, position: view.getBigUint64(9), samples: event.slice(17) };
    case "random":
      return { type, result: view.getInt32(1), bytes: event.slice(9) };
    case "clock":
      return { type, value: view.getBigInt64(1) };
  }
}

/** The bytes of an event: the inverse of {@link decodeEvents} for one event. */
export function encodeEvent(
  event: RrEventBody & { readonly kind: number },
  table: RrLogTable,
): Uint8Array<ArrayBuffer> {
  const kind = table.kinds[event.kind];
  if (kind?.type !== event.type) {
    throw new Error(
      `kind ${event.kind} of QEMU ${table.qemu} does not have the type ${event.type}`,
    );
  }
  switch (event.type) {
    case "plain":
    case "end":
      return join(event.kind, 0, () => {});
    case "instruction":
      return join(event.kind, 4, (view) => view.setUint32(1, event.count));
    case "id":
      return join(event.kind, 8, (view) => view.setBigUint64(1, event.id));
    case "input":
      return join(event.kind, 0, () => {}, encodeInput(event.input));
    case "charRead":
      return join(event.kind, 5, (view) => {
        view.setUint8(1, event.id);
        view.setUint32(2, event.bytes.length);
      }, event.bytes);
    case "frame":
      return join(event.kind, 9, (view) => {
        view.setUint8(1, event.id);
        view.setUint32(2, event.flags);
        view.setUint32(6, event.payload.length);
      }, event.payload);
    case "charWrite":
      return join(event.kind, 8, (view) => {
        view.setInt32(1, event.result);
        view.setInt32(5, event.written);
      });
    case "bytes":
      return join(event.kind, 4, (view) => view.setUint32(1, event.bytes.length), event.bytes);
    case "result":
      return join(event.kind, 4, (view) => view.setInt32(1, event.result));
    case "audioOut":
      return join(event.kind, 8, (view) => view.setBigUint64(1, event.played));
    case "audioIn":
      return join(event.kind, 16, (view) => {
        view.setBigUint64(1, BigInt(event.samples.length / 16));
        view.setBigUint64(9, event.position);
      }, event.samples);
    case "random":
      return join(event.kind, 8, (view) => {
        view.setInt32(1, event.result);
        view.setUint32(5, event.bytes.length);
      }, event.bytes);
    case "clock":
      return join(event.kind, 8, (view) => view.setBigInt64(1, event.value));
  }
}

/** Kind byte, `headBytes` bytes that `fill` writes from offset 1, `tail`. */
function join(
  kind: number,
  headBytes: number,
  fill: (view: DataView) => void,
  tail: Uint8Array = new Uint8Array(0),
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(1 + headBytes + tail.length);
  bytes[0] = kind;
  fill(new DataView(bytes.buffer));
  bytes.set(tail, 1 + headBytes);
  return bytes;
}

/** One line for `dump`: offset, instruction count, name, fields. */
export function formatEvent(event: RrEvent): string {
  const offset = event.offset.toString(16).padStart(8, "0");
  const fields = formatFields(event);
  return `${offset} ${String(event.icount).padStart(12)} ${event.name}${fields && " " + fields}`;
}

/** The fields of an event in one line, without its place. */
export function formatFields(event: RrEventBody): string {
  switch (event.type) {
    case "plain":
    case "end":
      return "";
    case "instruction":
      return `+${event.count}`;
    case "id":
      return `id=${event.id}`;
    case "input":
      return Object.entries(event.input).map(([key, value]) => `${key}=${value}`).join(" ");
    case "charRead":
      return `id=${event.id} ${formatBytes(event.bytes)}`;
    case "frame":
      return `id=${event.id} flags=${event.flags} ${formatBytes(event.payload)}`;
    case "charWrite":
      return `result=${event.result} written=${event.written}`;
    case "bytes":
      return formatBytes(event.bytes);
    case "result":
      return `result=${event.result}`;
    case "audioOut":
      return `played=${event.played}`;
    case "audioIn":
      return `position=${event.position} ${formatBytes(event.samples)}`;
    case "random":
      return `result=${event.result} ${formatBytes(event.bytes)}`;
    case "clock":
      return `ns=${event.value}`;
  }
}

/** Enough to recognise an Ethernet, IPv4 and TCP header by. */
const SHOWN_BYTES_MAX = 54;

function formatBytes(bytes: Uint8Array): string {
  const shown = bytes.subarray(0, SHOWN_BYTES_MAX);
  return `bytes=${bytes.length} ${shown.toHex()}${shown.length < bytes.length ? "…" : ""}`
    .trimEnd();
}
