/**
 * What one host does of a recording: its network, recorder, VMs, logs and its part of the manifest.
 * A coordinator drives it, in this process or from another host.
 *
 * ```
 * prepare ──▶ arm ──▶ run ──▶ tick … ──▶ quiesce ──▶ seal ──▶ conclude ──▶ close
 *    └───────── what fails here leaves no directory behind; from `run` on, all is kept
 * ```
 */
import { armRecorder, type Recorder } from "../net/bpf/recorder.ts";
import { sendFrames } from "../net/frame_socket.ts";
import { createNetwork, type Network, type NetworkPlan } from "../net/topology.ts";
import type { TunnelPlan } from "../net/tunnel.ts";
import type { QemuIdentity } from "../hypervisor/qemu/capabilities.ts";
import { RrLogScanner } from "../hypervisor/rr_log/scanner.ts";
import { type RrLogTable, tableForQemu } from "../hypervisor/rr_log/tables.ts";
import { RecordedQemu } from "../hypervisor/vm.ts";
import { RunDirectory } from "../host/run_directory.ts";
import { ClusterrrError, HostError, InterruptedError } from "../lib/errors.ts";
import { makeUplinkMac } from "../lib/cluster/mac_address.ts";
import type { ClusterSpec, VmSpec } from "../lib/cluster/spec.ts";
import type { HybridTotals } from "../lib/recording/hybrid_log.ts";
import { HybridLogWriter } from "../lib/recording/hybrid_log_writer.ts";
import {
  type Manifest,
  MANIFEST_FORMAT,
  MANIFEST_VERSION,
  type ManifestVm,
  vmDirectory,
  writeManifest,
} from "../lib/recording/manifest.ts";
import {
  createRecordingDirectory,
  removeRecordingDirectory,
} from "../lib/recording/recording_directory.ts";
import { RecordingAgent, type VmProgress } from "../lib/roles/recording_agent.ts";
import type { RecordingAgentPort, RecordingEnd } from "../lib/roles/recording_coordinator.ts";
import type { RecordingValues } from "../lib/telemetry/role_values.ts";
import { settleAll } from "../lib/settle_all.ts";
import type { VmNumber } from "../lib/units.ts";
import { describeHost } from "./host.ts";
import { hardwareOf, portableCommandLine } from "./machine.ts";
import {
  clockStart,
  firstIcountOf,
  framesInFlight,
  prepareFiles,
  type StartState,
  verifySnapshot,
} from "./start_state.ts";
import config from "../deno.json" with { type: "json" };

/** What one host records of a cluster. */
export interface HostRecordingPlan {
  /** The same on every host. */
  readonly id: string;
  readonly name: string;
  /** When the recording began, ISO 8601: the guests' clocks start there. The same on every host. */
  readonly createdAt: string;
  /** The directory to make. */
  readonly directory: string;
  /** The whole cluster, as it was written down. */
  readonly start: StartState;
  /** The VMs of this host. */
  readonly vms: readonly VmNumber[];
  /** All hosts with their VMs; one that records alone names none. */
  readonly hosts?: NonNullable<Manifest["hosts"]>;
  /** The cluster with the paths at which this host has its files. */
  readonly localSpec: ClusterSpec;
  readonly images: ReadonlyMap<VmNumber, ManifestVm["images"]>;
  readonly qemu: QemuIdentity;
  /** Whether the cluster's uplink, if it has one, is on this host. */
  readonly uplink: boolean;
  /** The way to the VMs of other hosts. */
  readonly tunnel?: TunnelPlan;
  readonly digestEveryMs: number;
  readonly epochMs: number;
}

/** What can be seen of a host's recording. */
export interface HostProgress extends VmProgress {
  /** Bytes that its hybrid log takes on disk. */
  readonly storedBytes: number;
}

/** The recording of one host's VMs. The owner calls {@link close}. */
export class HostRecording implements RecordingAgentPort {
  readonly #cleanup = new AsyncDisposableStack();
  readonly #logs = new Map<VmNumber, HybridLogWriter>();
  readonly #table: RrLogTable;
  readonly #vms: readonly VmSpec[];
  readonly #manifest: Manifest;
  #network!: Network;
  #recorder!: Recorder;
  #agent!: RecordingAgent;
  #begun = false;
  #concluded = false;

  private constructor(readonly plan: HostRecordingPlan) {
    const { vms, localSpec } = plan;
    this.#table = tableForQemu(plan.qemu.version);
    this.#vms = localSpec.vms.filter(({ number }) => vms.includes(number));
    this.#manifest = firstManifest(plan, this.#table);
  }

