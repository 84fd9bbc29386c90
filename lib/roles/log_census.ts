/**
 * What has to be known of a VM's log before it is replayed: one pass over it, before any VM starts.
 *
 * ```
 * … run │ receive k-1 │ run, run │ cut │ run │ receive k │ run …
 *         └──────────────── gap k ──────────┘
 * ```
 * The log is a sequence of received frames with *gaps* between them: gap k comes before receive k, the
 * last one before the end. A replay stops in a gap, and best *inside* a run of instructions: there QEMU
 * has nothing of its log to take, so that it stands still whatever wakes it. Memory is about 56 bytes a
 * received frame and 8 a sent one.
 */
import { countBelow, GrowingArray } from "../bytes/growing_array.ts";
import type { EventLoopTurns } from "../event_loop_turns.ts";
import type { CheckPoint, HybridBlock, HybridVisitor } from "../recording/hybrid_log.ts";
import type { VmNumber } from "../units.ts";
import type { RunReader } from "./ports.ts";

/** A hybrid log, read block by block; `lib/recording` implements it. */
export interface LogBlocks {
  /** Visits the items of the next block; `false` at the end. */
  nextBlock(visitor: HybridVisitor): boolean;
  /** The block that was visited last. */
  readonly block: Pick<HybridBlock, "firstIcount" | "sends" | "receives"> | undefined;
}

/** The VM's cut of an epoch. Instruction counts strictly inside a run; -1 where there is none. */
export interface EpochCut {
  readonly epoch: number;
  readonly icount: number;
  /** Frames received before it. */
  readonly receives: number;
  /** The last count inside a run of its gap before the cut. */
  readonly insideBefore: number;
  /** The first one behind it. */
  insideAfter: number;
}

/** How far a VM has come. */
export interface VmPosition {
  readonly icount: number;
  /** Frames received, and sent, so far. */
  readonly receives: number;
  readonly sends: number;
}

/** Of every received frame, in order. */
export interface ReceiveTable {
  readonly lamports: BigUint64Array;
  readonly icounts: Float64Array;
  /** The sending VM; 0 where the frame is stored whole. */
  readonly sources: Float64Array;
  readonly numbers: Float64Array;
  /** The last count inside a run of each gap, one more than there are frames; -1 where there is none. */
  readonly lastInside: Float64Array;
}

/** What is known of a log. */
export interface LogCensus {
  readonly receives: ReceiveTable;
  /** The Lamport time of each send. */
  readonly sendTimes: BigUint64Array;
  readonly cuts: readonly EpochCut[];
  /** Bytes of the rebuilt rr log. */
  readonly bytes: number;
  /** In rising order of instruction counts. */
  readonly checks: readonly CheckPoint[];
  readonly complete: boolean;
  /** Instructions at the end. */
  readonly icount: number;
  /** Where it began to power off, or was quit; `Infinity` where that is not in the log. */
  readonly poweroffAt: number;
}

/** Reads a whole log; whatever is damaged in it is found here. */
export function takeCensus(blocks: LogBlocks, readRuns: RunReader): LogCensus {
  const visitor = new CensusTaker(blocks, readRuns);
  while (blocks.nextBlock(visitor));
  return visitor.census();
}

/** {@link takeCensus} of a log that may be long: signals and timers get in. */
export async function takeCensusInTurns(
  blocks: LogBlocks,
  readRuns: RunReader,
  turns: EventLoopTurns,
): Promise<LogCensus> {
  const visitor = new CensusTaker(blocks, readRuns);
  while (blocks.nextBlock(visitor)) if (turns.due) await turns.take();
  return visitor.census();
}

/** Adds up how often each frame is referenced by all receivers, from their positions on. */
export function countUses(
  censuses: ReadonlyMap<VmNumber, LogCensus>,
  from: ReadonlyMap<VmNumber, VmPosition> = new Map(),
): Map<VmNumber, Uint16Array> {
  const lengths = new Map<VmNumber, number>();
  const eachReference = (visit: (source: VmNumber, number: number) => void) => {
    for (const [vm, { receives: { sources, numbers } }] of censuses) {
      for (let i = from.get(vm)?.receives ?? 0; i < sources.length; i++) {
        if (sources[i]! !== 0) visit(sources[i]!, numbers[i]!);
      }
    }
  };
  eachReference((source, number) => {
    lengths.set(source, Math.max(lengths.get(source) ?? 0, number + 1));
  });
  const uses = new Map([...lengths].map(([vm, length]) => [vm, new Uint16Array(length)]));
  eachReference((source, number) => uses.get(source)![number]!++);
  return uses;
}

/** A frame that has been sent and not yet received by all who will. */
export interface FrameUnderWay {
  readonly source: VmNumber;
  readonly sendNumber: number;
  /** Those who have not received it. */
  readonly receivers: readonly VmNumber[];
}

