/**
 * `clusterrr replay` and `verify`: one host, one process. Puts the roles of a replay together with
 * QEMU and the recording on disk. No network is needed: frames come from the VMs themselves.
 */
import { inspectQemu, type QemuIdentity } from "../hypervisor/qemu/capabilities.ts";
import { snapshotStart } from "../hypervisor/rr_log/snapshot_start.ts";
import { replayPreamble, syntheticEnd } from "../hypervisor/rr_log/stream.ts";
import { tableForVersion } from "../hypervisor/rr_log/tables.ts";
import { Readiness } from "../hypervisor/readiness.ts";
import { ReplayedQemu } from "../hypervisor/vm.ts";
import { RunDirectory } from "../host/run_directory.ts";
import { ignoreSigpipe } from "../host/libc.ts";
import { ClusterrrError, type Divergence, DivergenceError } from "../lib/errors.ts";
import type {
  Progress,
  ReplayOptions,
  ReplayReport,
  StateCheck,
  VerifyOptions,
  VerifyReport,
  VerifyRun,
  VmVerification,
} from "../lib/cli/ports.ts";
import { summarizeRuns } from "../lib/cli/verification.ts";
import type { ClusterSpec } from "../lib/cluster/spec.ts";
import { HybridLogReader } from "../lib/recording/hybrid_log_reader.ts";
import { type Manifest, readManifest, vmDirectory } from "../lib/recording/manifest.ts";
import { verifySegments } from "../lib/recording/recording_directory.ts";
import type { Snapshot } from "../lib/snapshot/snapshot.ts";
import { countUses, HybridSource, type LogCensus, takeCensus } from "../lib/roles/replay_source.ts";
import { ReplayingAgent, type VmReplayResult } from "../lib/roles/replaying_agent.ts";
import { type CheckResult, StateChecker } from "../lib/roles/state_checker.ts";
import { RetransmissionQueue } from "../net/retransmit/queue.ts";
import { compareImages } from "./images.ts";
import { hardwareOf, portableCommandLine } from "./machine.ts";
import { clockStart, prepareFiles, snapshotOf } from "./start_state.ts";

const PROGRESS_EVERY_MS = 250;
/** A cluster that does nothing for so long will not do anything any more, even on a busy host. */
const STALL_MS = 30_000;

/** A recording that fits this host, read once and counted. */
interface OpenRecording {
  readonly directory: string;
  readonly manifest: Manifest;
  readonly spec: ClusterSpec;
  readonly qemu: QemuIdentity;
  /** What it starts from, where that is not power-on. */
  readonly snapshot: Snapshot | undefined;
  readonly censuses: ReadonlyMap<number, LogCensus>;
  /** What is missing, where it was cut off. */
  readonly incomplete: string | undefined;
}

/** What one replay came to. */
interface ReplayOutcome {
  readonly results: readonly VmReplayResult[];
  readonly checks: ReadonlyMap<string, readonly CheckResult[]>;
  readonly consoleEqual: ReadonlyMap<string, boolean>;
  readonly divergence: Divergence | undefined;
  readonly replayS: number;
}

