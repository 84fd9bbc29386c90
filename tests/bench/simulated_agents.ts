/**
 * Agents without VMs, against a real coordinator: they join with tokens, keep their connections with the code
 * of real agents, and answer every step of a recording at once. All of them are in this one process, which
 * also is the operator and reads what the coordinator's process uses.
 *
 * A program: `simulated_agents.ts DIRECTORY HOST:PORT PID COUNT`, where DIRECTORY has the operator's identity
 * and PID is the coordinator's. Prints an {@link AgentsRun} as JSON.
 */
import { connectTls } from "../../host/tls/connector.ts";
import { joinCoordinator } from "../../host/tls/join.ts";
import type { ClusterSpec } from "../../lib/cluster/spec.ts";
import { ClusterrrError } from "../../lib/errors.ts";
import type { CaCertificate } from "../../lib/identity/certificates.ts";
import { type Identity, loadIdentity } from "../../lib/identity/files.ts";
import { serverNameOf } from "../../lib/protocol/channel.ts";
import {
  type AGENT_METHODS,
  CONTROL_VERSION,
  OPERATOR_METHODS,
  type RecordedPart,
  type RecordPlan,
  type RecordStatus,
} from "../../lib/protocol/control.ts";
import { newRunId } from "../../lib/protocol/run_id.ts";
import { type Handlers, type Rpc, startRpc } from "../../lib/protocol/rpc.ts";
import { sleep } from "../../lib/sleep.ts";
import { keepCoordinatorLink } from "../../operations/agent/coordinator_link.ts";
import { usageOf } from "./process_usage.ts";

/** VMs of a cluster, one on each host: with more hosts there are several recordings at once. */
export const HOSTS_A_RECORDING = 200;
/** How long only heartbeats are sent, and how long the recordings last. */
const IDLE_MS = 10_000;
const RECORD_MS = 3_000;
const EPOCH_MS = 250;
const JOINS_AT_ONCE = 16;
const DEADLINE_MS = 120_000;

/** What so many agents cost. CPU is the coordinator's. */
export interface AgentsRun {
  readonly agents: number;
  readonly joinS: number;
  readonly joinCpuMs: number;
  /** From the first connection to the answer to the last hello. */
  readonly registerS: number;
  readonly registerCpuMs: number;
  /** Connections that took too long, as all come at once, and were tried again. */
  readonly registerRetries: number;
  readonly idleS: number;
  readonly idleCpuMs: number;
  /** Before any agent, and with all of them connected. */
  readonly rssBytesBefore: number;
  readonly rssBytes: number;
  readonly recordings: number;
  /** From the first `runs.record` to the last host that runs. */
  readonly startS: number;
  readonly startCpuMs: number;
  /** From there to the end of all recordings, which last {@link RECORD_MS}. */
  readonly recordS: number;
  readonly recordCpuMs: number;
  readonly rssBytesRecording: number;
  readonly ticks: number;
}

const SERVER_NAME = serverNameOf({ role: "coordinator", name: "coordinator" });
const SHA = "ab".repeat(32);
const QEMU = { path: "/usr/bin/qemu-system-x86_64", version: "7.2.22", sha256: SHA };

type Phase = RecordStatus["phase"];

/** One agent. */
class SimulatedAgent {
  registered = false;
  readonly #runs = new Map<string, { plan: RecordPlan; phase: Phase; epoch: number }>();
  readonly #instance = newRunId();

  constructor(
    readonly name: string,
    private readonly identity: Identity,
    private readonly ca: CaCertificate,
    private readonly heard: { ran(): void; ticked(): void; lost(reason: string): void },
  ) {}

  async keepLink(address: string, onHello: () => void, signal: AbortSignal): Promise<void> {
    await keepCoordinatorLink({
      connect: (signal) =>
        connectTls({
          address,
          identity: this.identity,
          ca: this.ca,
          serverName: SERVER_NAME,
          signal,
          timeoutMs: DEADLINE_MS,
        }),
      handlers: this.#handlers,
      hello: () => ({
        protocol: CONTROL_VERSION,
        toolVersion: "0.1.0",
        instance: this.#instance,
        link: { host: "192.0.2.1", port: 7401 },
        host: { kernel: "6.18.0", cpu: "simulated", cores: 2, memoryMiB: 8192 },
        qemu: QEMU,
        runs: [],
      }),
      onHello,
      lostAfterMs: DEADLINE_MS,
      onLost: () => {},
      onState: ({ connected, reason }) => {
        if (!connected && !signal.aborted) this.heard.lost(`${this.name}: ${reason}`);
      },
    }, signal);
  }

