/**
 * What is expected of rr events: codes the symbols of a block as decisions, by what came before.
 *
 * ```
 * symbols      the one that last followed the same history, else that of a shorter one, else any
 * u32 values   (run lengths) the value that last stood in the same place, or where a timer would end
 *              the run, or a number
 * u64 values   (clocks, ids) the difference from the last one of its kind, as a number
 * ```
 * All symbols come first: so a value is seen between what stands before *and* behind it. Encoder and
 * decoder run the same code (`BitCoder`), so they cannot disagree. `FORMAT.md` has every rule.
 */
import { EventSymbols, LITERAL, Shape, SHAPES, SYMBOL_BITS } from "./event_symbols.ts";
import { ByteModel } from "./byte_model.ts";
import { codeTree, NumberModel } from "./number_model.ts";
import { type BitCoder, newProbabilities, resetProbabilities } from "./range_coder.ts";
import { hash, hash32 } from "./context_hash.ts";

const TABLE_BITS = 14;
const TABLE_SIZE = 1 << TABLE_BITS;
const TIMER_BITS = 12;
/** How far from where a timer is expected a run may end, in zigzag. */
const NEAR_BITS = 12;
const CLASS_CONTEXT_BITS = 10;
const DETAIL_CONTEXT_BITS = 6;
const HISTORY_SHIFT = 3;
const SHORT_HISTORY = 0x3ffff; // three symbols
const CHECKPOINT_WARP_ACCOUNT = 31;
const CHECKPOINT_CLOCK_VIRTUAL = 34;

export class EventModel {
  // Symbols: the candidate of each history, and whether it is right.
  readonly #long = new Uint8Array(TABLE_SIZE);
  readonly #longHit = newProbabilities(TABLE_SIZE);
  readonly #short = new Uint8Array(TABLE_SIZE);
  readonly #shortHit = newProbabilities(TABLE_SIZE);
  readonly #symbol = newProbabilities(64 << SYMBOL_BITS);
  #longHistory = 0;
  #shortHistory = 0;

  // u32 values: the candidates after two values and after one.
  readonly #second = new Int32Array(TABLE_SIZE);
  readonly #secondHit = newProbabilities(TABLE_SIZE);
  readonly #first = new Int32Array(TABLE_SIZE);
  readonly #firstHit = newProbabilities(TABLE_SIZE);
  #value1 = 0;
  #value2 = 0;
  // Runs that end with a timer: the sum of all runs where the last two did, and what is expected.
  readonly #interval = new Float64Array(1 << TIMER_BITS);
  readonly #near = newProbabilities(1 << TIMER_BITS);
  #sum = 0;
  #timer1 = 0;
  #timer2 = 0;

  // u64 values: the last of each kind.
  readonly #lastLow = new Int32Array(64);
  readonly #lastHigh = new Int32Array(64);
  #lastClass = 0;

  readonly #numbers = new NumberModel();

  /** @param literals shared with the other columns */
  constructor(private readonly literals: ByteModel) {}

