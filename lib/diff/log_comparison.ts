/**
 * Compares what two recordings have of one VM: two hybrid logs in lockstep, up to the first difference.
 *
 * ```
 *              equal                                  both decoded: same event at the same instruction
 *   ┌────────────────────┐                         ┌─────────────────────────────────────┐
 *   ▼                    │    not equal, or one    ▼                                     │
 * compare runs as bytes ─┘    has no run here ──▶ skip runs of instructions, take the ───┘
 *                                                 next thing of each ──▶ the first difference
 * ```
 * Between two steps both cursors stand at the same place of the rr log, although blocks, runs of events
 * and runs of instructions may be cut differently. Sends and checks are paired on the way (`pairs.ts`).
 *
 * A send stands before the events during which it happened, by as much as was read and buffered at
 * once. A send that differs is therefore the first difference only if the logs stay equal for longer
 * than that: guests are deterministic, so it follows from any difference in the log before it.
 *
 * Memory: a block and its copy of each side (some MiB), the last 64 KiB of events, 32,768 stamps and
 * 1,024 checks of each side, and a window of 16,384 sends of each VM whose frames have to be looked up.
 */
import { Buffer } from "node:buffer";
import { describeCheck, describeReceived, describeSent } from "./describe.ts";
import { epochStart } from "../clocks/lamport.ts";
import { History } from "./history.ts";
import { LogSide, type OpenLog } from "./log_side.ts";
import type {
  Difference,
  Ended,
  Equal,
  EventCodec,
  EventCounter,
  Observed,
  Received,
} from "./observation.ts";
import { CheckPairs, SendPairs, type SideName } from "./pairs.ts";
import { ReceivedFrames, receivedLength, type ReferencedFrames } from "./received_frames.ts";
import { later, placeOf, Stamps } from "./stamps.ts";
import { describeTaken, differenceOf, type Taken } from "./taken.ts";

/** One side's log of the VM. */
export interface LogInput {
  readonly open: OpenLog;
  readonly frames: ReferencedFrames;
}

export interface LogComparisonOptions {
  readonly vm: string;
  readonly codec: EventCodec;
  /** The instruction count at which the log of A begins: not 0 where it starts from a snapshot. */
  readonly firstIcount: number;
  /** Leave out what only QEMU's main loop notices. */
  readonly guestOnly: boolean;
  /** How many things before the difference to show. */
  readonly context: number;
  /** For each VM how many of its sends are equal; see {@link ReceivedFrames}. */
  readonly proven?: ReadonlyMap<string, number>;
}

/** What the comparison of two logs came to. */
export interface LogDiff {
  readonly equal: Equal;
  readonly difference?: Difference;
  /** The last Lamport times that were read. */
  readonly lamport: Difference["lamport"];
  /** How each side ends, where its end was reached. */
  readonly ends: { readonly a?: Ended; readonly b?: Ended };
  /** For each VM the highest number of its frames that was taken as equal by its name. */
  readonly trusted: ReadonlyMap<string, number>;
  /** Checks of which only the registers could be compared. */
  readonly ramsNotCompared: number;
}

/** A read of the rr log and a FIFO's contents: so much earlier than it happened may a send stand. */
const SEND_LEAD_BYTES = (2 << 20) + (64 << 10);
/** After the difference, checks of instructions before it are looked for in so many blocks. */
const CHECK_LAG_BLOCKS = 16;

/** Where a send stands. */
interface Mark {
  readonly icount: number;
  /** Bytes of the rr log before it. */
  readonly logBytes: number;
}

/** A difference before its place among the stamps is known. */
type Found = Pick<Difference, "kind" | "what" | "a" | "b"> & {
  readonly lamport: Difference["lamport"];
};