  #move(run: string, phase: Phase) {
    this.#runs.get(run)!.phase = phase;
    return {};
  }

  readonly #handlers: Handlers<typeof AGENT_METHODS> = {
    "record.prepare": (plan) => {
      this.#runs.set(plan.run, { plan, phase: "prepared", epoch: 0 });
      return {};
    },
    "record.arm": ({ run }) => this.#move(run, "armed"),
    "record.run": ({ run }) => {
      this.heard.ran();
      return this.#move(run, "running");
    },
    "record.tick": ({ run, epoch }) => {
      this.heard.ticked();
      this.#runs.get(run)!.epoch = epoch;
      return this.#status(run);
    },
    "record.status": ({ run }) => this.#status(run),
    "record.quiesce": ({ run }) => this.#move(run, "quiet"),
    "record.seal": ({ run }) => this.#move(run, "sealed"),
    "record.abort": () => ({}),
    "record.conclude": ({ run }) => this.#conclude(run),
    "replay.prepare": () => ({}),
    "replay.start": () => ({}),
    "replay.status": () => ({
      phase: "running",
      doing: "",
      vms: [],
      links: [],
      failedElsewhere: false,
    }),
    "replay.stop": () => ({}),
    "recordings.remove": () => ({}),
    "revoked": () => ({}),
  };

  #status(run: string): RecordStatus {
    const { plan, phase, epoch } = this.#runs.get(run)!;
    return {
      phase,
      doing: "",
      epoch,
      finished: false,
      vms: this.#vmsOf(plan).map(({ number, name }) => ({
        number,
        name,
        icount: 1_234_567_890,
        rrLogBytes: 12_345_678,
        storedBytes: 345_678,
        framesSent: 12_345,
        framesInternal: 12_345,
        framesExternal: 12,
        framesUnmatched: 0,
        checks: 12,
        ended: "no",
      })),
    };
  }

  #conclude(run: string): RecordedPart {
    const { plan } = this.#runs.get(run)!;
    this.#runs.delete(run);
    return {
      vms: this.#vmsOf(plan).map(({ number, name }) => ({
        number,
        name,
        qemu: { ...QEMU, rrLogVersion: 0xe0200c },
        images: [{ role: "kernel", path: "/vmlinux", sha256: SHA, bytes: 10_000_000 }],
        commandLine: ["qemu-system-x86_64"],
        console: `vms/${name}/console.log`,
        logComplete: true,
        logClosed: true,
        end: { icount: 1_234_567_890, reason: "duration" },
        totals: {
          rrLogBytes: 12_345_678,
          hybridBytes: 1_234_567,
          storedBytes: 345_678,
          framesInternal: 12_345,
          framesExternal: 12,
          framesUnmatched: 0,
          framesSent: 12_345,
          checks: 12,
          epochs: 12,
        },
      })),
      complete: true,
    };
  }

  #vmsOf({ cluster, placement }: RecordPlan) {
    const { vms } = placement.find(({ host }) => host === this.name)!;
    return cluster.vms.filter(({ number }) => vms.includes(number));
  }
}

/** A cluster of a VM on each of `hosts`. */
function clusterOn(name: string, hosts: readonly string[]): ClusterSpec {
  return {
    name,
    network: {},
    qemu: { program: QEMU.path, machine: "pc", cpu: "qemu64", icountShift: 5, nic: "vmxnet3" },
    vms: hosts.map((host, i) => ({
      number: i + 1,
      name: `vm-${i + 1}`,
      host,
      memoryMiB: 128,
      kernel: "/vmlinux",
      kernelArgs: `role=node ip=10.0.0.${i + 1}/16`,
      disks: [],
      mac: `52:54:00:00:00:${(i + 1).toString(16).padStart(2, "0")}`,
    })),
  };
}

type Operator = Rpc<typeof OPERATOR_METHODS>;

class Bench {
  readonly #agents: SimulatedAgent[] = [];
  readonly #stop = new AbortController();
  readonly #lost: string[] = [];
  readonly #before: ReturnType<typeof usageOf>;
  #ran = 0;
  #ticks = 0;

  constructor(
    private readonly directory: string,
    private readonly address: string,
    private readonly pid: number,
    private readonly operator: Operator,
  ) {
    this.#before = usageOf(pid);
  }

