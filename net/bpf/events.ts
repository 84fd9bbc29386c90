/**
 * The recorder's events: 56 bytes from the ring come in, a call of the sink goes out. FORMAT.md
 * describes the layout, `struct event` in recorder.bpf.c is the writer.
 */
import type { RecorderSink } from "../../lib/roles/ports.ts";

/** Bytes of an event in the ring, without the ring's own 8-byte header. */
export const EVENT_BYTES = 56;
const SEND = 1;
const RECEIVE = 2;
const TWO_TO_32 = 2 ** 32;

/**
 * Decodes the event at `offset` and hands it to `sink`.
 * @throws {Error} where it is no event: the object and this file are of different builds
 */
export function dispatchEvent(
  data: DataView<ArrayBuffer>,
  offset: number,
  length: number,
  sink: RecorderSink,
): void {
  if (length !== EVENT_BYTES) throw new Error(`recorder event of ${length} bytes`);
  const type = data.getUint32(offset, true);
  const vm = data.getUint32(offset + 4, true);
  const source = data.getUint32(offset + 8, true);
  const frameBytes = data.getUint32(offset + 12, true);
  const number = readCount(data, offset + 16);
  const lamport = data.getBigUint64(offset + 40, true);
  if (type === SEND) {
    sink.sent(vm, number, frameBytes, lamport);
  } else if (type === RECEIVE) {
    const sendNumber = source === 0 ? -1 : readCount(data, offset + 24);
    // Mostly there is none: then no bigint is made.
    const hashed = (data.getUint32(offset + 48, true) | data.getUint32(offset + 52, true)) !== 0;
    const remoteHash = hashed ? data.getBigUint64(offset + 48, true) : undefined;
    sink.delivered(vm, number, source, sendNumber, frameBytes, lamport, remoteHash);
  } else {
    throw new Error(`recorder event of type ${type}`);
  }
}

/** A u64 that counts frames and so stays below 2^53; without a bigint, this runs once an event. */
function readCount(data: DataView<ArrayBuffer>, offset: number): number {
  return data.getUint32(offset, true) + TWO_TO_32 * data.getUint32(offset + 4, true);
}