export class LogComparison {
  readonly #sides: Record<SideName, LogSide>;
  readonly #counter: EventCounter;
  readonly #history: History;
  readonly #received: ReceivedFrames;
  readonly #sends = new SendPairs<Mark>();
  readonly #checks = new CheckPairs<null>();
  readonly #stamps: Record<SideName, Stamps> = { a: new Stamps(), b: new Stamps() };
  readonly #log: string;
  #receives = 0;
  #receivedBytes = 0;
  #found: Found | undefined;

  constructor(
    private readonly a: LogInput,
    private readonly b: LogInput,
    private readonly options: LogComparisonOptions,
  ) {
    this.#log = `the rr log of VM ${options.vm}`;
    this.#sides = { a: new LogSide(a.open), b: new LogSide(b.open) };
    this.#counter = options.codec.counter(this.#log, options.firstIcount);
    this.#history = new History(options.codec, this.#log, options.guestOnly);
    this.#received = new ReceivedFrames(a.frames, b.frames, options.proven);
  }

  /** Bytes of the rr log compared so far. */
  get logBytes(): number {
    return this.#counter.offset + this.#receivedBytes;
  }

  /** Yields after each block, so that the caller can let others have their turn. */
  *run(): Generator<void, LogDiff> {
    try {
      while (this.#found === undefined) {
        if (!this.#quickStep() && !(yield* this.#step())) break;
      }
      // A log that goes on to its end equal has had room for every send.
      if (this.#found === undefined) this.#compareLastSends();
      yield* this.#readLateChecks();
      this.#preferCheck();
      return this.#conclude();
    } finally {
      this.#sides.a.close();
      this.#sides.b.close();
    }
  }

  /** One step where both sides have the same at hand; false: nothing was done. */
  #quickStep(): boolean {
    const { icount } = this.#counter;
    if (!this.#settleLoaded("a", icount) || !this.#settleLoaded("b", icount)) return false;
    if (this.#checks.mismatch !== undefined || this.#sends.mismatch !== undefined) return false;
    const a = this.#sides.a.current;
    const b = this.#sides.b.current;
    if (a.item === "events" && b.item === "events") return this.#compareRuns();
    if (a.item !== "receive" || b.item !== "receive") return false;
    if (this.#received.difference(a, b) !== undefined) return false;
    this.#sides.a.pass();
    this.#sides.b.pass();
    this.#countReceived(a, b, icount);
    return true;
  }

  /** One step of the lockstep; false where the logs have ended or a pair differs. */
  *#step(): Generator<void, boolean> {
    yield* this.#settle("a", this.#counter.icount);
    yield* this.#settle("b", this.#counter.icount);
    if (this.#checks.mismatch !== undefined) return false;
    if (this.#sendDiffersFirst()) {
      this.#findSend();
      return false;
    }
    const a = this.#sides.a.current;
    const b = this.#sides.b.current;
    if (a.item === "events" && b.item === "events") {
      if (this.#compareRuns()) return true;
    } else if (a.item === "end" && b.item === "end" && a.complete === b.complete) {
      return false;
    }
    return yield* this.#compareNext();
  }

  /** Passes sends, checks and cuts at the cursor of a side. */
  *#settle(name: SideName, icount: number): Generator<void, void> {
    while (!this.#settleLoaded(name, icount)) {
      this.#sides[name].load();
      yield;
    }
  }

  /** As `#settle`, as far as the block in memory goes; false at its end. */
  #settleLoaded(name: SideName, icount: number): boolean {
    const side = this.#sides[name];
    while (!side.empty) {
      const { current } = side;
      if (current.item === "send") {
        this.#sends.add(name, current, { icount, logBytes: this.logBytes });
        if (current.lamport !== undefined) this.#stamps[name].add(icount, current.lamport);
        if (name === "a") this.#history.item(() => describeSent(current, icount));
      } else if (current.item === "check") this.#checks.add(name, current, null);
      else if (current.item === "epoch") {
        this.#stamps[name].add(icount, epochStart(current.epoch));
      } else return true;
      side.pass();
    }
    return false;
  }

  /** Compares what both have of their current runs; false: the next event is not equal byte by byte. */
  #compareRuns(): boolean {
    const a = this.#sides.a.rest();
    const b = this.#sides.b.rest();
    const length = Math.min(a.length, b.length);
    if (Buffer.compare(a.subarray(0, length), b.subarray(0, length)) === 0) {
      this.#passEqual(a.subarray(0, length));
      return true;
    }
    let different = 0;
    while (a[different] === b[different]) different++;
    let start = 0;
    for (const event of this.options.codec.decode(a, this.#log, this.#counter.offset)) {
      if (start + event.length > different) break;
      start += event.length;
    }
    if (start > 0) this.#passEqual(a.subarray(0, start));
    return false;
  }

  #passEqual(bytes: Uint8Array): void {
    this.#count(bytes);
    this.#sides.a.passBytes(bytes.length);
    this.#sides.b.passBytes(bytes.length);
  }

  #count(bytes: Uint8Array): void {
    this.#history.events(bytes, this.#counter.icount, this.#counter.offset);
    this.#counter.push(bytes);
  }

  /** Compares the next thing of each side; false where they differ. */
  *#compareNext(): Generator<void, boolean> {
    const a = yield* this.#take("a");
    const b = yield* this.#take("b");
    const difference = differenceOf(a, b, this.#received);
    if (difference !== undefined) {
      if (this.#sendDiffersFirst()) {
        this.#findSend();
        return false;
      }
      this.#found = {
        ...difference,
        a: describeTaken(a, this.a.frames),
        b: describeTaken(b, this.b.frames),
        lamport: { a: this.#lamportOf("a", a), b: this.#lamportOf("b", b) },
      };
      return false;
    }
    for (const bytes of a.bytes) this.#count(bytes);
    if (a.thing === "receive" && b.thing === "receive") {
      this.#countReceived(a.received, b.received, a.icount);
    }
    return a.thing !== "end";
  }

  #countReceived(a: Received, b: Received, icount: number): void {
    this.#receives++;
    this.#receivedBytes += a.header.length + receivedLength(a);
    this.#stamps.a.add(icount, a.lamport);
    this.#stamps.b.add(icount, b.lamport);
    this.#history.item(() => describeReceived(a, this.a.frames, icount));
  }

