/**
 * The agent's part of a replay: feeds every VM its rebuilt rr log, takes the frames that the VMs send
 * again, compares each with the recording, and hands it to the VMs whose logs wait for it.
 *
 * ```
 *   feeds ──rr log──▶ VMs ──regenerated frames──▶ compare ──▶ retransmission queue
 *     ▲                                                              │
 *     └──────────────── the bytes of (source, send number) ──────────┘
 * ```
 * Causality schedules the cluster: a VM whose log stands at a frame runs on when the sender's own
 * replay has sent it. The first difference stops everything.
 */
import { equalBytes } from "../bytes/equal_bytes.ts";
import { type Divergence, DivergenceError } from "../errors.ts";
import type { VmNumber } from "../units.ts";
import { hashFrame, storedHash } from "./frame_matcher.ts";
import { hexDump } from "./hex_dump.ts";
import type { OtherHostsPort } from "./other_hosts.ts";
import type { ReplayObserver } from "./replay_observer.ts";
import type { ReadinessPort, ReplayedVm, VmEnd } from "./ports.ts";
import { type PieceSource, ReplayFeed } from "./replay_feed.ts";

/** A sent frame as the recording has it. */
export interface RecordedSend {
  readonly length: number;
  /** The first 8 bytes of the frame's SHA-256. */
  readonly hash: Uint8Array;
  /** The frame's first bytes, for reports. */
  readonly head: Uint8Array;
  readonly lamport: bigint;
}

/** The regenerated frames of all VMs; `net/retransmit` implements it. */
export interface FrameQueue {
  add(source: VmNumber, bytes: Uint8Array): number;
  take(source: VmNumber, sendNumber: number): Uint8Array | undefined;
  arrived(source: VmNumber): number;
  /** The bytes of a frame that it holds. */
  held(source: VmNumber, sendNumber: number): Uint8Array | undefined;
  readonly heldBytesMax: number;
}

/** One VM's recording, as its replay needs it. */
export interface ReplaySource {
  readonly pieces: PieceSource;
  /** The next recorded send that has not been asked for; `undefined` while none has been read yet. */
  nextSend(): RecordedSend | undefined;
  /** Sends in the whole recording. */
  readonly sendsTotal: number;
  /** What part of the instructions, 0 to 1, is in so many bytes of the rebuilt log. Interpolated in a block. */
  shareAt(bytes: number): number;
  /** Whether the log ends as QEMU ended it; else it was cut off and closed artificially. */
  readonly complete: boolean;
  /** An instruction count near the part of the log that was read last. */
  readonly icountNear: number;
}

/** One VM with what it is replayed from. */
export interface ReplayingVm {
  readonly vm: ReplayedVm;
  readonly source: ReplaySource;
  /** Frames that it sent before the replay began, where that is not at the start. */
  readonly sentBefore?: number;
}

/** How a VM's replay ended. */
export interface VmReplayResult {
  readonly name: string;
  readonly number: VmNumber;
  readonly framesRecorded: number;
  readonly framesMatched: number;
  readonly end: VmEnd | undefined;
  /** Seconds from the start of the cluster's replay to this VM's end. */
  readonly replayS: number;
  /** Why a VM of an incomplete recording ended before its log did. */
  readonly cutOff?: string;
}

/** How a replay goes. */
export interface ReplayOptions {
  /** A cluster in which nothing moves for so long has diverged. */
  readonly stallMs: number;
  /** Tells why the recording may not fit this host, where that is known. */
  readonly likelyCause: string;
  /** Hears of every frame that is compared, before the verdict. */
  readonly observer?: ReplayObserver;
  /** Keeps the VMs together in time; without it each runs as far as it can. */
  readonly window?: ReplayWindowPort;
  /** The hosts that replay the other VMs; without it all are here. */
  readonly elsewhere?: OtherHostsPort;
  /** VMs whose logs the recording lacks: who needs a frame of theirs ends there. */
  readonly missing?: ReadonlySet<VmNumber>;
  /** Milliseconds since some moment. Default: those of the host. */
  readonly now?: () => number;
}

