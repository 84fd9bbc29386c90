/**
 * A coordinator, its store, hosts and an operator in one process and in virtual time; everything but the hosts' work and the network is real.
 * Whoever breaks what the protocol demands is noted in {@link SimulatedWorld.breaches}.
 */
import { openStore } from "../catalog/store.ts";
import type { ClusterSpec } from "../cluster/spec.ts";
import { ClusterrrError } from "../errors.ts";
import type { Channel } from "../protocol/channel.ts";
import { OPERATOR_METHODS, type RunStatus } from "../protocol/control.ts";
import { newRunId } from "../protocol/run_id.ts";
import { type Rpc, startRpc } from "../protocol/rpc.ts";
import { sleep } from "../sleep.ts";
import { type Admissions, Coordinator } from "./coordinator.ts";
import { SimulatedAgent } from "./simulated_agent_fixture.ts";
import {
  type RecordingConduct,
  type RecordingStep,
  type SimulatedRecording,
  type StepWitness,
  vmNameOf,
} from "./simulated_recording_fixture.ts";
import type { ReplayConduct } from "./simulated_replay_fixture.ts";
import { CoordinatorStore } from "./store.ts";
import { randomOf, VirtualTime } from "./virtual_time_fixture.ts";
import { Wire } from "./wire_fixture.ts";

export const LOST_AFTER_MS = 10_000;
const COORDINATOR = { role: "coordinator", name: "coordinator", serial: "1" } as const;
const HOUR_MS = 3_600_000;

