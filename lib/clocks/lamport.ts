/**
 * Lamport times and their epochs. A time is a 64-bit number: the epoch in the bits from 40 up, a counter below. The
 * recorder's eBPF programs stamp frames with them (`net/bpf/recorder.bpf.c`).
 *
 * Source: L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", CACM 21(7), 1978.
 */
import { type LamportTime, lamportTime } from "../units.ts";

/** The counter's bits in a Lamport time: 2^40 events an epoch. */
const EPOCH_SHIFT = 40n;
/** The last epoch: every time stays a positive signed number too. At 250 ms an epoch, 24 days. */
export const EPOCH_MAX = 2 ** 23 - 1;

/** The epoch that `time` lies in. */
export function epochOf(time: LamportTime): number {
  return Number(time >> EPOCH_SHIFT);
}

/** The first time of `epoch`: a tick raises every clock to at least this. */
export function epochStart(epoch: number): LamportTime {
  if (!Number.isInteger(epoch) || epoch < 0 || epoch > EPOCH_MAX) {
    throw new Error(`not an epoch from 0 to ${EPOCH_MAX}: ${epoch}`);
  }
  return lamportTime(BigInt(epoch) << EPOCH_SHIFT);
}
