/**
 * The VMs of one replay on this host: started from the beginning of the recording or from snapshots,
 * run to their end or to a cut of the cluster, looked at, saved.
 *
 * ```
 * open ──runTo(cut)──▶ every VM stands ──runTo(later cut)──▶ … ──runTo(undefined)──▶ every VM has ended
 *                        │ positions, state, save
 * ```
 */
import { stoppedTimerMender } from "../hypervisor/rr_log/stopped_timer.ts";
import { snapshotStart } from "../hypervisor/rr_log/snapshot_start.ts";
import { replayPreamble, syntheticEnd } from "../hypervisor/rr_log/stream.ts";
import { tableOfLog } from "../hypervisor/rr_log/tables.ts";
import { Readiness } from "../hypervisor/readiness.ts";
import { ReplayedQemu } from "../hypervisor/vm.ts";
import { RunDirectory } from "../host/run_directory.ts";
import type { Progress } from "../lib/cli/ports.ts";
import { epochOf, epochStart } from "../lib/clocks/lamport.ts";
import type { VmSpec } from "../lib/cluster/spec.ts";
import type { CheckPoint } from "../lib/recording/hybrid_log.ts";
import { countBelow } from "../lib/bytes/growing_array.ts";
import type { ManifestVm } from "../lib/recording/manifest.ts";
import {
  type ClusterCut,
  cutAt,
  endOf,
  lastEpoch,
  nextStop,
  type VmStop,
} from "../lib/roles/cluster_cut.ts";
import {
  countUses,
  framesUnderWay,
  type FrameUnderWay,
  type LogCensus,
  type VmPosition,
} from "../lib/roles/log_census.ts";
import { commonWindow } from "../lib/roles/common_window.ts";
import type { ReplayObserver } from "../lib/roles/replay_observer.ts";
import { countsInside } from "../lib/roles/run_ends.ts";
import { HybridSource } from "../lib/roles/replay_source.ts";
import {
  type FrameQueue,
  ReplayingAgent,
  type VmReplayResult,
} from "../lib/roles/replaying_agent.ts";
import { type CheckResult, StateChecker } from "../lib/roles/state_checker.ts";
import { settleAll } from "../lib/settle_all.ts";
import { sleep } from "../lib/sleep.ts";
import { lamportTime, type VmNumber } from "../lib/units.ts";
import { type FrameInFlight, RetransmissionQueue } from "../net/retransmit/queue.ts";
import type { ReplayLinks } from "../net/retransmit/replay_links.ts";
import { hardwareOf } from "./machine.ts";
import { openLog } from "../lib/recording/recording_directory.ts";
import { type OpenRecording, runsOf } from "./open_recording.ts";
import { clockStart, prepareFiles, refindFiles } from "./start_state.ts";

const PROGRESS_EVERY_MS = 250;
/** A cluster that does nothing for so long will not do anything any more, even on a busy host. */
const STALL_MS = 30_000;
/** A QEMU that cannot be looked at because it has ended is known to have within so long. */
const GONE_MS = 1_000;
/** The start of a log in the middle: QEMU reads a kind byte and replaces it by the snapshot's. */
const DUMMY_EVENT = 1;
/** How many epochs a VM may be ahead of the slowest; 4 s of the recording with the usual epochs. */
export const WINDOW_EPOCHS = 16;

/** A VM's part of a {@link WorldStart}. */
export interface VmStart {
  readonly position: VmPosition;
  /** Its snapshot; copied before it is used. */
  readonly file: string;
  /** Copies of its disks' overlays. */
  readonly overlays: readonly string[];
  /** Bytes that it had printed on its console. */
  readonly consoleBytes: number;
}

/** A consistent state of the cluster from which a replay can go on. */
export interface WorldStart {
  readonly vms: ReadonlyMap<VmNumber, VmStart>;
  readonly inFlight: readonly FrameInFlight[];
}