/** Who has which certificate, without certificates. */
export class SimulatedAdmissions implements Admissions {
  readonly #revoked = new Set<string>();
  readonly invited: string[] = [];
  invite(role: string, name: string): Promise<string> {
    this.invited.push(`${role} ${name}`);
    return Promise.resolve(`token of ${name}`);
  }
  revoke(role: string, name: string): Promise<void> {
    this.#revoked.add(`${role} ${name}`);
    return Promise.resolve();
  }
  renew(): Promise<string> {
    return Promise.resolve("a certificate");
  }
  isKnown(_role: string, name: string): Promise<boolean> {
    return Promise.resolve(!name.startsWith("un"));
  }
  revoked(): Promise<string[]> {
    return Promise.resolve([...this.#revoked].map((_, i) => (i + 1).toString(16)));
  }
  revokedNames(role: string): Promise<ReadonlySet<string>> {
    const names = [...this.#revoked].map((each) => each.split(" ")).filter(([r]) => r === role);
    return Promise.resolve(new Set(names.map(([, name]) => name!)));
  }
}

/** A coordinator's process. */
interface Process {
  isAlive: boolean;
  coordinator: Coordinator | undefined;
}

export interface WorldOptions {
  readonly seed?: number;
  readonly forgetsRuns?: boolean;
  readonly path?: string;
}

export class SimulatedWorld {
  readonly admissions = new SimulatedAdmissions();
  readonly agents = new Map<string, SimulatedAgent>();
  /** What the protocol does not allow, and happened. */
  readonly breaches: string[] = [];
  readonly recordingConducts = new Map<string, Partial<RecordingConduct>>();
  readonly replayConducts = new Map<string, Partial<ReplayConduct>>();
  /** Hosts that cannot reach the coordinator. */
  readonly isolated = new Set<string>();
  /** Hosts whose part of a recording was cut off from the coordinator for long, or is gone. */
  readonly troubled = new Set<string>();
  /** Replays of which a host has told that they diverge. */
  readonly diverged = new Set<string>();
  readonly random: () => number;
  messages = 0;
  onMessage: (count: number) => void = () => {};
  readonly #wires = new Map<string, Wire>();
  #process: Process | undefined;
  #operator: { rpc: Rpc<typeof OPERATOR_METHODS>; wire: Wire } | undefined;

  private constructor(
    readonly time: VirtualTime,
    readonly kv: Deno.Kv,
    private readonly options: WorldOptions,
  ) {
    this.random = randomOf(options.seed ?? 1);
  }

  /** Makes a world, lets `work` happen in it, and ends everything. */
  static async run<T>(
    options: WorldOptions,
    work: (world: SimulatedWorld) => Promise<T>,
  ): Promise<T> {
    const kv = await openStore(options.path ?? ":memory:");
    const time = new VirtualTime();
    const world = new SimulatedWorld(time, kv, options);
    try {
      return await time.run(async () => {
        try {
          return await work(world);
        } finally {
          world.killCoordinator();
          for (const agent of world.agents.values()) agent.kill();
        }
      }, HOUR_MS);
    } finally {
      kv.close();
    }
  }

  get store(): CoordinatorStore {
    return new CoordinatorStore(this.time.kvFor(this.kv, () => true));
  }

  get coordinator(): Coordinator | undefined {
    return this.#process?.coordinator;
  }

  async startCoordinator(): Promise<void> {
    if (this.#process !== undefined) return;
    const process: Process = { isAlive: true, coordinator: undefined };
    this.#process = process;
    const kv = this.time.kvFor(this.kv, () => process.isAlive);
    const coordinator = await Coordinator.open(new CoordinatorStore(kv), this.admissions, {
      version: "0.0.0",
    });
    if (process.isAlive) process.coordinator = coordinator;
    else coordinator.close();
  }

  /** Without ceremony: what is under way is lost, what it would do next does not happen. */
  killCoordinator(): void {
    const process = this.#process;
    if (process === undefined) return;
    process.isAlive = false;
    this.#process = undefined;
    for (const wire of this.#wires.values()) wire.break();
    this.#operator?.wire.break();
    this.#operator = undefined;
    process.coordinator?.close();
  }

  async startAgents(...names: string[]): Promise<void> {
    for (const name of names) this.startAgent(name);
    await this.until(() => names.every((name) => this.isConnected(name)));
  }

  isConnected(name: string): boolean {
    return this.coordinator?.overview().hosts.some((host) =>
      host.name === name && host.connected
    ) ?? false;
  }

  startAgent(name: string): SimulatedAgent {
    const left = [...this.agents.get(name)?.replays.keys() ?? []];
    const agent = new SimulatedAgent(name, {
      diverged: this.diverged,
      connect: (agent) => this.#connect(agent),
      witness: this.#witness,
      recordingConduct: (host) => ({
        stepMs: () => 1 + this.random() * 40,
        fails: new Set<RecordingStep>(),
        powersOffAfterMs: Infinity,
        breaksAfterMs: Infinity,
        ...this.recordingConducts.get(host),
      }),
      replayConduct: (host) => ({
        prepareMs: 200,
        replayMs: 2_000,
        ends: "well" as const,
        tickMs: 0,
        ...this.replayConducts.get(host),
      }),
      lostAfterMs: LOST_AFTER_MS,
      forgetsRuns: this.options.forgetsRuns ?? false,
    }, left);
    this.agents.set(name, agent);
    return agent;
  }

  /** The agent's process is killed, its VMs with it. */
  restartAgent(name: string): SimulatedAgent {
    this.troubled.add(name);
    this.agents.get(name)!.kill();
    this.#wires.get(name)?.break();
    return this.startAgent(name);
  }

  wireOf(name: string): Wire | undefined {
    return this.#wires.get(name);
  }

  async #connect(agent: SimulatedAgent): Promise<Channel> {
    await sleep(5);
    if (this.isolated.has(agent.name)) throw new ClusterrrError("no route");
    const { ends, wire } = this.#open({ role: "agent", name: agent.name, serial: "2" });
    this.#wires.set(agent.name, wire);
    return ends;
  }

  #open(peer: { role: "agent" | "operator"; name: string; serial: string }) {
    const coordinator = this.#process?.coordinator;
    if (coordinator === undefined) throw new ClusterrrError("connection refused");
    const wire = new Wire(COORDINATOR, peer, {
      latencyMs: () => 0.5 + this.random() * 3,
      onMessage: () => this.onMessage(++this.messages),
    });
    coordinator.accept(wire.ends[0]);
    return { ends: wire.ends[1], wire };
  }

  /** A raw connection, as whoever has such a certificate gets it. */
  connectAs(role: "agent" | "operator", name: string): Channel {
    return this.#open({ role, name, serial: "3" }).ends;
  }

  get operator(): Rpc<typeof OPERATOR_METHODS> {
    if (this.#operator === undefined || !this.#operator.wire.isOpen) {
      const { ends, wire } = this.#open({ role: "operator", name: "op", serial: "3" });
      const rpc = startRpc(ends, { serves: {}, handlers: {}, calls: OPERATOR_METHODS });
      this.#operator = { rpc, wire };
    }
    return this.#operator.rpc;
  }

  /** Begins a recording. @returns its id */
  async record(
    placement: Readonly<Record<string, readonly number[]>>,
    { forMs, epochMs = 250 }: { forMs?: number; epochMs?: number } = {},
  ): Promise<string> {
    const placed = Object.entries(placement).map(([host, vms]) => ({ host, vms: [...vms] }));
    const { run } = await this.operator.call("runs.record", {
      run: newRunId(),
      name: "a recording",
      createdAt: new Date().toISOString(),
      cluster: clusterOf(placed.flatMap(({ vms }) => vms)),
      text: "name: demo",
      images: [],
      placement: placed,
      digestEveryMs: 0,
      epochMs,
      ...(forMs === undefined ? {} : { forMs }),
    });
    return run;
  }

  /** Waits until a run has ended, over whatever happens to the coordinator. */
  async ended(run: string): Promise<RunStatus> {
    for (;;) {
      const status = await this.status(run).catch(() => undefined);
      if (status?.ended) return status;
      await sleep(100);
    }
  }

  async status(run: string): Promise<RunStatus> {
    return await this.operator.call("runs.status", { run });
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await sleep(5);
  }

  recordingOn(host: string, run: string): SimulatedRecording {
    const recording = this.agents.get(host)!.recordings.get(run);
    if (recording === undefined) throw new Error(`no recording ${run} on ${host}`);
    return recording;
  }

  /** What has to hold once everything is reachable again and has had its time. */
  async check(): Promise<string[]> {
    const problems = [...this.breaches];
    const runs = await this.store.runs();
    const entries = await this.store.recordings();
    for (const stored of runs) {
      const { run, ended, phase, kind, failure } = stored;
      if (kind === "replay" && failure?.includes("has no replay")) {
        problems.push(`replay ${run} ended because an agent was started again: ${failure}`);
      }
      if (!ended) problems.push(`run ${run} has not ended: ${phase}`);
      if (kind === "replay" && ended && failure === undefined) {
        const { results = [], placement } = stored;
        const diverges = results.some(({ divergence }) => divergence !== undefined);
        if (diverges !== this.diverged.has(run)) {
          problems.push(`replay ${run} ${diverges ? "was made to diverge" : "hides a divergence"}`);
        }
        if (!diverges && results.length !== placement.length) {
          problems.push(`replay ${run} has ${results.length} results of ${placement.length} hosts`);
        }
      }
    }
    for (const [name, agent] of this.agents) {
      for (const [run, part] of agent.recordings) {
        if (part.phase !== "concluded") problems.push(`${name} has ${run} in phase ${part.phase}`);
        if (!part.hasRecorded) continue;
        const entry = entries.find(({ id }) => id === run);
        const there = new Set(entry?.vms.map(({ name }) => name));
        const missing = part.vms.map(vmNameOf).filter((vm) => !there.has(vm));
        if (missing.length > 0) problems.push(`the entry of ${run} lacks ${missing} of ${name}`);
        if (entry !== undefined && entry.vms.length !== there.size) {
          problems.push(`the entry of ${run} has a VM twice`);
        }
      }
      for (const run of agent.replays.keys()) problems.push(`${name} still replays ${run}`);
    }
    return problems;
  }

  /** Every other part of the same recording on a host that was never cut off for long. */
  #others({ plan, host }: SimulatedRecording): SimulatedRecording[] {
    return plan.placement.filter((each) => each.host !== host && !this.troubled.has(each.host))
      .flatMap((each) => this.agents.get(each.host)?.recordings.get(plan.run) ?? []);
  }

  readonly #witness: StepWitness = (step, part) => {
    if (this.troubled.has(part.host)) return;
    const others = this.#others(part);
    const breach = (what: string, other: SimulatedRecording) =>
      this.breaches.push(`${part.host}: ${step} while ${other.host} is ${what}`);
    for (const other of others) {
      if (step === "arm" && other.phase === "preparing") breach("preparing", other);
      if (step === "run" && ["preparing", "prepared"].includes(other.phase)) {
        breach(other.phase, other);
      }
      if (step === "tick" && other.phase === "running" && other.epoch < part.epoch) {
        breach(`still in epoch ${other.epoch}, this one in ${part.epoch}`, other);
      }
      if (step === "seal" && other.isRunning) breach("running", other);
    }
  };
}

export function clusterOf(vms: readonly number[]): ClusterSpec {
  return {
    name: "demo",
    network: {},
    qemu: {
      program: "qemu-system-x86_64",
      machine: "q35",
      cpu: "qemu64",
      icountShift: 1,
      nic: "vmxnet3",
    },
    vms: vms.map((number) => ({
      number,
      name: vmNameOf(number),
      memoryMiB: 128,
      kernel: "/boot/vmlinuz",
      kernelArgs: "",
      disks: [],
      mac: `52:54:00:00:${(number >> 8).toString(16).padStart(2, "0")}:${
        (number & 255).toString(16).padStart(2, "0")
      }`,
    })),
  };
}
