/**
 * The Lamport times around a place of one side's log: which was the last stamp at or before it?
 *
 * Checks are logged up to seconds after their instruction, so some stamps of the past are kept.
 */
import { epochOf } from "../clocks/lamport.ts";
import { lamportTime } from "../units.ts";
import type { Difference } from "./observation.ts";

const STAMPS_MAX = 1 << 15;

/** Where a difference lies, from the last stamps of both sides at or before it. */
export function placeOf(
  lamport: Difference["lamport"],
): Pick<Difference, "epoch" | "lamport"> {
  return { epoch: epochOf(lamportTime(later(lamport.a, lamport.b) ?? 0n)), lamport };
}

/** Lamport times by instruction count. A time never falls: the recorder's clock does not either. */
export class Stamps {
  readonly #icounts: number[] = [];
  readonly #times: bigint[] = [];

  add(icount: number, lamport: bigint): void {
    const last = this.#times.at(-1);
    if (last !== undefined && lamport <= last) return;
    this.#icounts.push(icount);
    this.#times.push(lamport);
    if (this.#times.length < STAMPS_MAX) return;
    this.#icounts.splice(0, STAMPS_MAX / 2);
    this.#times.splice(0, STAMPS_MAX / 2);
  }

  /** The last time of all; `null` where there is none. */
  get last(): bigint | null {
    return this.#times.at(-1) ?? null;
  }

  /** The last time at or before `icount`. */
  before(icount: number): bigint | null {
    const index = this.#icounts.findLastIndex((at) => at <= icount);
    return index < 0 ? null : this.#times[index]!;
  }
}

/** The later of two times; `null` is before all. */
export function later(a: bigint | null, b: bigint | null): bigint | null {
  if (a === null) return b;
  return b === null || a > b ? a : b;
}