/** Replays once and compares every frame. */
export async function replay(
  options: ReplayOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<ReplayReport> {
  const recording = await openRecording(options.directory, progress);
  const outcome = await replayOnce(recording, false, progress, signal);
  const { divergence } = outcome;
  const vms = outcome.results.map((vm) => ({
    name: vm.name,
    framesRecorded: vm.framesRecorded,
    framesMatched: vm.framesMatched,
    instructions: recording.censuses.get(vm.number)!.icount,
    consoleEqual: outcome.consoleEqual.get(vm.name) ?? false,
    replayS: vm.replayS,
    endedBy: vm.cutOff ?? (vm.end === undefined ? "stopped" : "end of log"),
  }));
  return {
    ok: divergence === undefined && vms.every((vm) => vm.consoleEqual),
    vms,
    replayS: outcome.replayS,
    recordS: recording.manifest.timing.recordS,
    ...(recording.incomplete === undefined ? {} : { incomplete: recording.incomplete }),
    ...(divergence === undefined ? {} : { divergence }),
  };
}

/** Replays `runs` times and compares frames, state at the check points, and consoles. */
export async function verify(
  options: VerifyOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<VerifyReport> {
  const recording = await openRecording(options.directory, progress);
  const perRun: VerifyRun[] = [];
  for (let run = 1; run <= options.runs; run++) {
    const outcome = await replayOnce(recording, true, progress, signal);
    const verified = verifyRun(recording, outcome);
    perRun.push(verified);
    if (options.runs > 1) {
      const verdict = verified.ok ? "identical" : "DIFFERENT";
      progress.note(`run ${run} of ${options.runs}: ${verdict}, ${outcome.replayS.toFixed(1)} s`);
    }
  }
  return summarizeRuns(perRun, recording.incomplete);
}

function verifyRun(recording: OpenRecording, outcome: ReplayOutcome): VerifyRun {
  const { recordS } = recording.manifest.timing;
  const vms = recording.manifest.vms.map(({ name, number }): VmVerification => {
    const census = recording.censuses.get(number)!;
    const result = outcome.results.find((vm) => vm.name === name);
    const made = new Map((outcome.checks.get(name) ?? []).map((check) => [check.at, check]));
    return {
      name,
      frames: { recorded: census.sends, matched: result?.framesMatched ?? 0 },
      checks: census.checks.map(({ icount }): StateCheck => {
        const check = made.get(icount);
        return {
          at: icount,
          icount: check?.icount ?? false,
          registers: check?.registers ?? false,
          ram: check?.ram ?? false,
        };
      }),
      console: outcome.consoleEqual.get(name) ?? false,
      replayS: result?.replayS ?? outcome.replayS,
      recordS,
    };
  });
  const { divergence } = outcome;
  return {
    ok: divergence === undefined && vms.every((vm) => isIdentical(vm, recording)),
    replayS: outcome.replayS,
    recordS,
    vms,
    ...(divergence === undefined ? {} : { divergence }),
  };
}

function isIdentical(vm: VmVerification, recording: OpenRecording): boolean {
  const checksEqual = vm.checks.every((check) => check.icount && check.registers && check.ram);
  if (!vm.console) return false;
  // Of a recording that was cut off, the last sends and checks may lie behind the last whole block.
  if (recording.incomplete !== undefined) return true;
  return checksEqual && vm.frames.matched === vm.frames.recorded;
}

/** Reads a recording and looks whether this host can replay it. */
async function openRecording(directory: string, progress: Progress): Promise<OpenRecording> {
  ignoreSigpipe();
  progress.show({ phase: "reading the recording", vms: [] });
  const manifest = readManifest(directory);
  if (manifest.state === "sealed") await verifySegments(directory, manifest);
  const spec = manifest.cluster as ClusterSpec;
  const qemu = await inspectQemu(spec.qemu.program);
  await requireSameMachine(manifest, spec, qemu);
  const snapshot = await snapshotOf(manifest, directory);
  const censuses = new Map(manifest.vms.map((vm) => {
    const reader = openLog(directory, vm);
    try {
      return [vm.number, takeCensus(reader)];
    } finally {
      reader.close();
    }
  }));
  const cut = manifest.vms.filter((vm) => !censuses.get(vm.number)!.complete);
  const incomplete = cut.length === 0
    ? undefined
    : `the log of ${cut.map((vm) => vm.name).join(", ")} ends early` +
      (manifest.message === undefined ? "" : ` (${manifest.message.split("\n")[0]})`);
  return { directory, manifest, spec, qemu, snapshot, censuses, incomplete };
}

function openLog(directory: string, vm: Manifest["vms"][number]): HybridLogReader {
  return HybridLogReader.open(vmDirectory(directory, vm.name), {
    vm: vm.number,
    rrLogVersion: vm.qemu.rrLogVersion,
    closed: vm.logClosed,
  });
}

/** @throws {ClusterrrError} with everything that differs from the host that recorded */
async function requireSameMachine(
  manifest: Manifest,
  spec: ClusterSpec,
  qemu: QemuIdentity,
): Promise<void> {
  const differences = await compareImages(manifest.vms);
  for (const vm of manifest.vms) {
    if (vm.qemu.version !== qemu.version) {
      differences.push(`QEMU ${qemu.version}, recorded with ${vm.qemu.version}`);
    } else if (vm.qemu.sha256 !== qemu.sha256) {
      differences.push(`another build of QEMU ${qemu.version}: ${qemu.path}`);
    }
    const machine = spec.vms.find((each) => each.number === vm.number);
    if (machine === undefined) throw new ClusterrrError(`The manifest lacks the VM ${vm.name}.`);
    const hardware = hardwareOf(spec, machine, clockStart(manifest));
    const now = portableCommandLine(hardware, qemu, manifest.snapshot !== undefined).slice(1);
    const options = vm.commandLine.slice(1).filter((word, i) => word !== now[i]);
    if (options.length > 0 || now.length !== vm.commandLine.length - 1) {
      differences.push(`other QEMU options for VM ${vm.name}: recorded ${options.join(" ")}`);
    }
  }
  if (differences.length === 0) return;
  throw new ClusterrrError(
    "This host cannot replay the recording exactly:\n" +
      [...new Set(differences)].map((line) => `  - ${line}`).join("\n") +
      "\nReplay it where these are as recorded.",
  );
}

/** Runs the cluster once from its recording. A divergence is a result, not an error. */
async function replayOnce(
  recording: OpenRecording,
  withChecks: boolean,
  progress: Progress,
  signal: AbortSignal,
): Promise<ReplayOutcome> {
  const { directory, manifest, spec, qemu, snapshot, censuses } = recording;
  await using cleanup = new AsyncDisposableStack();
  const run = RunDirectory.create(`replay ${directory}`);
  cleanup.defer(() => run.remove());
  const readiness = new Readiness();
  cleanup.defer(() => readiness.close());
  const queue = new RetransmissionQueue(countUses(censuses.values()));

  const machines = await Promise.all(manifest.vms.map(async (vm) => {
    const machine = spec.vms.find((each) => each.number === vm.number)!;
    const replayed = new ReplayedQemu({
      hardware: hardwareOf(spec, machine, clockStart(manifest)),
      qemu,
      directory: run.path,
      scratch: run.scratch,
      console: run.file(`${vm.number}.console`),
      ...await prepareFiles(machine, run, snapshot),
      enter: [],
      signal,
      started: (pid) => run.ownChild(pid),
    }, readiness);
    cleanup.defer(() => replayed.close());
    const reader = openLog(directory, vm);
    cleanup.defer(() => reader.close());
    const table = tableForVersion(vm.qemu.rrLogVersion);
    const census = censuses.get(vm.number)!;
    const start = snapshot === undefined ? undefined : snapshotStart(table);
    const ending = syntheticEnd(table);
    const source = new HybridSource(reader, census, replayPreamble(table), ending, start);
    return { vm: replayed, source, census };
  }));

  const agent = new ReplayingAgent(machines, queue, readiness, {
    stallMs: STALL_MS,
    likelyCause: "QEMU binary, images and options are those of the recording: a device or a host " +
      "feature whose behaviour QEMU does not record, or a damaged recording. Replay it again; if " +
      "it diverges at the same place, look at what the guest did there.",
  });
  agent.prime();
  const show = () =>
    progress.show({
      phase: "replaying",
      vms: agent.progress().map(({ name, percent, framesMatched }) => ({
        name,
        fraction: percent / 100,
        frames: framesMatched,
      })),
    });
  const timer = setInterval(show, PROGRESS_EVERY_MS);
  cleanup.defer(() => clearInterval(timer));
  progress.show({ phase: "starting the VMs", vms: [] });
  await Promise.all(machines.map(({ vm }) => vm.start()));

  const checkers = machines.map(({ vm, census }) =>
    new StateChecker(vm, withChecks ? census.checks : [], () => agent.touch())
  );
  await Promise.all(checkers.map((checker) => checker.arm()));
  const startedAt = performance.now();
  const running = agent.run(signal);
  const checking = Promise.all(checkers.map((checker) => checker.run()));
  checking.catch(() => {}); // awaited below, unless the replay fails first
  let divergence: Divergence | undefined;
  let results: VmReplayResult[] = [];
  try {
    results = await running;
    await checking;
  } catch (error) {
    if (!(error instanceof DivergenceError)) throw error;
    divergence = error.divergence;
  }
  const names = machines.map(({ vm }) => vm.name);
  const cutOff = new Set(results.filter((vm) => vm.cutOff !== undefined).map((vm) => vm.name));
  return {
    results,
    checks: new Map(names.map((name, i) => [name, checkers[i]!.results])),
    consoleEqual: new Map(
      manifest.vms.map((vm) => [
        vm.name,
        consolesEqual(
          `${directory}/${vm.console}`,
          run.file(`${vm.number}.console`),
          censuses.get(vm.number)!.complete && !cutOff.has(vm.name),
        ),
      ]),
    ),
    divergence,
    replayS: (performance.now() - startedAt) / 1000,
  };
}

/**
 * Where a log was cut off, the replay of its VM, and of one that waits for its frames, prints the
 * beginning of what the recording printed.
 */
function consolesEqual(recorded: string, replayed: string, complete: boolean): boolean {
  const before = Deno.readTextFileSync(recorded);
  const after = Deno.readTextFileSync(replayed);
  return complete ? before === after : before.startsWith(after);
}