/** The channel state of a cluster whose VMs stand at `positions`, by sender and send number. */
export function framesUnderWay(
  censuses: ReadonlyMap<VmNumber, LogCensus>,
  positions: ReadonlyMap<VmNumber, VmPosition>,
): FrameUnderWay[] {
  const found = new Map<string, { source: number; sendNumber: number; receivers: number[] }>();
  for (const [vm, { receives: { sources, numbers } }] of censuses) {
    for (let i = positions.get(vm)!.receives; i < sources.length; i++) {
      const [source, sendNumber] = [sources[i]!, numbers[i]!];
      const sent = positions.get(source)?.sends ?? 0; // none of a VM that the recording lacks
      if (source === 0 || sendNumber >= sent) continue;
      const key = `${source}/${sendNumber}`;
      const frame = found.get(key);
      if (frame === undefined) found.set(key, { source, sendNumber, receivers: [vm] });
      else if (frame.receivers.at(-1) !== vm) frame.receivers.push(vm);
    }
  }
  return [...found.values()].sort((a, b) => a.source - b.source || a.sendNumber - b.sendNumber);
}

/** Sends of a VM with a Lamport time before `time`. */
export function sendsBefore(census: LogCensus, time: bigint): number {
  return countBelow(census.sendTimes, time);
}

class CensusTaker implements HybridVisitor {
  readonly #lamports = GrowingArray.bigints();
  readonly #icounts = GrowingArray.numbers();
  readonly #sources = GrowingArray.numbers();
  readonly #numbers = GrowingArray.numbers();
  readonly #lastInside = GrowingArray.numbers();
  readonly #sendTimes = GrowingArray.bigints();
  readonly #cuts: EpochCut[] = [];
  readonly #checks: CheckPoint[] = [];
  #bytes = 0;
  #receives = 0;
  #icount = 0;
  /** The last count inside a run of the gap at hand. */
  #inside = -1;
  /** The first cut of this gap behind which no such count has come yet. */
  #openCut = 0;
  /** From here on it cannot be made to stand. */
  #poweredOff = false;
  #poweroffAt = Infinity;
  #end: { complete: boolean; icount: number } | undefined;

  #block: LogBlocks["block"];

  constructor(private readonly blocks: LogBlocks, private readonly readRuns: RunReader) {}

  /** A log may begin with a count that is not 0: each block says where it begins. */
  #enterBlock(): void {
    if (this.#block === this.blocks.block) return;
    this.#block = this.blocks.block;
    this.#icount = this.#block!.firstIcount;
  }

  events(bytes: Uint8Array): void {
    this.#enterBlock();
    this.#bytes += bytes.length;
    this.readRuns(bytes, (count) => {
      if (count > 1 && !this.#poweredOff) {
        for (; this.#openCut < this.#cuts.length; this.#openCut++) {
          this.#cuts[this.#openCut]!.insideAfter = this.#icount + 1;
        }
        this.#inside = this.#icount + count - 1;
      }
      this.#icount += count;
    }, () => {
      if (!this.#poweredOff) this.#poweroffAt = this.#icount;
      this.#poweredOff = true;
    });
  }

  reference(header: Uint8Array, source: VmNumber, sendNumber: number, lamport: bigint): void {
    this.#bytes += header.length + lengthIn(header);
    this.#receive(source, sendNumber, lamport);
  }

  frame(header: Uint8Array, payload: Uint8Array, lamport: bigint): void {
    this.#bytes += header.length + payload.length;
    this.#receive(0, 0, lamport);
  }

  #receive(source: number, number: number, lamport: bigint): void {
    this.#enterBlock();
    this.#lamports.push(lamport);
    this.#icounts.push(this.#icount);
    this.#sources.push(source);
    this.#numbers.push(number);
    this.#closeGap();
    this.#receives++;
  }

  #closeGap(): void {
    this.#lastInside.push(this.#inside);
    this.#inside = -1;
    this.#openCut = this.#cuts.length;
  }

  send(_number: number, _length: number, _hash: Uint8Array, lamport: bigint): void {
    this.#sendTimes.push(lamport);
  }

  check(check: CheckPoint): void {
    this.#checks.push(check);
  }

  epoch(epoch: number, icount: number): void {
    const place = { icount, receives: this.#receives };
    this.#cuts.push({ epoch, ...place, insideBefore: this.#inside, insideAfter: -1 });
  }

  end(complete: boolean, icount: number): void {
    this.#end = { complete, icount };
  }

  census(): LogCensus {
    this.#closeGap();
    this.#checks.sort((a, b) => a.icount - b.icount);
    return {
      receives: {
        lamports: this.#lamports.view(),
        icounts: this.#icounts.view(),
        sources: this.#sources.view(),
        numbers: this.#numbers.view(),
        lastInside: this.#lastInside.view(),
      },
      sendTimes: this.#sendTimes.view(),
      cuts: this.#cuts,
      bytes: this.#bytes,
      checks: this.#checks,
      complete: this.#end?.complete ?? false,
      icount: this.#end?.icount ?? this.#icount,
      poweroffAt: this.#poweroffAt,
    };
  }
}

/** The rr header of a received frame ends in the frame's length, a big-endian u32. */
export function lengthIn(header: Uint8Array): number {
  return new DataView(header.buffer, header.byteOffset + header.length - 4, 4).getUint32(0);
}
