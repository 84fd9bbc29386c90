/**
 * The recorder's events: 56 bytes from the ring come in, a call of the sink goes out. FORMAT.md
 * describes the layout, `struct event` in recorder.bpf.c is the writer.
 */
import type { VmNumber } from "../../lib/units.ts";

/** Bytes of an event in the ring, without the ring's own 8-byte header. */
export const EVENT_BYTES = 56;
const SEND = 1;
const RECEIVE = 2;
const TWO_TO_32 = 2 ** 32;

/** What takes the events, in the order of the ring: a frame's send comes before its deliveries. */
export interface RecorderSink {
  /** Frame `sendNumber` (0-based) left VM `vm`. `length` counts bytes on the wire, VLAN tag included. */
  sent(
    vm: VmNumber,
    sendNumber: number,
    length: number,
    lamport: bigint,
    ktimeNs: bigint,
  ): void;
  /**
   * A frame entered VM `vm`'s queue: delivery number (0-based), where it came from (source 0:
   * external; then `sendNumber` is -1). `lamport` is the receiver's clock after it.
   */
  delivered(
    vm: VmNumber,
    delivery: number,
    source: VmNumber,
    sendNumber: number,
    length: number,
    lamport: bigint,
    ktimeNs: bigint,
  ): void;
}

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
  const ktimeNs = data.getBigUint64(offset + 48, true);
  if (type === SEND) {
    sink.sent(vm, number, frameBytes, lamport, ktimeNs);
  } else if (type === RECEIVE) {
    const sendNumber = source === 0 ? -1 : readCount(data, offset + 24);
    sink.delivered(vm, number, source, sendNumber, frameBytes, lamport, ktimeNs);
  } else {
    throw new Error(`recorder event of type ${type}`);
  }
}

/** A u64 that counts frames and so stays below 2^53; without a bigint, this runs once an event. */
function readCount(data: DataView<ArrayBuffer>, offset: number): number {
  return data.getUint32(offset, true) + TWO_TO_32 * data.getUint32(offset + 4, true);
}