  reset(): void {
    for (const table of [this.#longHit, this.#shortHit, this.#symbol]) resetProbabilities(table);
    for (const table of [this.#secondHit, this.#firstHit, this.#near]) resetProbabilities(table);
    for (const table of [this.#long, this.#short, this.#second, this.#first]) table.fill(0);
    for (const table of [this.#interval, this.#lastLow, this.#lastHigh]) table.fill(0);
    this.#longHistory = this.#shortHistory = 0;
    this.#value1 =
      this.#value2 =
      this.#sum =
      this.#timer1 =
      this.#timer2 =
      this.#lastClass =
        0;
    this.#numbers.reset();
  }

  /** Codes `events`; of a decoder, `events.count` says how many there are, with room for them. */
  code(coder: BitCoder, events: EventSymbols): void {
    this.#codeSymbols(coder, events);
    this.#codeU32s(coder, events);
    this.#codeU64s(coder, events);
    this.#codeLiterals(coder, events);
  }

  #codeSymbols(coder: BitCoder, { symbols, count }: EventSymbols): void {
    let long = this.#longHistory;
    let short = this.#shortHistory;
    for (let i = 0; i < count; i++) {
      const symbol = this.#codeSymbol(coder, long, short, symbols[i]!);
      symbols[i] = symbol;
      long = (long << HISTORY_SHIFT) + symbol + 1 | 0;
      short = (short << SYMBOL_BITS | symbol) & SHORT_HISTORY;
    }
    this.#longHistory = long;
    this.#shortHistory = short;
  }

  #codeSymbol(coder: BitCoder, long: number, short: number, symbol: number): number {
    const longSlot = hash(long, TABLE_BITS);
    const candidate = this.#long[longSlot]!;
    if (coder.bit(this.#longHit, longSlot, candidate === symbol ? 0 : 1) === 0) return candidate;
    const shortSlot = hash(short, TABLE_BITS);
    const other = this.#short[shortSlot]!;
    let found = other;
    if (
      other === candidate ||
      coder.bit(this.#shortHit, shortSlot, other === symbol ? 0 : 1) === 1
    ) {
      const base = (short & 63) << SYMBOL_BITS;
      found = codeTree(coder, this.#symbol, base, symbol, SYMBOL_BITS);
      this.#short[shortSlot] = found;
    }
    return this.#long[longSlot] = found;
  }

  #codeU32s(coder: BitCoder, { symbols, low, count }: EventSymbols): void {
    for (let i = 0; i < count; i++) {
      if (SHAPES[symbols[i]!]! !== Shape.u32) continue;
      const next = i + 1 < count ? symbols[i + 1]! : LITERAL;
      const afterNext = i + 2 < count ? symbols[i + 2]! : LITERAL;
      const place = (i > 0 ? symbols[i - 1]! : LITERAL) << 12 | next << 6 | afterNext;
      const before = place << 6 | (i > 1 ? symbols[i - 2]! : LITERAL);
      const isTimer = next === CHECKPOINT_WARP_ACCOUNT && afterNext === CHECKPOINT_CLOCK_VIRTUAL;
      const value = this.#codeU32(coder, place, before, isTimer, low[i]!);
      low[i] = value;
      this.#sum += value >>> 0;
      if (isTimer) this.#noteTimer(hash(place, TIMER_BITS));
      this.#value2 = this.#value1;
      this.#value1 = value;
    }
  }

  #codeU32(
    coder: BitCoder,
    place: number,
    before: number,
    isTimer: boolean,
    value: number,
  ): number {
    const mixed = hash32(before) + this.#value1 | 0;
    const firstSlot = hash(mixed, TABLE_BITS);
    const secondSlot = hash(hash32(mixed) + this.#value2 | 0, TABLE_BITS);
    const second = this.#second[secondSlot]!;
    const first = this.#first[firstSlot]!;
    let found: number;
    if (coder.bit(this.#secondHit, secondSlot, second === value ? 0 : 1) === 0) found = second;
    else if (
      first !== second && coder.bit(this.#firstHit, firstSlot, first === value ? 0 : 1) === 0
    ) found = first;
    else found = this.#codeNewU32(coder, place, isTimer, value);
    this.#second[secondSlot] = found;
    this.#first[firstSlot] = found;
    return found;
  }

  #codeNewU32(coder: BitCoder, place: number, isTimer: boolean, value: number): number {
    if (isTimer) {
      const slot = hash(place, TIMER_BITS);
      const expected = this.#interval[slot]! + this.#timer2 - this.#sum;
      if (expected > 0 && expected <= 0xffff_ffff) {
        const distance = (value >>> 0) - expected;
        const zigzag = distance >= 0 ? 2 * distance : -2 * distance - 1;
        const far = zigzag < 1 << NEAR_BITS ? 0 : 1;
        if (coder.bit(this.#near, slot, far) === 0) {
          const coded = this.#numbers.codeDistance(coder, zigzag);
          return expected + (coded % 2 === 0 ? coded / 2 : -(coded + 1) / 2) | 0;
        }
      }
    }
    const classContext = hash(place, CLASS_CONTEXT_BITS);
    return this.#numbers.code(coder, classContext, hash(place >> 6, DETAIL_CONTEXT_BITS), value);
  }

  #noteTimer(slot: number): void {
    this.#interval[slot] = this.#sum - this.#timer2;
    this.#timer2 = this.#timer1;
    this.#timer1 = this.#sum;
  }

  #codeU64s(coder: BitCoder, { symbols, low, high, count }: EventSymbols): void {
    for (let i = 0; i < count; i++) {
      const symbol = symbols[i]!;
      if (SHAPES[symbol]! !== Shape.u64) continue;
      const before = (i > 0 ? symbols[i - 1]! : LITERAL) << 6 |
        (i > 1 ? symbols[i - 2]! : LITERAL);
      const behind = (i + 1 < count ? symbols[i + 1]! : LITERAL) << 6 |
        (i + 2 < count ? symbols[i + 2]! : LITERAL);
      const place = before << 12 | behind;
      const beforeThat = (i > 2 ? symbols[i - 3]! : LITERAL) << 6 | this.#lastClass;
      const context = hash(hash32(place) + (beforeThat << 6 | symbol) | 0, CLASS_CONTEXT_BITS);
      const detail = hash(place, DETAIL_CONTEXT_BITS);
      const lastLow = this.#lastLow[symbol]!;
      const lastHigh = this.#lastHigh[symbol]!;
      const borrow = low[i]! >>> 0 < lastLow >>> 0 ? 1 : 0;
      const wide = (high[i]! - lastHigh - borrow | 0) !== 0;
      this.#lastClass = this.#numbers.codeClass(coder, context, low[i]! - lastLow | 0, wide);
      if (this.#lastClass === NumberModel.WIDE) {
        high[i] = coder.direct(high[i]! >>> 0, 32);
        low[i] = coder.direct(low[i]! >>> 0, 32);
      } else {
        const step = this.#numbers.codeRest(coder, detail, this.#lastClass, low[i]! - lastLow | 0);
        const sum = (lastLow >>> 0) + (step >>> 0);
        low[i] = sum;
        high[i] = lastHigh + (sum > 0xffff_ffff ? 1 : 0);
      }
      this.#lastLow[symbol] = low[i]!;
      this.#lastHigh[symbol] = high[i]!;
    }
  }

  #codeLiterals(coder: BitCoder, { symbols, low, count }: EventSymbols): void {
    let last = 0;
    for (let i = 0; i < count; i++) {
      if (SHAPES[symbols[i]!]! !== Shape.literal) continue;
      low[i] = last = this.literals.codeByte(coder, last, low[i]!);
    }
  }
}