  /** Takes the next thing of a side, past runs of instructions and block boundaries. */
  *#take(name: SideName): Generator<void, Taken> {
    const side = this.#sides[name];
    const { codec, guestOnly } = this.options;
    const bytes: Uint8Array[] = [];
    let { icount, offset } = this.#counter;
    for (;;) {
      yield* this.#settle(name, icount);
      const { current } = side;
      if (current.item === "end") return { thing: "end", end: current, icount, bytes };
      if (current.item === "receive") {
        side.pass();
        return { thing: "receive", received: current, icount, bytes };
      }
      if (current.item !== "events") throw new Error(`${current.item} was not passed`);
      const rest = side.rest();
      let at = 0;
      for (const event of codec.decode(rest, this.#log, offset)) {
        icount += event.instructions;
        at += event.length;
        if (event.instructions > 0 || (guestOnly && event.hostOnly)) continue;
        bytes.push(rest.subarray(0, at));
        side.passBytes(at);
        return { thing: "event", event, raw: rest.subarray(at - event.length, at), icount, bytes };
      }
      bytes.push(rest);
      offset += rest.length;
      side.pass();
    }
  }

  #lamportOf(name: SideName, taken: Taken): bigint | null {
    const own = taken.thing === "receive" ? taken.received.lamport : null;
    return later(this.#stamps[name].last, own);
  }