/** How a world is replayed. */
export interface WorldOptions {
  readonly start?: WorldStart;
  /** See {@link commonWindow}. Default {@link WINDOW_EPOCHS}; `Infinity`: no window. */
  readonly windowEpochs?: number;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** VMs that a debugger may connect to. */
  readonly gdb?: ReadonlySet<VmNumber>;
  /** What is being done, for people. Default: "replaying". */
  readonly phase?: string;
  /** Hears of every sent frame and every check. */
  readonly observer?: ReplayObserver;
  /** The links to the hosts that replay the other VMs of the cluster. */
  readonly links?: ReplayLinks;
}

/** One VM of a world. */
export interface WorldVm {
  readonly recorded: ManifestVm;
  readonly census: LogCensus;
  readonly vm: ReplayedQemu;
  /** Where its console output of this replay goes, and how much came before it. */
  readonly console: string;
  readonly consoleBytesBefore: number;
  /** How many disks it has. */
  readonly disks: number;
}

/**
 * Which recorded states of a VM to compare on the way.
 * @param isInside whether an instruction count, one before that of a check, lies strictly inside a run of that VM
 */
export type ChecksOf = (
  vm: WorldVm,
  isInside: (icount: number) => boolean,
) => readonly CheckPoint[];

/** What a VM's run reads and writes. */
interface RunFiles {
  readonly overlays: readonly string[];
  /** The state that the recording starts from. */
  readonly state?: string;
  /** The state at a checkpoint. */
  readonly snapshot?: string;
}

/** Where the VMs of `start` stand; without one, none does. */
function startPositions(start: WorldStart | undefined): Map<VmNumber, VmPosition> {
  return new Map([...start?.vms ?? []].map(([vm, { position }]) => [vm, position]));
}

/** The replayed VMs. The owner calls {@link close}. */
export class ReplayWorld {
  readonly #cleanup = new AsyncDisposableStack();
  readonly #run: RunDirectory;
  readonly #vms: WorldVm[] = [];
  readonly #startPositions: ReadonlyMap<VmNumber, VmPosition>;
  readonly #queue: FrameQueue;
  readonly #receives = new Map<VmNumber, number>();
  readonly #checkers: [VmNumber, StateChecker][] = [];
  #agent!: ReplayingAgent;