  async run(count: number): Promise<AgentsRun> {
    const joined = await this.#measure(() => this.#join(count));
    const registered = await this.#measure(() => this.#register());
    const retries = this.#lost.splice(0).length;
    await sleep(2_000); // what the handshakes left is collected
    const idle = await this.#measure(() => sleep(IDLE_MS));
    const { rssBytes } = usageOf(this.pid);
    const runs: string[] = [];
    const start = await this.#measure(() => this.#start(runs));
    let rssBytesRecording = 0;
    const record = await this.#measure(async () => {
      await sleep(RECORD_MS - 500);
      rssBytesRecording = usageOf(this.pid).rssBytes;
      for (const run of runs) await this.#ended(run);
    });
    this.#stop.abort();
    if (this.#lost.length > 0) {
      throw new ClusterrrError(`${this.#lost.length} connections were lost: ${this.#lost[0]}`);
    }
    return {
      agents: count,
      joinS: joined.seconds,
      joinCpuMs: joined.cpuMs,
      registerS: registered.seconds,
      registerCpuMs: registered.cpuMs,
      registerRetries: retries,
      idleS: idle.seconds,
      idleCpuMs: idle.cpuMs,
      rssBytesBefore: this.#before.rssBytes,
      rssBytes,
      recordings: runs.length,
      startS: start.seconds,
      startCpuMs: start.cpuMs,
      recordS: record.seconds,
      recordCpuMs: record.cpuMs,
      rssBytesRecording,
      ticks: this.#ticks,
    };
  }

  async #measure(work: () => Promise<void>): Promise<{ seconds: number; cpuMs: number }> {
    const before = usageOf(this.pid);
    const startedAt = performance.now();
    await work();
    const seconds = (performance.now() - startedAt) / 1000;
    return { seconds, cpuMs: usageOf(this.pid).cpuMs - before.cpuMs };
  }

  async #join(count: number): Promise<void> {
    const names = Array.from({ length: count }, (_, i) => `host-${i + 1}`);
    const heard = {
      ran: () => void this.#ran++,
      ticked: () => void this.#ticks++,
      lost: (reason: string) => void this.#lost.push(reason),
    };
    const next = names.values();
    await Promise.all(Array.from({ length: JOINS_AT_ONCE }, async () => {
      for (const name of next) {
        const { token } = await this.operator.call("hosts.invite", {
          role: "agent",
          name,
          validMs: 3_600_000,
        });
        const { identity, ca } = await joinCoordinator({
          address: this.address,
          token,
          name,
          directory: `${this.directory}/agents/${name}`,
        });
        this.#agents.push(new SimulatedAgent(name, identity, ca, heard));
      }
    }));
  }

  async #register(): Promise<void> {
    await within("Not every agent is registered", (done) => {
      let open = this.#agents.length;
      for (const agent of this.#agents) {
        void agent.keepLink(this.address, () => --open === 0 && done(), this.#stop.signal);
      }
    });
  }

  async #start(runs: string[]): Promise<void> {
    const names = this.#agents.map(({ name }) => name);
    for (let from = 0; from < names.length; from += HOSTS_A_RECORDING) {
      const hosts = names.slice(from, from + HOSTS_A_RECORDING);
      const cluster = clusterOn(`bench-${from}`, hosts);
      const { run } = await this.operator.call("runs.record", {
        run: newRunId(),
        name: cluster.name,
        createdAt: new Date().toISOString(),
        cluster,
        text: "",
        images: [],
        placement: hosts.map((host, i) => ({ host, vms: [i + 1] })),
        digestEveryMs: 0,
        epochMs: EPOCH_MS,
        forMs: RECORD_MS,
      });
      runs.push(run);
    }
    const deadline = performance.now() + DEADLINE_MS;
    while (this.#ran < names.length) {
      if (performance.now() > deadline) throw new ClusterrrError("Not every host runs.");
      await sleep(5);
    }
  }

  async #ended(run: string): Promise<void> {
    const deadline = performance.now() + DEADLINE_MS;
    for (;;) {
      const { ended, failure, recording } = await this.operator.call("runs.status", { run });
      if (ended && recording?.complete) return;
      if (ended || performance.now() > deadline) {
        throw new ClusterrrError(`Run ${run} did not end well: ${failure ?? "it goes on"}`);
      }
      await sleep(100);
    }
  }
}

async function within(complaint: string, work: (done: () => void) => void): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(() => reject(new ClusterrrError(complaint)), DEADLINE_MS);
  work(resolve);
  await promise;
  clearTimeout(timer);
}

if (import.meta.main) {
  const [directory, address, pid, count] = Deno.args as [string, string, string, string];
  const { identity, ca } = await loadIdentity(`${directory}/operator`);
  const channel = await connectTls({ address, identity, ca, serverName: SERVER_NAME });
  const operator = startRpc(channel, { serves: {}, handlers: {}, calls: OPERATOR_METHODS });
  const result = await new Bench(directory, address, Number(pid), operator).run(Number(count));
  console.log(JSON.stringify(result));
  Deno.exit(0);
}
