/**
 * What we are measured against: the same cluster under stock QEMU, without any of clusterrr's parts.
 *
 * ```
 *  plain          icount, no event log            taps on a bridge of its own
 *  stock record   rr=record into regular files    likewise
 *  stock replay   rr=replay from those files      no network, no nudges; all VMs at once
 * ```
 * Machine, images, network and the way to the first instruction (all VMs started paused, then `cont`
 * for all) are those of a recording, so that the difference is the recorder alone.
 */
import { hardwareOf } from "../../operations/machine.ts";
import { RunDirectory } from "../../host/run_directory.ts";
import type { QemuIdentity } from "../../hypervisor/qemu/capabilities.ts";
import { buildCommandLine, type RunMode } from "../../hypervisor/qemu/command_line.ts";
import { createOverlay } from "../../hypervisor/qemu/overlay.ts";
import { QemuProcess } from "../../hypervisor/qemu/process.ts";
import { GUEST_ARGS_DEFAULT } from "../../lib/cluster/schema.ts";
import type { ClusterSpec, VmSpec } from "../../lib/cluster/spec.ts";
import { ClusterrrError } from "../../lib/errors.ts";
import { createNetwork, type Network } from "../../net/topology.ts";
import { failureOf } from "./guest_status.ts";

/** A guest that has not powered off by then never will. */
const RECORD_BOUND_S = 600;

/** The cluster that is measured. */
export interface PeerCluster {
  readonly spec: ClusterSpec;
  readonly qemu: QemuIdentity;
  /** What the guests' clocks start at, ISO 8601: a recording and its replay must agree. */
  readonly createdAt: string;
  /** Its guests may say that they failed: that is what is sought there. */
  readonly mayFail?: boolean;
}

/** One run of the cluster under stock QEMU. Times are wall seconds. */
export interface PeerRun {
  /** From the first instruction until the last QEMU has ended; at the bound, the bound. */
  readonly runS: number;
  /** With the network and the start of the processes before, and their removal after. */
  readonly wholeS: number;
  /** The VMs that had not ended at the bound, and were killed: `runS` is too short then. */
  readonly overBound: readonly string[];
  /** What the first QEMU said that ended otherwise than by its guest's wish; the others were killed. */
  readonly crash?: string;
  /** What each VM printed, by name. */
  readonly consoles: ReadonlyMap<string, string>;
}

/** What a guest needs to be measured at all: its output, and an end where it panics. */
const GUEST_ARGS_BARE: readonly string[] = ["console=ttyS0", "panic=-1", "quiet"];

/** They spare the guest the loops in which it measures its clocks: the profile that the target for replays was set with. */
const FOUR_ARGS = ["nolapic_timer", "tsc_early_khz=1000000", "lpj=4000000", "no_timer_check"];

/** A profile that stock QEMU is measured with besides ours, on QEMU's own machine and processor. */
export interface OtherProfile {
  readonly name: "four" | "bare";
  readonly brief: string;
  readonly guestArgs: readonly string[];
  /** The most that our replay may take of stock QEMU's with it, if anything is judged. */
  readonly replayRatioMax?: number;
}

/** The most that a replay may take of stock QEMU's. */
export const STOCK_REPLAY_RATIO_MAX = 0.3;

export const OTHER_PROFILES: readonly OtherProfile[] = [
  {
    name: "four",
    brief: `with four arguments only (pc, ${FOUR_ARGS.join(" ")})`,
    guestArgs: [...GUEST_ARGS_BARE, ...FOUR_ARGS],
    replayRatioMax: STOCK_REPLAY_RATIO_MAX,
  },
  {
    name: "bare",
    brief: "without a profile (pc, the kernel's own arguments)",
    guestArgs: GUEST_ARGS_BARE,
  },
];

/**
 * The cluster with another profile than ours. What stays: the network card, since a guest has the module of that
 * one, icount's shift, and a guest's clock that runs on guest time (`-rtc clock=vm`). Undefined for a cluster that
 * chose its own arguments.
 */
export function withProfile(
  cluster: PeerCluster,
  { guestArgs }: Pick<OtherProfile, "guestArgs">,
): PeerCluster | undefined {
  const profile = GUEST_ARGS_DEFAULT.join(" ");
  const { spec } = cluster;
  if (spec.vms.some((vm) => !`${vm.kernelArgs} `.startsWith(`${profile} `))) return undefined;
  const vms = spec.vms.map((vm) => {
    const own = vm.kernelArgs.slice(profile.length);
    return { ...vm, kernelArgs: guestArgs.join(" ") + own };
  });
  const qemu = { ...spec.qemu, machine: "pc", cpu: "qemu64" };
  return { ...cluster, spec: { ...spec, qemu, vms } };
}

/** Runs the cluster without record/replay. @throws {ClusterrrError} where its guests fail */
export async function runPlain(cluster: PeerCluster, signal: AbortSignal): Promise<PeerRun> {
  const run = await runCluster(cluster, "plain", RECORD_BOUND_S, signal, (_vm, tap) => {
    return { kind: "plain", tap: tap() };
  });
  return requireDone(run, cluster, "Without record/replay");
}

/** Records with stock QEMU into `directory`. @throws {ClusterrrError} where its guests fail */
export async function recordStock(
  cluster: PeerCluster,
  directory: string,
  signal: AbortSignal,
): Promise<PeerRun> {
  const run = await runCluster(cluster, "stock record", RECORD_BOUND_S, signal, (vm, tap) => {
    return { kind: "stock-record", tap: tap(), rrLog: stockLog(directory, vm) };
  });
  return requireDone(run, cluster, "Under stock QEMU's recording");
}