  /**
   * Makes the directory, the network and the VMs, which stand paused at their start.
   * @param say hears what is being done
   * @throws {ClusterrrError} and nothing is left behind
   */
  static async prepare(
    plan: HostRecordingPlan,
    say: (phase: string) => void,
    signal: AbortSignal,
  ): Promise<HostRecording> {
    createRecordingDirectory(plan.directory);
    const recording = new HostRecording(plan);
    try {
      await Deno.writeTextFile(`${plan.directory}/cluster.yaml`, plan.start.text);
      await recording.#build(say, signal);
      return recording;
    } catch (error) {
      await recording.close();
      throw error;
    }
  }

  async #build(say: (phase: string) => void, signal: AbortSignal): Promise<void> {
    const { plan } = this;
    const { snapshot, spec } = plan.start;
    const run = RunDirectory.create(`record ${plan.directory}`);
    this.#cleanup.defer(() => run.remove());
    const uplink = plan.uplink ? spec.network.uplink : undefined;
    const mac = snapshot?.manifest.uplinkMac ??
      (plan.tunnel === undefined ? undefined : makeUplinkMac(spec));
    const networkPlan: NetworkPlan = {
      run: run.run,
      vms: this.#vms,
      ...(uplink === undefined
        ? {}
        : { uplink: { ...uplink, ...(mac === undefined ? {} : { mac }) } }),
      ...(plan.tunnel === undefined ? {} : { tunnel: plan.tunnel }),
    };
    say("building the network");
    this.#network = await createNetwork(networkPlan);
    this.#cleanup.defer(() => this.#network.remove());
    this.#recorder = await armRecorder(this.#network, networkPlan);
    this.#cleanup.defer(() => this.#recorder.close());
    const machines = await settleAll(
      this.#vms.map((vm) => this.#makeVm(vm, run, signal)),
    );
    writeManifest(plan.directory, this.#manifest);

    say("starting the VMs");
    await settleAll([
      ...machines.map((machine) => machine.start()),
      ...(snapshot === undefined ? [] : [verifySnapshot(snapshot)]), // it takes as long
    ]).catch((error) => {
      throw signal.aborted
        ? new InterruptedError("Interrupted before the recording began.")
        : error;
    });
    this.#agent = new RecordingAgent(
      machines.map((vm) => ({
        vm,
        log: this.#logs.get(vm.number)!,
        scanner: (sink) => {
          const { firstIcount } = this.#recorded(vm.number);
          return new RrLogScanner(this.#table, sink, `the rr log of VM ${vm.name}`, firstIcount);
        },
      })),
      this.#recorder,
      {
        checkEveryMs: plan.digestEveryMs,
        ...(plan.tunnel === undefined ? {} : { remote: { cookie: plan.tunnel.cookie } }),
      },
    );
  }