/** Which VM may go on into which epoch; `lib/clocks` implements it. */
export interface ReplayWindowPort {
  /** Whether `vm` may run past its cut of `epoch`; if so, it is there from now on. */
  enter(vm: VmNumber, epoch: number): boolean;
  /** `vm` has ended, or stands where it was to stop: nobody waits for it. */
  leave(vm: VmNumber): void;
  /** `vm` goes on where it left. */
  rejoin(vm: VmNumber): void;
}

/** Between two looks at a cluster in which some VM idles, and in which all are busy. */
const IDLE_TURN_MS = 1;
const BUSY_TURN_MS = 5;
/** So long after someone has looked at a VM, this thread may still be at work on what there was to see. */
const LOOK_MS = 500;
/** A VM that uses less of the time than this between two looks idles. */
const IDLE_SHARE = 0.5;

class ReplayedStream {
  readonly vm: ReplayedVm;
  readonly source: ReplaySource;
  readonly feed: ReplayFeed;
  readonly unchecked: Uint8Array[] = [];
  matched: number;
  /** It stands where it was to stop. */
  standing = false;
  end: VmEnd | undefined;
  endedAt = 0;
  cutOff: string | undefined;
  #unreadBefore = -1;
  #cpuBefore = 0;
  #lookedAt = 0;

  constructor(
    { vm, source, sentBefore }: ReplayingVm,
    queue: FrameQueue,
    window: ReplayWindowPort | undefined,
  ) {
    this.vm = vm;
    this.source = source;
    this.matched = sentBefore ?? 0;
    this.feed = new ReplayFeed(
      source.pieces,
      (bytes) => vm.writeLog(bytes),
      (from, sendNumber) => queue.take(from, sendNumber),
      (epoch) => window?.enter(vm.number, epoch) ?? true,
    );
    vm.ended.then((end) => this.end = end);
  }

  /** Whether nothing more is expected of it: it has ended, or stands where it was to stop. */
  get settled(): boolean {
    return this.standing || this.endedAt !== 0;
  }

  /** About what part of its instructions it has executed, 0 to 1: by what QEMU has taken of its log. */
  get share(): number {
    if (this.endedAt !== 0) return 1;
    return this.source.shareAt(this.feed.bytesFed - this.vm.unreadLog());
  }

  /** Whether QEMU has mostly slept since the last call. */
  idle(now: number): boolean {
    const cpu = this.vm.cpuMs();
    const idle = cpu - this.#cpuBefore < IDLE_SHARE * (now - this.#lookedAt);
    this.#cpuBefore = cpu;
    this.#lookedAt = now;
    return idle;
  }

  /**
   * Whether QEMU has taken all there is of a log that was cut off. Where that was between two events
   * of one step, such as an instruction and the character it writes, QEMU misses the second and ends.
   */
  ranOut(): boolean {
    return !this.source.complete && this.feed.state === "done" && this.vm.unreadLog() === 0;
  }

  /** Whether QEMU has taken anything of its log since the last call. */
  moved(): boolean {
    const unread = this.vm.unreadLog();
    const moved = unread !== this.#unreadBefore;
    this.#unreadBefore = unread;
    return moved;
  }
}

/** Replays the VMs of one host. */
export class ReplayingAgent {
  readonly #streams = new Map<VmNumber, ReplayedStream>();
  readonly #now: () => number;
  #lastMove: number;
  #lastLook = -Infinity;
  #startedAt: number;
  /** The wait for readiness that is under way: news may come before it ends. */
  #waiting: Promise<void> | undefined;
  #lastNudge = 0;
  #someIdle = false;
  #failure: { readonly cause: unknown } | undefined;

  constructor(
    vms: readonly ReplayingVm[],
    private readonly queue: FrameQueue,
    private readonly readiness: ReadinessPort,
    private readonly options: ReplayOptions,
  ) {
    this.#now = options.now ?? (() => performance.now());
    this.#lastMove = this.#startedAt = this.#now();
    for (const each of vms) {
      this.#streams.set(each.vm.number, new ReplayedStream(each, queue, options.window));
    }
  }

