/**
 * The hot path of a recording: QEMU's rr log comes in as chunks, spans of whole events and single
 * received frames go out, without an object an event and without copying ordinary events.
 *
 * ```
 *            event cut by the chunk's end             END
 *   ┌────────────────────────────┐         ┌──────────────────────┐
 *   ▼                            │         │                      ▼
 * carry ──event whole──▶ scan the chunk ───┘        4 bytes of version word, then nothing
 * ```
 *
 * The log is in its FIFO form (FORMAT.md): events, END, version word.
 */
import { FormatError } from "../../lib/errors.ts";
import {
  badRunLength,
  isRunLength,
  LENGTH_END,
  LENGTH_FRAME,
  LENGTH_UNKNOWN,
  lengthsOf,
  measureEvent,
  readU32,
  unknownKind,
} from "./measure.ts";
import { KIND_INSTRUCTION, type RrLogTable } from "./tables.ts";

/** Where a scanner's findings go. Byte arrays are valid only during the call. */
export interface RrLogSink {
  /** Whole events, none of them a received frame: `bytes[start,end)`. `icount` stands after them. */
  events(bytes: Uint8Array, start: number, end: number, icount: number): void;
  /**
   * A received frame that the guest gets at `icount`.
   * @param header kind byte, network number u8, flags u32, length u32: 10 bytes
   */
  frame(header: Uint8Array, payload: Uint8Array, icount: number): void;
}

/**
 * What a log has at an instruction count: nothing, for it lies `inside` a run of instructions; only
 * clocks and checkpoints (`quiet`); or events that change the machine while no instruction is
 * executed (`eventful`): an interrupt, input, a frame. Of an eventful count there are several states.
 */
export type LogPlace = "inside" | "quiet" | "eventful";

/** Kind byte, network number, flags, length. */
export const FRAME_HEADER_BYTES = 10;
const INSTRUCTION_BYTES = 5;
const VERSION_WORD_BYTES = 4;

/** Cuts the rr log of one VM into spans of events and frames. */
export class RrLogScanner {
  /**
   * Told what is logged at a watched instruction count, once the log has gone on beyond it. Called
   * while the log is scanned, before the span that holds the place goes to the sink.
   */
  onWatch: ((icount: number, place: LogPlace) => void) | undefined;

  readonly #table: RrLogTable;
  readonly #lengths: Int32Array;
  /** 1 for kinds that change the machine by themselves. */
  readonly #eventful: Uint8Array;
  readonly #sink: RrLogSink;
  readonly #name: string;
  /** The first bytes of an event that the last chunk cut off. */
  #carry = new Uint8Array(64);
  #carried = 0;
  /** Bytes of whole events so far. */
  #offset = 0;
  #events = 0;
  #frames = 0;
  #icount = 0;
  /** The instruction count before the last run; it ended at `#icount`. */
  #runStart = 0;
  /** The last instruction count with an event that changes the machine. */
  #eventfulAt = -1;
  /** Whether there was one at `#runStart`. */
  #runStartEventful = false;
  #ended = false;
  /** What came after END: the version word, and how much in all. */
  readonly #trailer = new Uint8Array(VERSION_WORD_BYTES);
  #trailerBytes = 0;
  readonly #watches: number[] = [];
  /** The first of `#watches`, `Infinity` when there is none: one comparison a run. */
  #watchAt = Infinity;

  /**
   * @param name of the log, for errors
   * @param firstIcount where the log starts: 0 at power-on; of a log that starts from a snapshot, what
   * QEMU had counted before. All counts that come out are QEMU's own (`query-replay`).
   */
  constructor(table: RrLogTable, sink: RrLogSink, name: string, firstIcount = 0) {
    this.#icount = firstIcount;
    this.#runStart = firstIcount;
    this.#table = table;
    this.#lengths = lengthsOf(table);
    this.#eventful = eventfulKinds(table);
    this.#sink = sink;
    this.#name = name;
  }