  private constructor(
    readonly recording: OpenRecording,
    private readonly options: WorldOptions,
  ) {
    const { censuses, directory } = recording;
    this.#run = RunDirectory.create(`replay ${directory}`);
    this.#cleanup.defer(() => this.#run.remove());
    this.#startPositions = startPositions(options.start);
    this.#queue = options.links?.frames ?? new RetransmissionQueue(
      countUses(censuses, this.#startPositions),
      options.start && {
        sent: new Map([...this.#startPositions].map(([vm, { sends }]) => [vm, sends])),
        inFlight: options.start.inFlight,
      },
    );
    for (const [vm, { receives }] of this.#startPositions) this.#receives.set(vm, receives);
  }

  /** Starts every VM, paused. @throws {ClusterrrError} */
  static async open(recording: OpenRecording, options: WorldOptions): Promise<ReplayWorld> {
    const world = new ReplayWorld(recording, options);
    try {
      await world.#startVms();
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  /** The id of its run on this host. */
  get run(): string {
    return this.#run.run;
  }

  get vms(): readonly WorldVm[] {
    return this.#vms;
  }

  vm(number: VmNumber): WorldVm {
    return this.#vms.find(({ vm }) => vm.number === number)!;
  }

  /** The channel state while all VMs stand: frames that have been sent and not yet received. */
  async inFlight(): Promise<(FrameInFlight & FrameUnderWay)[]> {
    const frames = framesUnderWay(this.recording.censuses, await this.positions());
    return frames.map(({ source, sendNumber, receivers }) => {
      const bytes = this.#agent.frameUnderWay(source, sendNumber);
      if (bytes === undefined) throw new Error(`frame ${sendNumber} of VM ${source} is lost`);
      return { source, sendNumber, receivers, bytes };
    });
  }

  /** The most bytes that the retransmission queue has held at once. */
  get queueBytesMax(): number {
    return this.#queue.heldBytesMax;
  }

  async close(): Promise<void> {
    await this.#cleanup.disposeAsync();
  }

  async #startVms(): Promise<void> {
    const { options, recording: { manifest, censuses } } = this;
    const readiness = new Readiness();
    this.#cleanup.defer(() => readiness.close());
    const replaying = await settleAll(manifest.vms.map((vm) => this.#makeVm(vm, readiness)));
    this.#vms.sort((a, b) => a.vm.number - b.vm.number);
    const { windowEpochs = WINDOW_EPOCHS } = options;
    this.#agent = new ReplayingAgent(replaying, this.#queue, readiness, {
      stallMs: STALL_MS,
      likelyCause: "QEMU binary, images and options are those of the recording: a device or a " +
        "host feature whose behaviour QEMU does not record, or a damaged recording. Replay it " +
        "again; if it diverges at the same place, look at what the guest did there.",
      ...(options.observer === undefined ? {} : { observer: options.observer }),
      window: options.links?.window ??
        commonWindow(censuses, windowEpochs, this.#startPositions),
      ...(options.links === undefined
        ? { missing: this.recording.missing }
        : { elsewhere: options.links.elsewhere }),
    });
    this.#agent.prime();
    const timer = setInterval(() => this.#show(), PROGRESS_EVERY_MS);
    this.#cleanup.defer(() => clearInterval(timer));
    options.progress.show({ phase: "starting the VMs", vms: [] });
    await settleAll(this.#vms.map(({ vm }) => vm.start()));
  }

  async #makeVm(recorded: ManifestVm, readiness: Readiness) {
    const { directory, manifest, localSpec, qemu, snapshot, censuses } = this.recording;
    const { number } = recorded;
    const machine = localSpec.vms.find((each) => each.number === number)!;
    const start = this.options.start?.vms.get(number);
    const files: RunFiles = start === undefined
      ? await prepareFiles(machine, this.#run, snapshot)
      : await this.#copyFiles(machine, start);
    const console = this.#run.scratch(`${number}.console`);
    const vm = new ReplayedQemu(
      {
        hardware: hardwareOf(localSpec, machine, clockStart(manifest)),
        qemu,
        directory: this.#run.path,
        console,
        overlays: files.overlays,
        ...(files.state && { state: files.state }),
        disksNested: snapshot !== undefined,
        enter: [],
        signal: this.options.signal,
        started: (pid) => this.#run.ownChild(pid),
      },
      readiness,
      {
        gdb: this.options.gdb?.has(number) ?? false,
        cutOff: !censuses.get(number)!.complete,
        ...(files.snapshot && { snapshot: files.snapshot }),
      },
    );
    this.#cleanup.defer(() => vm.close());
    const reader = openLog(directory, recorded, manifest);
    this.#cleanup.defer(() => reader.close());
    const census = censuses.get(number)!;
    if (start !== undefined) reader.seek(start.position.icount, start.position.sends);
    const source = this.#makeSource(recorded, reader, census, start);
    const consoleBytesBefore = start?.consoleBytes ?? 0;
    this.#vms.push({
      recorded,
      census,
      vm,
      console,
      consoleBytesBefore,
      disks: machine.disks.length,
    });
    return { vm, source, sentBefore: start?.position.sends ?? 0 };
  }

  /** The files of a run that goes on from a checkpoint: copies, since QEMU writes to them. */
  async #copyFiles(vm: VmSpec, start: VmStart): Promise<RunFiles> {
    const { number } = vm;
    const snapshot = this.#run.scratch(`${number}.vmstate`);
    await Deno.copyFile(start.file, snapshot);
    const overlays = start.overlays.map(async (from, i) => {
      const overlay = this.#run.scratch(`${number}.disk${i}`);
      await Deno.copyFile(from, overlay);
      return overlay;
    });
    const copies = await Promise.all(overlays);
    await refindFiles(vm, copies, this.recording.snapshot);
    return { overlays: copies, snapshot };
  }

  #makeSource(
    recorded: ManifestVm,
    reader: ReturnType<typeof openLog>,
    census: LogCensus,
    start: VmStart | undefined,
  ): HybridSource {
    const table = tableOfLog(recorded.qemu);
    const word = replayPreamble(table);
    const ending = syntheticEnd(table);
    const mend = stoppedTimerMender(table);
    if (start === undefined) {
      const { snapshot } = this.recording;
      const rewrite = snapshot && { rewrite: snapshotStart(table) };
      return new HybridSource(reader, census, { preamble: word, ending, mend, ...rewrite });
    }
    const preamble = Uint8Array.of(...word, DUMMY_EVENT);
    return new HybridSource(
      reader,
      census,
      { preamble, ending, mend },
      { position: start.position, readRuns: runsOf(recorded) },
    );
  }

  #show(): void {
    const vms = this.#agent.progress().map(({ name, percent, framesMatched }) => ({
      name,
      fraction: percent / 100,
      frames: framesMatched,
    }));
    this.options.progress.show({ phase: this.options.phase ?? "replaying", vms });
  }

  /**
   * Runs every VM to its stop in `cut`, or to its end. A VM that stands at its stop goes on to the next
   * place to stop at where it is just short of sending a frame that another one needs to come to its own.
   * @param cut behind where the VMs stand; VMs that it leaves out stay where they are
   * @param checksOf recorded states to compare on the way; none: none
   * @returns what each VM did; {@link checks} has what the comparisons came to
   * @throws {DivergenceError} the world is of no use then, but to be looked at and closed
   */
  async runTo(
    cut: ClusterCut | undefined,
    checksOf: ChecksOf = () => [],
  ): Promise<VmReplayResult[]> {
    const stops = new Map(cut?.stops);
    const moving = new Map<VmNumber, StateChecker>();
    for (const each of this.#vms) {
      const { vm } = each;
      const stop = stops.get(vm.number);
      if (cut !== undefined && stop === undefined) continue;
      if (stop !== undefined && stop.icount <= await this.#icountOf(vm)) continue;
      moving.set(vm.number, this.#checkerOf(each, stop, checksOf));
    }
    await Promise.all([...moving.values()].map((checker) => checker.arm()));
    const staying = new Set(this.#vms.map(({ vm }) => vm.number).filter((vm) => !moving.has(vm)));

    const checking: Promise<void>[] = [];
    const fail = async (vm: VmNumber, cause: unknown) => {
      // Where its QEMU has gone, the agent finds out why.
      const { ended } = this.vm(vm).vm;
      const gone = ended.then(() => true);
      if (!await Promise.race([gone, sleep(GONE_MS).then(() => false)])) this.#agent.fail(cause);
    };
    const watch = (vm: VmNumber, goes: Promise<boolean>) => {
      const standing = goes.then((stands) => {
        const stop = stops.get(vm);
        if (stop !== undefined) this.#receives.set(vm, stop.receives);
        if (stands) this.#agent.stand(vm);
      });
      standing.catch((cause) => fail(vm, cause));
      checking.push(standing);
    };
    const goingOn = new Set<VmNumber>();
    const goOn = async (each: WorldVm) => {
      const { vm, census } = each;
      const receives = this.#receives.get(vm.number) ?? 0;
      const stop = nextStop(census, { icount: await vm.icount(), receives }) ?? endOf(census);
      stops.set(vm.number, stop);
      const checker = this.#checkerOf(each, stop);
      await checker.arm();
      const resumed = this.#agent.goOn(vm.number);
      goingOn.delete(vm.number);
      const [stands] = await Promise.all([checker.run(), resumed]);
      return stands;
    };
    const running = this.#agent.run(this.options.signal, staying, (vm) => {
      if (!stops.has(vm) || goingOn.has(vm)) return;
      goingOn.add(vm);
      watch(vm, goOn(this.vm(vm)));
    });
    for (const [vm, checker] of moving) watch(vm, checker.run());
    const results = await running;
    await Promise.all(checking);
    return results;
  }

  #checkerOf(each: WorldVm, stop: VmStop | undefined, checksOf: ChecksOf = () => []): StateChecker {
    const { vm } = each;
    let inside: ReadonlySet<number> | undefined; // read from the log only where something is compared
    const isInside = (icount: number) => (inside ??= this.#countsInside(each)).has(icount);
    const checker = new StateChecker(
      vm,
      checksOf(each, isInside),
      () => this.#agent.touch(),
      stop?.icount,
      this.options.observer,
      isInside,
    );
    this.#checkers.push([vm.number, checker]);
    return checker;
  }

  /** Of the counts that {@link comparedAt} asks for, those strictly inside a run. */
  #countsInside({ recorded, census }: WorldVm): ReadonlySet<number> {
    const reader = openLog(this.recording.directory, recorded, this.recording.manifest);
    const asked = census.checks.map(({ icount }) => icount - 1);
    try {
      return countsInside(reader, runsOf(recorded), asked);
    } finally {
      reader.close();
    }
  }

  /** The comparisons that have been made of a VM's states. */
  checks(vm: VmNumber): CheckResult[] {
    return this.#checkers.flatMap(([number, { results }]) => number === vm ? results : []);
  }

  /**
   * Runs to the first cut at or behind Lamport time `time` at which every VM can be stopped and has sent
   * what was sent before.
   */
  async runToTime(
    time: bigint,
    checksOf?: ChecksOf,
  ): Promise<ClusterCut> {
    const { censuses } = this.recording;
    for (let at = time;;) {
      const cut = cutAt(censuses, at);
      await this.runTo(cut, checksOf);
      const lacking = [...cut.stops].some(([vm, { sendsMin }]) =>
        !this.#agent.hasEnded(vm) && this.#agent.sent(vm) < sendsMin
      );
      // A VM stands just before the instruction that sends: at the next checkpoint it has. Not where its log
      // is cut off between the two.
      const epoch = epochOf(lamportTime(cut.time));
      if (!lacking || epoch >= lastEpoch(censuses)) return cut;
      at = epochStart(epoch + 1);
    }
  }

  /** See {@link ReplayingAgent.follow}; where the VM then stands is known. */
  async follow(
    vm: VmNumber,
    stopped: () => boolean,
    onWait: (source: VmNumber, sendNumber: number) => Promise<void>,
  ): Promise<void> {
    await this.#agent.follow(vm, stopped, onWait, this.options.signal);
    const followed = this.vm(vm);
    const { icounts } = followed.census.receives;
    this.#receives.set(vm, countBelow(icounts, await this.#icountOf(followed.vm)));
  }

  /** Frames that a VM has sent so far. */
  sent(vm: VmNumber): number {
    return this.#agent.sent(vm);
  }

  hasEnded(vm: VmNumber): boolean {
    return this.vm(vm).vm.end !== undefined || this.#agent.hasEnded(vm);
  }

  async #icountOf(vm: ReplayedQemu): Promise<number> {
    return this.hasEnded(vm.number) ? Infinity : await vm.icount();
  }

  /** What every VM has received and sent. One that a debugger lets run has sent more before long. */
  counts(): Map<VmNumber, Pick<VmPosition, "receives" | "sends">> {
    return new Map(this.#vms.map(({ vm: { number } }) => [number, {
      receives: this.#receives.get(number) ?? 0,
      sends: this.#agent.sent(number),
    }]));
  }

  /** Where every VM stands. */
  async positions(): Promise<Map<VmNumber, VmPosition>> {
    return new Map(
      await Promise.all(this.#vms.map(async ({ vm }) =>
        [vm.number, {
          icount: await this.#icountOf(vm),
          receives: this.#receives.get(vm.number) ?? 0,
          sends: this.#agent.sent(vm.number),
        }] as const
      )),
    );
  }
}
