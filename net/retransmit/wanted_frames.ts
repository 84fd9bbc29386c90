/**
 * Which frames of one VM a host needs, as runs of consecutive send numbers. Their *sequence* on the
 * link counts them from 0: the n-th wanted frame has sequence n - 1.
 */
import { countBelow, GrowingArray } from "../../lib/bytes/growing_array.ts";
import { ProtocolError } from "../../lib/errors.ts";
import { LIST_ENTRIES_MAX, type SendRun } from "../../lib/protocol/link_messages.ts";

/** More runs than this are refused, and not asked for: 96 MiB of them. */
const RUNS_MAX = 1 << 22;

/** An ascending set of send numbers. */
export class WantedFrames {
  readonly #firsts = GrowingArray.numbers();
  readonly #ends = GrowingArray.numbers();
  /** Wanted frames before each run. */
  readonly #before = GrowingArray.numbers();
  #count = 0;
  #end = 0;
  #runs = 0;

  /**
   * Those that are used, from `from` on; where that makes too many runs, also the frames between runs that
   * lie close together.
   */
  static ofUses(uses: ArrayLike<number>, from = 0, runsMax = RUNS_MAX): WantedFrames {
    for (let gap = 0;; gap = 2 * gap + 1) {
      const wanted = WantedFrames.#ofRuns(runsOfUses(uses, from, gap), runsMax);
      if (wanted !== undefined) return wanted;
    }
  }

  /** @returns undefined where there are more than `runsMax` */
  static #ofRuns(runs: Iterable<SendRun>, runsMax: number): WantedFrames | undefined {
    const wanted = new WantedFrames();
    for (const run of runs) {
      if (wanted.#runs === runsMax) return undefined;
      wanted.append(run);
    }
    return wanted;
  }

  /** How many frames. */
  get count(): number {
    return this.#count;
  }

  /** The number behind the last one. */
  get end(): number {
    return this.#end;
  }

  /** @throws {ProtocolError} if it does not come behind all others */
  append({ first, count }: SendRun): void {
    if (this.#runs > 0 && first < this.#end) {
      throw new ProtocolError(`frame ${first} is wanted behind frame ${this.#end - 1}`);
    }
    if (++this.#runs > RUNS_MAX) throw new ProtocolError(`more than ${RUNS_MAX} runs of frames`);
    this.#firsts.push(first);
    this.#before.push(this.#count);
    this.#ends.push(this.#end = first + count);
    this.#count += count;
  }

  /** The sequence of a frame; `undefined` where it is not wanted. */
  sequenceOf(sendNumber: number): number | undefined {
    const ends = this.#ends.view();
    const run = countBelow(ends, sendNumber + 1);
    const first = this.#firsts.view()[run];
    if (first === undefined || first > sendNumber) return undefined;
    return this.#before.view()[run]! + sendNumber - first;
  }

  /** The send number of the frame `sequence`, below {@link count}. */
  numberOf(sequence: number): number {
    const run = countBelow(this.#before.view(), sequence + 1) - 1;
    return this.#firsts.view()[run]! + sequence - this.#before.view()[run]!;
  }

  equals(other: WantedFrames): boolean {
    const same = (a: Float64Array, b: Float64Array) =>
      a.length === b.length && a.every((value, i) => value === b[i]);
    return same(this.#firsts.view(), other.#firsts.view()) &&
      same(this.#ends.view(), other.#ends.view());
  }

  /** The runs, in parts that fit into a message; at least one part. */
  *parts(): Generator<{ runs: SendRun[]; last: boolean }> {
    const [firsts, ends] = [this.#firsts.view(), this.#ends.view()];
    for (let from = 0;; from += LIST_ENTRIES_MAX) {
      const part = [...firsts.subarray(from, from + LIST_ENTRIES_MAX)];
      const runs = part.map((first, i) => ({ first, count: ends[from + i]! - first }));
      const last = from + LIST_ENTRIES_MAX >= firsts.length;
      yield { runs, last };
      if (last) return;
    }
  }
}

/** The runs of used frames, joined where at most `gap` frames that are not used lie between them. */
function* runsOfUses(uses: ArrayLike<number>, from: number, gap: number): Generator<SendRun> {
  let first = -1;
  let end = 0;
  for (let number = from; number < uses.length; number++) {
    if (uses[number]! === 0) continue;
    if (first >= 0 && number - end > gap) {
      yield { first, count: end - first };
      first = -1;
    }
    if (first < 0) first = number;
    end = number + 1;
  }
  if (first >= 0) yield { first, count: end - first };
}