  /** Instructions executed up to the last whole event, those before the log's start among them. */
  get icount(): number {
    return this.#icount;
  }

  /** Bytes of whole events so far: the offset in the log of what comes next. */
  get offset(): number {
    return this.#offset;
  }

  /** Whole events so far, frames and END among them. */
  get events(): number {
    return this.#events;
  }

  /** Received frames so far. */
  get frames(): number {
    return this.#frames;
  }

  /** Whether END has come. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * Takes the next bytes of the log.
   * @throws {FormatError} with the offset of the damaged event; the scanner is of no use afterwards
   */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#ended) {
        this.#takeTrailer(chunk, at);
        return;
      }
      if (this.#carried > 0) at = this.#completeCarried(chunk, at);
      else {
        at = this.#scan(chunk, at, chunk.length);
        if (!this.#ended && at < chunk.length) {
          this.#carryOver(chunk, at, chunk.length);
          return;
        }
      }
    }
  }

  /**
   * No more bytes will come.
   * @returns true when the log is complete, false when it was cut off
   * @throws {FormatError} the trailing version word is another one, or bytes follow it
   */
  finish(): boolean {
    if (!this.#ended || this.#trailerBytes < VERSION_WORD_BYTES) return false;
    const word = readU32(this.#trailer, 0);
    if (word !== this.#table.version) {
      throw new FormatError(
        this.#name,
        this.#offset,
        `the log ends with version word 0x${word.toString(16)}, not ` +
          `0x${this.#table.version.toString(16)} of QEMU ${this.#table.qemu}. ` +
          `It is damaged, or another QEMU version wrote it`,
      );
    }
    if (this.#trailerBytes > VERSION_WORD_BYTES) {
      throw new FormatError(
        this.#name,
        this.#offset + VERSION_WORD_BYTES,
        `${this.#trailerBytes - VERSION_WORD_BYTES} bytes follow the log's end`,
      );
    }
    return true;
  }

  /**
   * Asks what is logged at `icount`; {@link onWatch} answers when the log has gone on, or at once if
   * it has already; never if the log ends there. Watches come in rising order. A count before the
   * last run is answered as eventful, because nothing is known of it any more.
   */
  watch(icount: number): void {
    if (icount < this.#icount) {
      this.onWatch?.(icount, this.#placeOf(icount));
      return;
    }
    const last = this.#watches.at(-1);
    if (last !== undefined && icount < last) {
      throw new Error(`watch ${icount} after ${last}: watches must rise`);
    }
    this.#watches.push(icount);
    this.#watchAt = this.#watches[0]!;
  }

  /** Of a count before the end of the last run. */
  #placeOf(icount: number): LogPlace {
    if (icount > this.#runStart) return "inside";
    return icount < this.#runStart || this.#runStartEventful ? "eventful" : "quiet";
  }

  /** Answers every watch that the run from `#runStart` to `#icount` decides. */
  #answerWatches(): void {
    while (this.#watchAt < this.#icount) {
      const icount = this.#watches.shift()!;
      this.#watchAt = this.#watches[0] ?? Infinity;
      this.onWatch?.(icount, this.#placeOf(icount));
    }
  }

  /**
   * Scans `bytes[at,end)` and hands over what is whole.
   * @returns where the first event begins that is not whole, or where END ended
   */
  #scan(bytes: Uint8Array, at: number, end: number): number {
    const lengths = this.#lengths;
    const eventful = this.#eventful;
    const base = this.#offset - at; // log offset of bytes[0]
    let spanStart = at;
    let icount = this.#icount;
    let runStart = this.#runStart;
    let events = this.#events;
    while (at < end) {
      const kind = bytes[at]!;
      if (kind === KIND_INSTRUCTION) {
        if (end - at < INSTRUCTION_BYTES) break;
        const count = readU32(bytes, at + 1);
        if (!isRunLength(count)) throw badRunLength(count, this.#name, base + at);
        runStart = icount;
        this.#runStartEventful = this.#eventfulAt === runStart;
        icount += count;
        at += INSTRUCTION_BYTES;
        events++;
        if (icount > this.#watchAt) {
          this.#icount = icount;
          this.#runStart = runStart;
          this.#answerWatches();
        }
        continue;
      }
      let length = lengths[kind]!;
      if (length <= 0) {
        if (length === LENGTH_UNKNOWN) {
          throw unknownKind(kind, this.#table, this.#name, base + at);
        }
        if (length === LENGTH_END) {
          at++;
          events++;
          this.#ended = true;
          break;
        }
        const isFrame = length === LENGTH_FRAME;
        length = measureEvent(bytes, at, end, this.#table, this.#name, base + at);
        if (isFrame && length <= end - at) {
          this.#advance(bytes, spanStart, at, base, icount, runStart, events);
          this.#takeFrame(bytes, at, length);
          at += length;
          spanStart = at;
          events = this.#events;
          continue;
        }
      }
      if (length > end - at) break;
      if (eventful[kind] === 1) this.#eventfulAt = icount;
      at += length;
      events++;
    }
    this.#advance(bytes, spanStart, at, base, icount, runStart, events);
    return at;
  }

  /** Writes the loop's counters back, then hands over a span of events, if there is one. */
  #advance(
    bytes: Uint8Array,
    start: number,
    end: number,
    base: number,
    icount: number,
    runStart: number,
    events: number,
  ): void {
    this.#icount = icount;
    this.#runStart = runStart;
    this.#events = events;
    this.#offset = base + end;
    if (end > start) this.#sink.events(bytes, start, end, icount);
  }

  #takeFrame(bytes: Uint8Array, at: number, length: number): void {
    this.#eventfulAt = this.#icount;
    this.#offset += length;
    this.#events++;
    this.#frames++;
    const payload = at + FRAME_HEADER_BYTES;
    this.#sink.frame(
      bytes.subarray(at, payload),
      bytes.subarray(payload, at + length),
      this.#icount,
    );
  }

  /** Keeps the event that begins at `chunk[at]` until the rest of it comes. */
  #carryOver(chunk: Uint8Array, at: number, end: number): void {
    const length = this.#carried + end - at;
    if (length > this.#carry.length) {
      const larger = new Uint8Array(Math.max(length, 2 * this.#carry.length));
      larger.set(this.#carry.subarray(0, this.#carried));
      this.#carry = larger;
    }
    this.#carry.set(chunk.subarray(at, end), this.#carried);
    this.#carried = length;
  }

  /**
   * Adds what the carried event still lacks, and hands it over once it is whole.
   * @returns where the chunk goes on
   */
  #completeCarried(chunk: Uint8Array, at: number): number {
    for (;;) {
      const carry = this.#carry;
      const length = measureEvent(
        carry,
        0,
        this.#carried,
        this.#table,
        this.#name,
        this.#offset,
      );
      if (length <= this.#carried) break;
      if (at === chunk.length) return at;
      const taken = Math.min(length - this.#carried, chunk.length - at);
      this.#carryOver(chunk, at, at + taken);
      at += taken;
    }
    const whole = this.#carried;
    this.#carried = 0;
    this.#scan(this.#carry, 0, whole);
    return at;
  }

  #takeTrailer(chunk: Uint8Array, at: number): void {
    const kept = Math.min(this.#trailerBytes, VERSION_WORD_BYTES);
    this.#trailer.set(chunk.subarray(at, at + VERSION_WORD_BYTES - kept), kept);
    this.#trailerBytes += chunk.length - at;
  }
}

function eventfulKinds(table: RrLogTable): Uint8Array {
  const kinds = new Uint8Array(256);
  table.kinds.forEach(({ name }, kind) => {
    kinds[kind] = /^(INSTRUCTION|CHECKPOINT_.*|CLOCK_.*|CHAR_WRITE)$/.test(name) ? 0 : 1;
  });
  return kinds;
}
