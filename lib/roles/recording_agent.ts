/**
 * The agent's part of a recording: moves what the VMs of this host produce into their hybrid logs.
 *
 * ```
 * created ──arm──▶ armed ──run──▶ running ──quiesce──▶ quiet ──seal──▶ sealed
 *    └───────────────┴──────────────┴───── abort ────────┴──────────▶ aborted
 * ```
 * One pump serves all VMs. The order inside a turn is what makes identification exact: first the rr
 * logs are read, then the captures, then the recorder. A frame that a log shows was sent, captured
 * and delivered before the log could show it, so all that is known of it has been read by the time
 * the log's bytes are decoded.
 */
import { CutPlacer } from "../clocks/cut_placer.ts";
import { ClusterrrError, messageOf } from "../errors.ts";
import type { CheckPoint } from "../recording/hybrid_log.ts";
import { sleep, sleepUnless } from "../sleep.ts";
import type { VmNumber } from "../units.ts";
import {
  Deliveries,
  hashFrame,
  NO_REMOTE_HASH,
  SentFrames,
  type SentLookup,
  storedHash,
} from "./frame_matcher.ts";
import type { MachineState, RecordedVm, RecorderPort, RecorderSink, VmEnd } from "./ports.ts";
import { type SendDrift, SendJoin } from "./send_join.ts";

/** Where a VM's hybrid log goes; `lib/recording` implements it. */
export interface HybridLogPort {
  events(bytes: Uint8Array, start: number, end: number, icount: number): void;
  reference(header: Uint8Array, source: VmNumber, sendNumber: number, lamport: bigint): void;
  frame(
    header: Uint8Array,
    payload: Uint8Array,
    lamport: bigint,
    origin: "external" | "unmatched",
  ): void;
  send(length: number, hash: Uint8Array, lamport: bigint, head?: Uint8Array): void;
  check(check: CheckPoint): void;
  epoch(epoch: number): void;
  flush(): void;
}

/** Decodes an rr log as it comes in; `hypervisor/rr_log` implements it. */
export interface LogScanner {
  push(chunk: Uint8Array): void;
  /** `true` if the log ended as QEMU ends it, `false` if it was cut off. */
  finish(): boolean;
  readonly icount: number;
  /** Bytes of whole events so far: the place in the log of what comes next. */
  readonly offset: number;
  /** Asks what the log has at an instruction count; `onWatch` tells when the log has gone on. */
  watch(icount: number): void;
  /**
   * `inside` a run of instructions; `quiet`: only clocks and checkpoints are logged there;
   * `eventful`: the machine changes there while no instruction is executed.
   */
  onWatch: ((icount: number, place: "inside" | "quiet" | "eventful") => void) | undefined;
}

/** What a scanner hands on. */
export interface LogSink {
  events(bytes: Uint8Array, start: number, end: number, icount: number): void;
  frame(header: Uint8Array, payload: Uint8Array, icount: number): void;
}

/** One VM with what it is recorded by. */
export interface RecordingVm {
  readonly vm: RecordedVm;
  readonly log: HybridLogPort;
  readonly scanner: (sink: LogSink) => LogScanner;
}

/** Counts of one VM, live. */
export interface VmProgress {
  readonly number: VmNumber;
  readonly name: string;
  readonly icount: number;
  /** Bytes that stock QEMU would have written. */
  readonly rrLogBytes: number;
  readonly framesSent: number;
  readonly framesInternal: number;
  readonly framesExternal: number;
  readonly framesUnmatched: number;
  readonly checks: number;
  /** Whether the log has ended, and as QEMU ends it. */
  readonly ended: "no" | "complete" | "cut off";
}

/** Default length of a sent frame's start that is kept for divergence reports: headers, no payload. */
export const FRAME_HEAD_BYTES = 64;

const FLUSH_EVERY_MS = 1000;
const TURN_MS_MIN = 4;
const TURN_MS_MAX = 16;
const CHECK_STEP_MS = 50;
/** While a cut is due, it is looked for after so many bytes of the log. */
const CUT_STEP_BYTES = 512;
/** Until a check that cannot be compared is taken again, and how often in a row. */
const RETAKE_AFTER_MS = 150;
const RETAKES_MAX = 10;
/** Until a VM whose disk was at work is stopped again, and how often in a row: such a stop is short. */
const UNSETTLED_AFTER_MS = 50;
const UNSETTLED_MAX = 40;

