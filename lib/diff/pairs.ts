/**
 * Pairs what two runs of a VM have in common but log at places of their own: sends, which are paired by
 * their number, and checks, which are paired by their instruction count.
 */
import { equalBytes } from "../bytes/equal_bytes.ts";
import { ramDiffers, sameAlgorithm } from "../recording/ram_digest.ts";
import type { Checked, Sent } from "./observation.ts";

export type SideName = "a" | "b";

/** A pair that is not equal, with what the caller wanted to remember of each. */
export interface Mismatch<T, M> {
  readonly a: T;
  readonly b: T;
  readonly markA: M;
  readonly markB: M;
}

/** Pairs sends. Of one side as many wait as it is ahead; the caller keeps both in lockstep. */
export class SendPairs<M> {
  /** Pairs that were equal. */
  equal = 0;
  mismatch: Mismatch<Sent, M> | undefined;
  readonly #waiting: Record<SideName, { sent: Sent; mark: M }[]> = { a: [], b: [] };

  /** Takes a side's next send; after a mismatch no more are looked at. */
  add(side: SideName, sent: Sent, mark: M): void {
    if (this.mismatch !== undefined) return;
    this.#waiting[side].push({ sent, mark });
    const a = this.#waiting.a[0];
    const b = this.#waiting.b[0];
    if (a === undefined || b === undefined) return;
    if (!sameSend(a.sent, b.sent)) {
      this.mismatch = { a: a.sent, b: b.sent, markA: a.mark, markB: b.mark };
      return;
    }
    this.equal++;
    this.#waiting.a.shift();
    this.#waiting.b.shift();
  }

  /** The first send of `side` that the other has not matched. */
  waiting(side: SideName): { sent: Sent; mark: M } | undefined {
    return this.#waiting[side][0];
  }
}

/** Length and hash decide; the head is part of what is hashed. */
export function sameSend(a: Sent, b: Sent): boolean {
  return a.length === b.length && equalBytes(a.hash, b.hash);
}

/** Checks that wait for the other side's: they are written up to seconds after their instruction. */
const WAITING_CHECKS_MAX = 1024;

/** Pairs checks. A check that only one side took is no difference. */
export class CheckPairs<M> {
  equal = 0;
  /** Pairs of which the RAM could not be compared. */
  ramsNotCompared = 0;
  /** The mismatch with the smallest instruction count so far. */
  mismatch: Mismatch<Checked, M> | undefined;
  readonly #waiting: Record<SideName, Map<number, { check: Checked; mark: M }>> = {
    a: new Map(),
    b: new Map(),
  };

  add(side: SideName, check: Checked, mark: M): void {
    const other = this.#waiting[side === "a" ? "b" : "a"];
    const paired = other.get(check.icount);
    if (paired === undefined) {
      const own = this.#waiting[side];
      own.set(check.icount, { check, mark });
      if (own.size > WAITING_CHECKS_MAX) own.delete(own.keys().next().value!);
      return;
    }
    other.delete(check.icount);
    if (!sameAlgorithm(check.ramDigest, paired.check.ramDigest)) this.ramsNotCompared++;
    if (sameCheck(check, paired.check)) {
      this.equal++;
      return;
    }
    if (this.mismatch !== undefined && this.mismatch.a.icount <= check.icount) return;
    this.mismatch = side === "a"
      ? { a: check, b: paired.check, markA: mark, markB: paired.mark }
      : { a: paired.check, b: check, markA: paired.mark, markB: mark };
  }
}

function sameCheck(a: Checked, b: Checked): boolean {
  return a.registersSha256 === b.registersSha256 && !ramDiffers(a.ramDigest, b.ramDigest);
}