  /** Whether a send differs, and the logs have been equal for so long that nothing in them caused it. */
  #sendDiffersFirst(): boolean {
    const { mismatch } = this.#sends;
    if (mismatch === undefined) return false;
    const from = Math.min(mismatch.markA.logBytes, mismatch.markB.logBytes);
    return this.logBytes - from > SEND_LEAD_BYTES;
  }

  #findSend(): void {
    const { a, b, markA, markB } = this.#sends.mismatch!;
    this.#found = {
      kind: "send",
      what: "another sent frame",
      a: describeSent(a, markA.icount),
      b: describeSent(b, markB.icount),
      lamport: { a: a.lamport ?? null, b: b.lamport ?? null },
    };
  }

  /** Both logs are equal to their ends: are the sends? */
  #compareLastSends(): void {
    if (this.#checks.mismatch !== undefined) return;
    if (this.#sends.mismatch !== undefined) return this.#findSend();
    for (const name of ["a", "b"] as const) {
      const more = this.#sends.waiting(name);
      if (more === undefined) continue;
      const [here, there] = name === "a" ? ["A", "B"] : ["B", "A"];
      const { icount } = more.mark;
      const sent = describeSent(more.sent, icount);
      const none = { icount, kind: "END", text: `${more.sent.number} frames were sent` };
      const stamp = more.sent.lamport ?? null;
      this.#found = {
        kind: "send",
        what: `${here} sends a frame that ${there} does not send`,
        ...(name === "a" ? { a: sent, b: none } : { a: none, b: sent }),
        lamport: name === "a"
          ? { a: stamp, b: this.#stamps.b.last }
          : { a: this.#stamps.a.last, b: stamp },
      };
      return;
    }
  }

  /** A check is logged after its instruction: one from before the difference may still come. */
  *#readLateChecks(): Generator<void, void> {
    for (const name of ["a", "b"] as const) {
      const side = this.#sides[name];
      for (let blocks = 0; blocks < CHECK_LAG_BLOCKS;) {
        if (side.empty) {
          side.load();
          blocks++;
          yield;
        }
        const { current } = side;
        if (current.item === "end") break;
        if (current.item === "check") this.#checks.add(name, current, null);
        side.pass();
      }
    }
  }

  #preferCheck(): void {
    const { mismatch } = this.#checks;
    if (mismatch === undefined) return;
    const { a, b } = mismatch;
    const found = this.#found;
    if (found !== undefined && Math.min(found.a.icount, found.b.icount) <= a.icount) return;
    this.#found = {
      kind: "check",
      what: "another state of the machine",
      a: describeCheck(a, b),
      b: describeCheck(b, a),
      lamport: { a: this.#stamps.a.before(a.icount), b: this.#stamps.b.before(a.icount) },
    };
  }

  #conclude(): LogDiff {
    const ends: { a?: Ended; b?: Ended } = {};
    for (const name of ["a", "b"] as const) {
      const side = this.#sides[name];
      if (!side.empty && side.current.item === "end") ends[name] = side.current;
    }
    const found = this.#found;
    const icount = found === undefined
      ? this.#counter.icount
      : Math.min(found.a.icount, found.b.icount);
    return {
      equal: {
        instructions: icount,
        events: this.#counter.events,
        received: this.#receives,
        sent: this.#sends.equal,
        checks: this.#checks.equal,
        logBytes: this.#counter.offset,
        unproven: this.#received.unproven,
      },
      ends,
      lamport: { a: this.#stamps.a.last, b: this.#stamps.b.last },
      trusted: this.#received.trusted,
      ramsNotCompared: this.#checks.ramsNotCompared,
      ...(found === undefined ? {} : {
        difference: {
          ...found,
          icount,
          ...placeOf(found.lamport),
          context: this.#contextBefore(found),
        },
      }),
    };
  }

  /** The last equal things. A check and a send may be found later than they happened. */
  #contextBefore(found: Found): Observed[] {
    const { context } = this.options;
    if (found.kind !== "check" && found.kind !== "send") return this.#history.last(context);
    const icount = Math.min(found.a.icount, found.b.icount);
    const before = this.#history.last(Infinity).filter((thing) => thing.icount <= icount);
    return before.slice(Math.max(0, before.length - context));
  }
}