/** What the log has at a check; `unknown` where it ends there. */
type CheckPlace = "inside" | "quiet" | "eventful" | "unknown";

/** What was captured of a sent frame and not yet joined with its Lamport time. */
interface Captured {
  readonly hash: Uint8Array;
  readonly head: Uint8Array;
  readonly length: number;
}

class RecordedStream implements LogSink {
  readonly sent = new SentFrames();
  readonly join = new SendJoin(this.sent);
  readonly deliveries: Deliveries;
  readonly captured: Captured[] = [];
  /** Finds where in the log the epochs begin. */
  readonly cuts: CutPlacer;
  readonly scanner: LogScanner;
  /** Stops whose place in the log is not known yet, by instruction count. */
  readonly pendingChecks = new Map<number, (place: CheckPlace) => void>();
  rrLogBytes = 0;
  framesInternal = 0;
  framesExternal = 0;
  framesUnmatched = 0;
  checks = 0;
  lastCheck = -1;
  nextCheckAt = 0;
  retakes = 0;
  unsettled = 0;
  ended: VmProgress["ended"] = "no";

  constructor(
    readonly recording: RecordingVm,
    private readonly lookup: SentLookup,
    private readonly captureNumber: (source: VmNumber, sendNumber: number) => number,
    { logBufferBytes, remote }: RecordingOptions,
  ) {
    this.deliveries = new Deliveries(undefined, remote?.cookie);
    this.cuts = new CutPlacer({
      remoteEpochs: remote !== undefined,
      oldestDelivery: () => this.deliveries.oldest,
      ...(logBufferBytes === undefined ? {} : { bufferBytes: logBufferBytes }),
    });
    this.scanner = recording.scanner(this);
    this.scanner.onWatch = (icount, place) => this.pendingChecks.get(icount)?.(place);
  }

  get vm(): RecordedVm {
    return this.recording.vm;
  }

  events(bytes: Uint8Array, start: number, end: number, icount: number): void {
    this.recording.log.events(bytes, start, end, icount);
  }

  frame(header: Uint8Array, payload: Uint8Array, _icount: number): void {
    const match = this.deliveries.match(payload, this.lookup);
    const at = this.scanner.offset - header.length - payload.length;
    this.#writeCuts(this.cuts.beforeReceive(match.certain ? match.lamport : undefined, at));
    if (match.kind === "internal") {
      this.framesInternal++;
      const number = this.captureNumber(match.source, match.sendNumber);
      this.recording.log.reference(header, match.source, number, match.lamport);
      return;
    }
    if (match.kind === "external") this.framesExternal++;
    else this.framesUnmatched++;
    this.recording.log.frame(header, payload, match.lamport, match.kind);
  }

  /** Decodes the next bytes of the log, and writes the cuts of epochs that fall into them. */
  decode(chunk: Uint8Array): void {
    for (let rest = chunk; rest.length > 0;) {
      const due = this.cuts.dueAt - this.rrLogBytes;
      const part = rest.subarray(0, Math.min(rest.length, Math.max(due, CUT_STEP_BYTES)));
      this.rrLogBytes += part.length;
      this.scanner.push(part);
      this.#writeCuts(this.cuts.atBoundary(this.scanner.offset));
      rest = rest.subarray(part.length);
    }
  }

  /** The log has ended as QEMU ends it: what is pending stands at its end. */
  writeLastCuts(): void {
    this.#writeCuts(this.cuts.atEnd(this.scanner.offset));
  }

  #writeCuts(epochs: readonly number[]): void {
    for (const epoch of epochs) this.recording.log.epoch(epoch);
  }

  capture(frame: Uint8Array): void {
    const hash = hashFrame(frame);
    this.sent.add(hash, frame.length);
    this.captured.push({
      hash: storedHash(hash),
      head: frame.slice(0, FRAME_HEAD_BYTES),
      length: frame.length,
    });
  }

  /** Writes the sends whose Lamport time is known; at the end all that are left. */
  writeSends(rest: boolean): void {
    let used = 0;
    this.join.join((_sendNumber, lamport) => {
      const frame = this.captured[used++]!;
      this.recording.log.send(frame.length, frame.hash, lamport, frame.head);
    }, rest);
    this.captured.splice(0, used);
  }

  progress(): VmProgress {
    return {
      number: this.vm.number,
      name: this.vm.name,
      icount: this.scanner.icount,
      rrLogBytes: this.rrLogBytes,
      framesSent: this.sent.count,
      framesInternal: this.framesInternal,
      framesExternal: this.framesExternal,
      framesUnmatched: this.framesUnmatched,
      checks: this.checks,
      ended: this.ended,
    };
  }
}