/** Replays what {@link recordStock} left in `directory`; after `boundS` it is given up. */
export async function replayStock(
  cluster: PeerCluster,
  directory: string,
  boundS: number,
  signal: AbortSignal,
): Promise<PeerRun> {
  return await runCluster(cluster, "stock replay", boundS, signal, (vm) => {
    return { kind: "stock-replay", rrLog: stockLog(directory, vm) };
  });
}

/** The event log of one VM, a regular file. */
export function stockLog(directory: string, vm: Pick<VmSpec, "name">): string {
  return `${directory}/${vm.name}.rr`;
}

function requireDone(
  run: PeerRun,
  { mayFail = false }: Pick<PeerCluster, "mayFail">,
  where: string,
): PeerRun {
  const failures = [
    ...(run.crash === undefined ? [] : [run.crash]),
    ...run.overBound.map((name) => `VM ${name} did not power off within ${RECORD_BOUND_S} s`),
    ...[...run.consoles].flatMap(([name, console]) => {
      const failure = failureOf(console);
      return mayFail || failure === undefined ? [] : [`VM ${name}: ${failure}`];
    }),
  ];
  if (failures.length === 0) return run;
  throw new ClusterrrError(
    `${where} the cluster did not do its work: ${failures.join("; ")}. Is this machine too busy?`,
  );
}

type ModeOf = (vm: VmSpec, tap: () => string) => RunMode;

async function runCluster(
  cluster: PeerCluster,
  what: string,
  boundS: number,
  signal: AbortSignal,
  modeOf: ModeOf,
): Promise<PeerRun> {
  const beganAt = performance.now();
  const result = await runInDirectory(cluster, what, boundS, signal, modeOf);
  return { ...result, wholeS: secondsSince(beganAt) };
}

async function runInDirectory(
  { spec, qemu, createdAt }: PeerCluster,
  what: string,
  boundS: number,
  signal: AbortSignal,
  modeOf: ModeOf,
): Promise<Omit<PeerRun, "wholeS">> {
  await using cleanup = new AsyncDisposableStack();
  const run = RunDirectory.create(`benchmark: ${what}`);
  cleanup.defer(() => run.remove());
  let network: Network | undefined;
  if (what !== "stock replay") {
    const { uplink } = spec.network;
    network = await createNetwork({ run: run.run, vms: spec.vms, ...(uplink && { uplink }) });
    cleanup.defer(() => network!.remove());
  }
  const starts = await Promise.allSettled(spec.vms.map(async (vm) => {
    const overlays = await Promise.all(vm.disks.map(async (disk, i) => {
      const overlay = run.file(`${vm.number}.disk${i}`);
      await createOverlay(disk.image, disk.format, overlay);
      return overlay;
    }));
    const qmp = run.file(`${vm.number}.qmp`);
    const paths = { qmp, console: consoleOf(run, vm), overlays };
    const mode = modeOf(vm, () => network!.tapOf(vm.number));
    const process = await QemuProcess.start({
      name: vm.name,
      argv: buildCommandLine(hardwareOf(spec, vm, createdAt), mode, paths, { qemu, paused: true }),
      enter: network?.enter ?? [],
      qmpPath: qmp,
      logPath: run.file(`${vm.number}.log`),
      signal,
    });
    cleanup.defer(async () => void await process.end(0));
    run.ownChild(process.pid);
    return process;
  }));
  const machines = starts.map((start) => {
    if (start.status === "rejected") throw start.reason;
    return start.value;
  });
  const startedAt = performance.now();
  await Promise.all(machines.map((machine) => machine.cont()));
  const ending = await waitForEnd(machines, boundS, signal);
  const runS = ending.overBound.length > 0 ? boundS : secondsSince(startedAt);
  const consoles = spec.vms.map((vm) =>
    [vm.name, Deno.readTextFileSync(consoleOf(run, vm))] as const
  );
  return { ...ending, runS, consoles: new Map(consoles) };
}

function consoleOf(run: RunDirectory, vm: VmSpec): string {
  return run.file(`${vm.number}.console`);
}

/**
 * Waits until all have ended, one has crashed, or `boundS` is over.
 * @throws the reason of `signal`
 */
async function waitForEnd(
  machines: readonly QemuProcess[],
  boundS: number,
  signal: AbortSignal,
): Promise<Pick<PeerRun, "overBound" | "crash">> {
  const running = new Set(machines);
  const { promise, resolve, reject } = Promise.withResolvers<
    Pick<PeerRun, "overBound" | "crash">
  >();
  const giveUp = () => resolve({ overBound: [...running].map((machine) => machine.name) });
  const timer = setTimeout(giveUp, boundS * 1000);
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort);
  if (signal.aborted) abort();
  for (const machine of machines) {
    machine.exited.then(({ code }) => {
      running.delete(machine);
      const crash = `QEMU of VM ${machine.name} ended with status ${code}: ${machine.lastOutput}`;
      if (code !== 0) resolve({ overBound: [], crash: crash.trim() });
      else if (running.size === 0) resolve({ overBound: [] });
    });
  }
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
}

function secondsSince(startMs: number): number {
  return (performance.now() - startMs) / 1000;
}
