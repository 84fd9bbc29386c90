/**
 * Lamport clocks and their epochs, as pure functions.
 *
 * A time is a 64-bit number: the epoch in the bits from 40 up, a counter below. The recorder's eBPF
 * programs stamp frames by the same rules (`net/bpf/recorder.bpf.c`).
 *
 * Source: L. Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System", CACM 21(7),
 * 1978, rules IR1 and IR2.
 */
import { type LamportTime, lamportTime } from "../units.ts";

/** The counter's bits in a Lamport time: 2^40 events an epoch. */
export const EPOCH_SHIFT = 40n;
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

/** The clock after a send, and the stamp of the frame. */
export function afterSend(clock: LamportTime): LamportTime {
  return lamportTime(clock + 1n);
}

/** The clock after a receive of a frame stamped `stamp`. */
export function afterReceive(clock: LamportTime, stamp: LamportTime): LamportTime {
  return lamportTime((clock > stamp ? clock : stamp) + 1n);
}