/** How an agent records. */
export interface RecordingOptions {
  /** Between two short stops of each VM; 0 takes none. */
  readonly checkEveryMs: number;
  /** What QEMU holds back of its log at most. Default: stdio's buffer, 4 KiB. */
  readonly logBufferBytes?: number;
  /** Where other hosts record VMs of the same cluster: the cookie of the tunnel to them. */
  readonly remote?: { readonly cookie: bigint };
}

/** Records the VMs of one host. */
export class RecordingAgent implements RecorderSink {
  readonly #streams = new Map<VmNumber, RecordedStream>();
  /** Of a check that cannot be taken: its VM may stand still. */
  readonly #checkFailed = Promise.withResolvers<ClusterrrError>();
  /** Checks that are not written yet. */
  readonly #checking = new Set<Promise<void>>();
  #pumping: Promise<void> | undefined;
  #lastFlush = performance.now();
  #stopChecks = new AbortController();
  #checkLoop: Promise<void> | undefined;

  constructor(
    vms: readonly RecordingVm[],
    private readonly recorder: RecorderPort,
    private readonly options: RecordingOptions,
  ) {
    const numberOf = (source: VmNumber, sendNumber: number) =>
      this.#streams.get(source)?.join.captureNumber(sendNumber) ?? sendNumber;
    const lookup: SentLookup = {
      hashOf: (source, sendNumber) =>
        this.#streams.get(source)?.sent.hashOf(numberOf(source, sendNumber)),
      isUnique: (source, hash) => this.#streams.get(source)?.sent.isUnique(hash) ?? false,
    };
    for (const vm of vms) {
      this.#streams.set(
        vm.vm.number,
        new RecordedStream(vm, lookup, numberOf, options),
      );
    }
  }

  sent(vm: VmNumber, sendNumber: number, length: number, lamport: bigint): void {
    this.#streams.get(vm)?.join.event(sendNumber, length, lamport);
  }

  delivered(
    vm: VmNumber,
    delivery: number,
    source: VmNumber,
    sendNumber: number,
    length: number,
    lamport: bigint,
    hash?: bigint,
  ): void {
    const remote = source !== 0 && !this.#streams.has(source);
    const remoteHash = remote ? hash ?? NO_REMOTE_HASH : undefined;
    this.#streams.get(vm)?.deliveries.add(
      { source, sendNumber, length, lamport, remoteHash },
      delivery,
    );
  }

  /** Begins an epoch: no later frame is stamped with an earlier time. Epochs rise. */
  tick(epoch: number): void {
    this.recorder.tick(epoch);
    for (const { vm, ended, cuts, rrLogBytes } of this.#streams.values()) {
      // Asked after the tick: what had been logged before it is all counted.
      if (ended === "no") cuts.tick(epoch, rrLogBytes + vm.unreadLog());
    }
  }

  /** Starts moving data: logs are read from here on, so that paused VMs can come up. */
  arm(): void {
    this.#pumping ??= this.#pumpUntilClosed();
    this.#pumping.catch(() => {}); // the caller hears of it through `finished`
  }

  /** Lets every VM run. */
  async run(): Promise<void> {
    await Promise.all(this.#each((stream) => stream.vm.resume()));
    if (this.options.checkEveryMs > 0) {
      this.#checkLoop = this.#takeChecksPeriodically();
      this.#checkLoop.catch(this.#checkFailed.resolve); // thrown again when the recording is stopped
    }
  }

  /** Resolves when every log has ended; rejects when recording fails. */
  get finished(): Promise<void> {
    if (this.#pumping === undefined) throw new Error("the agent has not been armed");
    return this.#pumping;
  }

  /** Resolves with the first VM that ended in another way than QEMU ends by itself, or could not be looked at. */
  async crashed(): Promise<ClusterrrError> {
    const crash = new Promise<ClusterrrError>((resolve) => {
      for (const { vm } of this.#streams.values()) {
        vm.ended.then((end) => {
          if (end.code !== 0 || end.failure !== undefined) resolve(crashOf(vm.name, end));
        });
      }
    });
    return await Promise.race([crash, this.#checkFailed.promise]);
  }

  /** Stops every VM at one moment, the first half of a two-phase stop. */
  async quiesce(): Promise<void> {
    this.#stopChecks.abort();
    await this.#checkLoop;
    await Promise.all(this.#each((stream) => stream.vm.pause()));
  }

  /** Ends every VM and waits for the rest of its log. */
  async seal(): Promise<void> {
    this.#stopChecks.abort();
    await this.#checkLoop;
    await Promise.all(this.#each((stream) => stream.vm.quit()));
    await this.#pumping;
    await Promise.all(this.#checking);
  }

  /** Ends every VM at once; what has been logged is kept. */
  async abort(): Promise<void> {
    this.#stopChecks.abort();
    await Promise.all(this.#each((stream) => stream.vm.kill()));
    await this.#checkLoop?.catch(() => {});
    await this.#pumping?.catch(() => {});
  }

  progress(): VmProgress[] {
    return this.#each((stream) => stream.progress());
  }

  /** Deliveries that never showed in a log: frames that a full tap queue dropped after the recorder. */
  get skippedDeliveries(): number {
    return this.#each((stream) => stream.deliveries.skipped).reduce((a, b) => a + b, 0);
  }

  /**
   * Where the recorder's numbers of a VM's frames and those of its log part. Other hosts name the VM's
   * frames by the recorder's. To be asked when the recording is sealed.
   * @param allReported the recorder lost none of the sends
   * @throws {Error} for a VM that this agent does not record
   */
  sendDrifts(vm: VmNumber, allReported: boolean): SendDrift[] {
    const stream = this.#streams.get(vm);
    if (stream === undefined) throw new Error(`VM ${vm} is not recorded by this agent`);
    // A process that was killed may have captured a frame and never sent it.
    return stream.join.drifts(allReported && stream.ended === "complete");
  }

  #each<T>(work: (stream: RecordedStream) => T): T[] {
    return [...this.#streams.values()].map(work);
  }

  async #pumpUntilClosed(): Promise<void> {
    let turnMs = TURN_MS_MIN;
    while (true) {
      const moved = this.#pump();
      if (this.#each((stream) => stream.ended).every((ended) => ended !== "no")) return;
      turnMs = moved ? TURN_MS_MIN : Math.min(turnMs * 2, TURN_MS_MAX);
      await new Promise((resolve) => setTimeout(resolve, turnMs));
    }
  }

  /** One turn; says whether anything moved. */
  #pump(): boolean {
    const chunks: [RecordedStream, Uint8Array | "closed"][] = [];
    for (const stream of this.#streams.values()) {
      if (stream.ended !== "no") continue;
      const chunk = stream.vm.readLog();
      if (chunk !== "again") chunks.push([stream, chunk]);
    }
    let moved = chunks.length > 0;
    for (const stream of this.#streams.values()) {
      const frames = stream.vm.readSent((frame) => stream.capture(frame));
      moved ||= frames > 0;
    }
    moved = this.recorder.drain(this) > 0 || moved;
    for (const stream of this.#streams.values()) stream.writeSends(false);
    for (const [stream, chunk] of chunks) this.#decode(stream, chunk);
    this.#flushNowAndThen();
    return moved;
  }

  #decode(stream: RecordedStream, chunk: Uint8Array | "closed"): void {
    if (chunk !== "closed") {
      stream.decode(chunk);
      return;
    }
    stream.ended = stream.scanner.finish() ? "complete" : "cut off";
    if (stream.ended === "complete") stream.writeLastCuts();
    stream.writeSends(true);
    for (const placed of stream.pendingChecks.values()) placed("unknown");
  }

  #flushNowAndThen(): void {
    if (performance.now() - this.#lastFlush < FLUSH_EVERY_MS) return;
    for (const stream of this.#streams.values()) stream.recording.log.flush();
    this.#lastFlush = performance.now();
  }

  async #takeChecksPeriodically(): Promise<void> {
    const signal = this.#stopChecks.signal;
    const every = this.options.checkEveryMs;
    for (const stream of this.#streams.values()) stream.nextCheckAt = performance.now() + every;
    while (await sleepUnless(Math.min(every, CHECK_STEP_MS), signal)) {
      for (const stream of this.#streams.values()) {
        if (signal.aborted) return;
        if (stream.ended !== "no" || performance.now() < stream.nextCheckAt) continue;
        stream.nextCheckAt = Infinity;
        await this.#takeCheck(stream);
        // From its end on: a large VM would stand most of the time otherwise.
        stream.nextCheckAt = Math.min(stream.nextCheckAt, performance.now() + every);
      }
    }
  }

  /** A short stop of one VM. A VM that ends meanwhile has no check, and that is no error. */
  async #takeCheck(stream: RecordedStream): Promise<void> {
    const { vm } = stream;
    const wallMs = Date.now();
    let state: MachineState;
    let place: Promise<CheckPlace>;
    try {
      await vm.pause();
      if (!await vm.settled()) {
        await vm.resume();
        if (stream.unsettled++ < UNSETTLED_MAX) {
          stream.nextCheckAt = performance.now() + UNSETTLED_AFTER_MS;
        } else stream.unsettled = 0;
        return;
      }
      stream.unsettled = 0;
      state = await vm.state();
      // Before it runs on: the scanner knows nothing of a count that it has left far behind.
      place = this.#placeOf(stream, state.icount);
      await vm.resume();
    } catch (error) {
      const gone = await Promise.race([vm.ended.then(() => true), sleep(2000).then(() => false)]);
      if (gone) return;
      await vm.resume().catch(() => {}); // what is reported is why it was not looked at
      throw new ClusterrrError(`Cannot take the state of VM ${vm.name}: ${messageOf(error)}`, {
        cause: error,
      });
    }
    const writing = this.#writeCheck(stream, state, place, wallMs);
    this.#checking.add(writing);
    // Awaited again when the recording is sealed, where its failure is reported.
    writing.then(() => this.#checking.delete(writing), () => {});
  }

  /** What the log has at an instruction count, once it has gone on beyond it. */
  async #placeOf(stream: RecordedStream, icount: number): Promise<CheckPlace> {
    if (icount === stream.lastCheck) return "unknown"; // it has executed nothing since
    if (stream.ended !== "no") return "unknown"; // and will not go on
    stream.lastCheck = icount;
    const place = await new Promise<CheckPlace>((resolve) => {
      stream.pendingChecks.set(icount, resolve);
      stream.scanner.watch(icount);
    });
    stream.pendingChecks.delete(icount);
    return place;
  }

  /**
   * Writes a check once its place in the log is known. At an eventful count the machine has several
   * states, and a replay that stops there may be in another of them: such a check is taken again. Not so
   * where the vCPU was idle: what is logged there came after the stop, or will wake it (equal in 592 of
   * 592 such stops; of stops with an interrupt at a busy vCPU, in about 70 %).
   */
  async #writeCheck(
    stream: RecordedStream,
    state: MachineState,
    found: Promise<CheckPlace>,
    wallMs: number,
  ): Promise<void> {
    const { icount, registers, ramDigest, ramBytes } = state;
    const place = await found;
    const ambiguous = place === "eventful" && !state.idle;
    if (ambiguous && stream.retakes++ < RETAKES_MAX) {
      stream.nextCheckAt = Math.min(stream.nextCheckAt, performance.now() + RETAKE_AFTER_MS);
    }
    if (ambiguous || place === "unknown") return;
    stream.checks++;
    stream.retakes = 0;
    stream.recording.log.check({
      icount,
      inside: place === "inside",
      registers,
      ramDigest,
      ramBytes,
      wallMs,
    });
  }
}

/** What a crash of a VM's QEMU means to the user. */
export function crashOf(vm: string, end: VmEnd): ClusterrrError {
  const how = end.signal === null ? `ended with status ${end.code}` : `was ended by ${end.signal}`;
  const said = end.stderr.trim();
  const what = end.failure?.message ?? `QEMU of VM ${vm} ${how}${said ? ": " + said : ""}`;
  return new ClusterrrError(
    `${what}\n` +
      "The other VMs were stopped; the recording is kept and replays up to there.",
  );
}
