/** The little statistics that a benchmark of a few interleaved rounds needs. */

/** The middle of `values`, or the mean of the two middle ones. Throws plain `Error` on none. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error("no values");
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Values of several rounds: their middle, and how far they lie apart. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

/** Two things measured in the same rounds. */
export interface Comparison {
  readonly ours: Spread;
  readonly other: Spread;
  /** Of the medians. */
  readonly ratio: number;
  /** Of each round's own ratio: what a single round could have said. */
  readonly rounds: Spread;
}

/** Compares round by round; both must have a value for every round. */
export function compare(ours: readonly number[], other: readonly number[]): Comparison {
  if (ours.length !== other.length) {
    throw new Error(`${ours.length} rounds against ${other.length}`);
  }
  const sides = { ours: spreadOf(ours), other: spreadOf(other) };
  return {
    ...sides,
    ratio: sides.ours.median / sides.other.median,
    rounds: spreadOf(ours.map((value, i) => value / other[i]!)),
  };
}

/**
 * The value that the given share of `values` does not exceed (nearest rank). Throws plain `Error` on none.
 * @param share above 0, at most 1
 */
export function percentile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new Error("no values");
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.ceil(share * sorted.length) - 1]!;
}