  async #makeVm(
    vm: VmSpec,
    run: RunDirectory,
    signal: AbortSignal,
  ): Promise<RecordedQemu> {
    const { directory, start: { snapshot } } = this.plan;
    const vmDir = vmDirectory(directory, vm.name);
    const firstIcount = firstIcountOf(snapshot, vm);
    const logOptions = { vm: vm.number, rrLogVersion: this.#table.version, firstIcount };
    this.#logs.set(vm.number, new HybridLogWriter(vmDir, logOptions));
    const machine = new RecordedQemu(
      {
        hardware: hardwareOf(this.plan.localSpec, vm, clockStart(this.#manifest)),
        qemu: this.plan.qemu,
        directory: run.path,
        console: `${vmDir}/console.log`,
        ...await prepareFiles(vm, run, snapshot),
        enter: this.#network.enter,
        signal,
        started: (pid) => run.ownChild(pid),
      },
      this.#network.tapOf(vm.number),
      // What was typed during the boot is in the snapshot.
      snapshot === undefined || vm.serialInput === undefined ? vm.serialInput : "",
    );
    this.#cleanup.defer(() => machine.close());
    return machine;
  }

  #recorded(vm: VmNumber): ManifestVm {
    return this.#manifest.vms.find((each) => each.number === vm)!;
  }

  arm(): void {
    this.#agent.arm();
  }

  async run(): Promise<void> {
    const { snapshot } = this.plan.start;
    if (snapshot !== undefined) {
      // The paused VMs take these before anything that is sent from now on.
      for (const vm of this.#vms) {
        const tap = this.#network.tapOf(vm.number);
        sendFrames(this.#network.netns, tap, await framesInFlight(snapshot, vm));
      }
    }
    this.#begun = true;
    await this.#agent.run();
  }

  tick(epoch: number): void {
    this.#agent.tick(epoch);
  }

  quiesce(): Promise<void> {
    return this.#agent.quiesce();
  }

  seal(): Promise<void> {
    return this.#agent.seal();
  }

  abort(): Promise<void> {
    return this.#agent.abort();
  }

  get finished(): Promise<void> {
    return this.#agent.finished;
  }

  crashed(): Promise<ClusterrrError> {
    return this.#agent.crashed();
  }

  /** What the user should know of its network, a line each. */
  get notes(): readonly string[] {
    return this.#network.notes;
  }

  progress(): HostProgress[] {
    return this.#agent.progress().map((vm) => ({
      ...vm,
      storedBytes: this.#logs.get(vm.number)!.storedBytes,
    }));
  }

  /** What has been counted: for metrics. */
  values(): RecordingValues {
    return {
      vms: this.#agent.progress(),
      storedBytes: new Map([...this.#logs].map(([vm, log]) => [vm, log.storedBytes])),
      recorder: this.#recorder.counters(),
      skippedDeliveries: this.#agent.skippedDeliveries,
    };
  }

  /**
   * Closes every log and writes the final manifest. Where the disk does not take that, the first one
   * stays: the recording then reads as one that was cut off.
   */
  conclude(end: RecordingEnd, recordS: number): Manifest {
    this.#concluded = true;
    const counters = this.#recorder.counters();
    const totals = new Map<number, HybridTotals>();
    const vms = this.#agent.progress().map((vm): ManifestVm => {
      const log = this.#logs.get(vm.number)!.close(vm.ended === "complete");
      totals.set(vm.number, log);
      const { segments: _, complete, closed, icount, ...counts } = log;
      return {
        ...this.#recorded(vm.number),
        logComplete: complete,
        logClosed: closed,
        end: { icount, reason: complete ? (end.by === "failure" ? "stopped" : end.by) : "cut off" },
        totals: counts,
      };
    });
    const sendDrifts = this.plan.tunnel === undefined ? [] : vms.map(({ number }) => ({
      vm: number,
      drifts: this.#agent.sendDrifts(number, counters.lostSends === 0n),
    }))
      .filter(({ drifts }) => drifts.length > 0);
    const sealed: Manifest = {
      ...this.#manifest,
      ...(sendDrifts.length === 0 ? {} : { sendDrifts }),
      state: "sealed",
      endedBy: end.by,
      ...(end.by === "failure" ? { message: end.error.message } : {}),
      complete: vms.every((vm) => vm.logComplete),
      vms,
      segments: [...totals].flatMap(([vm, { segments }]) => segments.map((s) => ({ vm, ...s }))),
      timing: { ...this.#manifest.timing, recordS },
      recorder: {
        framesSent: Number(counters.sent),
        framesDelivered: Number(counters.delivered),
        lostEvents: Number(counters.lostSends + counters.lostReceives),
        droppedFrames: this.#agent.skippedDeliveries,
      },
    };
    try {
      writeManifest(this.plan.directory, sealed);
      return sealed;
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      return {
        ...sealed,
        endedBy: "failure",
        message: sealed.message ?? error.message,
        complete: false,
      };
    }
  }

  /** Ends what still runs and takes everything away but the recording, if there is one to keep. */
  async close(): Promise<void> {
    if (!this.#concluded) {
      for (const log of this.#logs.values()) log.close(false);
    }
    await this.#cleanup.disposeAsync();
    // Where it failed before the VMs ran, there is nothing to keep.
    if (!this.#begun && !this.#concluded) {
      await removeRecordingDirectory(this.plan.directory);
    }
  }
}

function firstManifest(plan: HostRecordingPlan, table: RrLogTable): Manifest {
  const { spec, snapshot } = plan.start;
  const startedFrom = snapshot === undefined ? {} : {
    snapshot: {
      name: snapshot.manifest.name,
      sha256: snapshot.sha256,
      createdAt: snapshot.manifest.createdAt,
    },
  };
  const { createdAt } = plan;
  const rtcBase = clockStart({ createdAt, ...startedFrom });
  const recorded = spec.vms.filter(({ number }) => plan.vms.includes(number));
  return {
    format: MANIFEST_FORMAT,
    formatVersion: MANIFEST_VERSION,
    id: plan.id,
    name: plan.name,
    createdAt,
    toolVersion: config.version,
    state: "recording",
    complete: false,
    host: describeHost(),
    ...(plan.hosts === undefined ? {} : { hosts: plan.hosts }),
    ...startedFrom,
    cluster: spec,
    vms: recorded.map((vm): ManifestVm => ({
      number: vm.number,
      name: vm.name,
      qemu: { ...plan.qemu, rrLogVersion: table.version },
      images: plan.images.get(vm.number)!,
      commandLine: portableCommandLine(
        hardwareOf(spec, vm, rtcBase),
        plan.qemu,
        snapshot !== undefined,
      ),
      ...(snapshot === undefined ? {} : { firstIcount: firstIcountOf(snapshot, vm) }),
      console: `vms/${vm.name}/console.log`,
      logComplete: false,
      logClosed: false,
      end: null,
      totals: null,
    })),
    segments: [],
    timing: { recordS: 0, epochMs: plan.epochMs },
  };
}