  /** Offers every VM the start of its log: QEMU reads it before it answers on its monitor. */
  prime(): void {
    for (const stream of this.#streams.values()) this.#pumpFeed(stream);
  }

  /** Says that a VM moves although its log does not: someone looks at it. */
  touch(): void {
    this.#lastMove = this.#lastLook = this.#now();
  }

  /** Ends {@link run} with the error of someone who looks at a VM. */
  fail(cause: unknown): void {
    this.#failure ??= { cause };
  }

  /** Says that a VM stands where it was to stop: {@link run} waits for it no longer. */
  stand(vm: VmNumber): void {
    this.#streams.get(vm)!.standing = true;
    this.options.window?.leave(vm);
    this.#lastMove = this.#now();
  }

  /** A frame that has been sent and that a VM has still to receive, or may have received just now. */
  frameUnderWay(source: VmNumber, sendNumber: number): Uint8Array | undefined {
    const held = this.queue.held(source, sendNumber);
    if (held !== undefined) return held;
    for (const { feed } of this.#streams.values()) {
      const frame = feed.recentFrame(source, sendNumber);
      if (frame !== undefined) return frame;
    }
    return undefined;
  }

  hasEnded(vm: VmNumber): boolean {
    return this.#streams.get(vm)!.endedAt !== 0;
  }

  /** Frames that a VM has sent so far; exact while it stands. */
  sent(vm: VmNumber): number {
    return this.queue.arrived(vm);
  }

  /** Percent of each VM's log that has been fed. */
  progress(): { name: string; percent: number; framesMatched: number }[] {
    return [...this.#streams.values()].map((stream) => ({
      name: stream.vm.name,
      percent: 100 * stream.share,
      framesMatched: stream.matched,
    }));
  }

  /** Lets a VM go on that stands, also while {@link run} is under way. */
  async goOn(vm: VmNumber): Promise<void> {
    const stream = this.#streams.get(vm)!;
    if (stream.standing) this.options.window?.rejoin(vm);
    stream.standing = false;
    await stream.vm.resume();
  }

  /**
   * Runs until every VM has ended, or stands where it was to stop ({@link stand}). May be called again
   * with VMs that stand: they go on.
   * @param staying VMs that go on standing
   * @param onNeed hears of a VM that stands short of a frame without which another one cannot come to
   *   where it is to stop, at every turn until that VM goes on ({@link goOn})
   * @throws {DivergenceError} at the first difference; the caller ends the VMs
   */
  async run(
    signal: AbortSignal,
    staying: ReadonlySet<VmNumber> = new Set(),
    onNeed?: (vm: VmNumber) => void,
  ): Promise<VmReplayResult[]> {
    this.#startedAt = this.#lastMove = this.#now();
    // Not awaited: a VM that has taken what there is of its log answers when it gets more.
    const resuming = Promise.all(
      this.#all().map(async (stream) => {
        const { number } = stream.vm;
        if (stream.endedAt !== 0) return;
        if (staying.has(number)) return this.stand(number);
        await this.goOn(number);
      }),
    ).catch((cause) => this.fail(cause));
    try {
      while (this.#all().some((stream) => !stream.settled)) {
        signal.throwIfAborted();
        this.#throwFailure();
        await this.#turnAmongHosts();
        if (onNeed !== undefined) await this.#tellNeeded(onNeed);
        if (this.#now() - this.#lastMove > this.options.stallMs) await this.#reportStall();
        await this.#wait();
      }
    } finally {
      await this.#waiting?.catch(() => {}); // what it waits on may be closed after this
    }
    await resuming;
    this.#throwFailure();
    for (const stream of this.#all()) await this.#takeFrames(stream); // the last ones before a stop
    return this.#all().map((stream) => ({
      name: stream.vm.name,
      number: stream.vm.number,
      framesRecorded: stream.source.sendsTotal,
      framesMatched: stream.matched,
      end: stream.end,
      replayS: (stream.endedAt - this.#startedAt) / 1000,
      ...(stream.cutOff === undefined ? {} : { cutOff: stream.cutOff }),
    }));
  }

  /**
   * Moves data for a VM that a debugger lets run, while the others stand.
   * @param stopped whether it has stopped again
   * @param onWait brings the sender of a frame that the VM waits for as far as it takes
   * @throws {DivergenceError} at the first difference
   */
  async follow(
    vm: VmNumber,
    stopped: () => boolean,
    onWait: (source: VmNumber, sendNumber: number) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const stream = this.#streams.get(vm)!;
    while (!stopped() && stream.endedAt === 0) {
      signal.throwIfAborted();
      this.touch();
      stream.standing = false; // also after `onWait`, for which it stood
      this.options.window?.rejoin(vm);
      await this.#turn();
      const awaited = this.#frameNeeded(stream);
      if (awaited !== undefined) await onWait(awaited.source, awaited.sendNumber);
      await this.#wait();
    }
    if (stream.endedAt === 0) this.stand(vm);
    for (const each of this.#all()) await this.#takeFrames(each);
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.cause;
  }

  async #tellNeeded(onNeed: (vm: VmNumber) => void): Promise<void> {
    for (const stream of this.#all()) {
      if (stream.settled) continue;
      const { awaited } = stream.feed;
      const sender = awaited && this.#streams.get(awaited.source);
      if (!sender?.standing || sender.endedAt !== 0) continue;
      await this.#takeFrames(sender); // it may have come to stand since
      if (this.#frameNeeded(stream) !== undefined) onNeed(sender.vm.number);
    }
  }

  /**
   * A frame that has not been sent yet, and without which the VM cannot go on. Its stream is ahead of it:
   * only where the VM itself waits there, it has sent all that comes before.
   */
  #frameNeeded({ feed: { awaited }, vm }: ReplayedStream) {
    return awaited !== undefined && this.queue.arrived(awaited.source) <= awaited.sendNumber &&
        vm.awaitsLog()
      ? awaited
      : undefined;
  }

  #all(): ReplayedStream[] {
    return [...this.#streams.values()];
  }

  /** A turn, with what it means for the other hosts, and they for it. */
  async #turnAmongHosts(): Promise<void> {
    const { elsewhere } = this.options;
    elsewhere?.check();
    const moved = await this.#turn();
    if (moved) elsewhere?.moved();
    if (moved || elsewhere?.movedElsewhere()) this.#lastMove = this.#now();
  }

  /** Waits for VMs, or for a message of another host. */
  async #wait(): Promise<void> {
    const { elsewhere } = this.options;
    const timeoutMs = this.#someIdle ? IDLE_TURN_MS : BUSY_TURN_MS;
    if (elsewhere === undefined) {
      const alone = this.#now() - this.#lastLook > LOOK_MS;
      return await this.readiness.wait(timeoutMs, alone);
    }
    this.#waiting ??= this.readiness.wait(timeoutMs).finally(() => this.#waiting = undefined);
    await Promise.race([this.#waiting, elsewhere.news()]);
  }

  /** One turn over all VMs; says whether anything moved. */
  async #turn(): Promise<boolean> {
    let moved = false;
    for (const stream of this.#all()) {
      if (stream.endedAt !== 0) continue;
      // Asked before the frames are read: what a process sent before it ended is then all there.
      const ended = stream.end !== undefined;
      moved = await this.#takeFrames(stream) || moved;
      if (ended) await this.#concludeVm(stream);
    }
    for (const stream of this.#all()) {
      if (stream.settled) continue;
      const before = stream.feed.bytesFed;
      if (this.options.elsewhere?.mayFeed(stream.vm.number) ?? true) this.#pumpFeed(stream);
      else this.readiness.wantWrite(stream.vm.number, false);
      await this.#compareFrames(stream);
      await this.#checkFit(stream);
      moved ||= stream.feed.bytesFed !== before;
      await this.#endIfCutOff(stream);
    }
    return this.#nudgeIdle() || moved;
  }

  #pumpFeed(stream: ReplayedStream): void {
    const state = stream.feed.pump();
    this.readiness.wantWrite(stream.vm.number, state === "full");
  }

  async #takeFrames(stream: ReplayedStream): Promise<boolean> {
    const count = stream.vm.readSent((frame) => {
      stream.unchecked.push(frame);
      this.queue.add(stream.vm.number, frame);
    });
    await this.#compareFrames(stream);
    return count > 0;
  }

  /** Compares what was sent again with the recording, as far as the recording has been read. */
  async #compareFrames(stream: ReplayedStream): Promise<void> {
    while (stream.unchecked.length > 0) {
      const recorded = stream.source.nextSend();
      const frame = stream.unchecked[0]!;
      if (recorded === undefined) {
        if (stream.feed.state === "done" && stream.source.complete) {
          this.#observe(stream, frame, storedHash(hashFrame(frame)), undefined);
          await this.#diverge(stream, {
            sendNumber: stream.matched,
            what: "it sent a frame that the recording does not have",
            expected: `no frame: ${stream.source.sendsTotal} were sent`,
            actual: hexDump(frame),
          });
        }
        return;
      }
      const hash = storedHash(hashFrame(frame));
      this.#observe(stream, frame, hash, recorded.lamport);
      if (recorded.length !== frame.length || !equalBytes(recorded.hash, hash)) {
        await this.#diverge(stream, {
          sendNumber: stream.matched,
          what: "it sent a different frame",
          expected: describeRecorded(recorded, frame),
          actual: `${frame.length} bytes, SHA-256 ${hash.toHex()}…\n` +
            hexDump(frame, recorded.head),
        });
      }
      stream.unchecked.shift();
      stream.matched++;
    }
  }

  #observe(
    { vm, matched: number, source }: ReplayedStream,
    frame: Uint8Array,
    hash: Uint8Array,
    lamport: bigint | undefined,
  ): void {
    const near = source.icountNear;
    this.options.observer?.sent(vm.name, { number, frame, hash, near, lamport });
  }

  /** A VM's process has ended: was that the end of its log? */
  async #concludeVm(stream: ReplayedStream): Promise<void> {
    stream.endedAt = this.#now();
    this.options.window?.leave(stream.vm.number);
    this.options.elsewhere?.ended(stream.vm.number, this.queue.arrived(stream.vm.number));
    this.#lastMove = stream.endedAt;
    const end = stream.end!;
    if (end.failure !== undefined) throw end.failure;
    if (stream.cutOff !== undefined) return;
    if (end.code !== 0 && end.signal === null && stream.ranOut()) {
      stream.cutOff = "its log is cut off there";
      return;
    }
    if (end.code !== 0) {
      await this.#diverge(stream, {
        sendNumber: null,
        what: `its QEMU ended with ${end.signal ?? `status ${end.code}`} before the end of its log`,
        expected: "the recorded events up to the end of the log",
        actual: end.stderr.trim() || "(no message)",
      });
    }
    if (stream.source.complete && stream.matched < stream.source.sendsTotal) {
      await this.#diverge(stream, {
        sendNumber: stream.matched,
        what: "it ended without sending every recorded frame",
        expected: `${stream.source.sendsTotal} frames`,
        actual: `${stream.matched} frames`,
      });
    }
  }

  /** In a recording that was cut off, a frame may be missing for good: the VM's replay ends there. */
  async #endIfCutOff(stream: ReplayedStream): Promise<void> {
    const awaited = stream.feed.awaited;
    if (awaited === undefined) return;
    const sender = this.#streams.get(awaited.source);
    if (sender !== undefined && sender.endedAt === 0) return;
    if (this.queue.arrived(awaited.source) > awaited.sendNumber) return;
    const { elsewhere } = this.options;
    if (sender === undefined && elsewhere !== undefined) {
      // It may still send it, or has, and the frame is on its way.
      const sent = elsewhere.sentAtEnd(awaited.source);
      if (sent === undefined || sent > awaited.sendNumber) return;
    }
    // Its log is fed ahead: it may still have much to execute, and frames to send, before it needs that one.
    if (!stream.vm.awaitsLog()) return;
    const othersComplete = elsewhere === undefined ? true : elsewhere.logsComplete();
    if (othersComplete === undefined) return;
    const senderName = sender?.vm.name ?? `number ${awaited.source}`;
    const why = `waits for frame ${awaited.sendNumber} of VM ${senderName}, which ended before it`;
    const missing = this.options.missing?.has(awaited.source) ?? false;
    if (!missing && othersComplete && this.#all().every((s) => s.source.complete)) {
      await this.#diverge(stream, {
        sendNumber: null,
        what: `it ${why}`,
        expected: `frame ${awaited.sendNumber} of VM ${senderName}`,
        actual: `${this.queue.arrived(awaited.source)} frames of it`,
      });
    }
    stream.cutOff = why;
    await stream.vm.kill();
  }

  /** Wakes QEMUs whose log stands still: they may sleep out a guest timer that is already over. */
  #nudgeIdle(): boolean {
    const now = this.#now();
    if (now - this.#lastNudge < IDLE_TURN_MS) return false;
    this.#lastNudge = now;
    this.#someIdle = false;
    let moved = false;
    for (const stream of this.#all()) {
      if (stream.settled) continue;
      if (stream.moved()) moved = true;
      if (!stream.idle(now)) continue;
      stream.vm.nudge();
      this.#someIdle = true;
    }
    return moved;
  }

  /** Does the frame that the VM is to receive fit its log? */
  async #checkFit(stream: ReplayedStream): Promise<void> {
    const { misfit } = stream.feed;
    if (misfit === undefined) return;
    const sender = this.#streams.get(misfit.source);
    if (sender !== undefined && sender.unchecked.length > 0) return; // it may be the sender that is wrong
    await this.#diverge(stream, {
      sendNumber: null,
      what: `it cannot have received frame ${misfit.sendNumber} of VM ${
        sender?.vm.name ?? `number ${misfit.source}`
      }, which its recording names`,
      expected: `${misfit.length} bytes`,
      actual: `${misfit.sent.length} bytes\n${hexDump(misfit.sent)}`,
      likelyCause:
        "frames of a VM on another host were miscounted while recording, as can happen " +
        "where its tap refuses some; record anew",
    });
  }

  async #reportStall(): Promise<never> {
    const standing = this.#all().filter((stream) => !stream.settled);
    const describe = (stream: ReplayedStream) => {
      const awaited = stream.feed.awaited;
      return `${stream.vm.name}: ${
        awaited === undefined
          ? stream.feed.state === "held"
            ? "waits for the other VMs to come as far in time"
            : `its QEMU takes nothing more of its log (${stream.feed.bytesFed} bytes fed)`
          : `waits for frame ${awaited.sendNumber} of VM ${awaited.source}, which has sent ${
            this.queue.arrived(awaited.source)
          }`
      }`;
    };
    const stuck = standing.find((stream) => stream.feed.awaited === undefined) ?? standing[0]!;
    return await this.#diverge(stuck, {
      sendNumber: null,
      what: `nothing has moved for ${this.options.stallMs / 1000} s`,
      expected: "the recorded events",
      actual: standing.map(describe).join("\n"),
    });
  }

  async #diverge(
    stream: ReplayedStream,
    how: Omit<Divergence, "vm" | "instructionCount" | "likelyCause"> & { likelyCause?: string },
  ): Promise<never> {
    const near = stream.source.icountNear;
    const timeout = new Promise<number>((resolve) => setTimeout(() => resolve(near), 1000));
    const icount = await Promise.race([stream.vm.icount().catch(() => near), timeout]);
    throw new DivergenceError({
      vm: stream.vm.name,
      instructionCount: BigInt(icount),
      likelyCause: this.options.likelyCause,
      ...how,
    });
  }
}

function describeRecorded(recorded: RecordedSend, replayed: Uint8Array): string {
  const size = `${recorded.length} bytes, SHA-256 ${recorded.hash.toHex()}…`;
  if (recorded.head.length === 0) return size;
  const rest = recorded.length - recorded.head.length;
  return `${size}\n${hexDump(recorded.head, replayed)}` +
    (rest > 0 ? `\n  (the recording keeps the first ${recorded.head.length} bytes)` : "");
}
