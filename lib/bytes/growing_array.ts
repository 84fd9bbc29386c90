/** Typed arrays that grow: millions of numbers at 8 bytes each, where plain arrays take several times that. */

/** Appends to a typed array, doubling it when it is full. */
export class GrowingArray<A extends Float64Array | BigUint64Array> {
  #array: A;
  #length = 0;

  private constructor(private readonly make: (length: number) => A) {
    this.#array = make(64);
  }

  static numbers(): GrowingArray<Float64Array> {
    return new GrowingArray<Float64Array>((length) => new Float64Array(length));
  }

  static bigints(): GrowingArray<BigUint64Array> {
    return new GrowingArray<BigUint64Array>((length) => new BigUint64Array(length));
  }

  push(value: A[number]): void {
    if (this.#length === this.#array.length) {
      const larger = this.make(2 * this.#length);
      (larger as Float64Array).set(this.#array as Float64Array);
      this.#array = larger;
    }
    this.#array[this.#length++] = value;
  }

  /** What has been appended; valid until the next `push`. */
  view(): A {
    return this.#array.subarray(0, this.#length) as A;
  }
}

/** How many elements at the start of the ascending `array` are less than `value`. */
export function countBelow<T extends number | bigint>(
  array: { readonly length: number; readonly [index: number]: T },
  value: T,
): number {
  let from = 0;
  let to = array.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (array[middle]! < value) from = middle + 1;
    else to = middle;
  }
  return from;
}
