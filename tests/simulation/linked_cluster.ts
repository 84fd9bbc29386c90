/**
 * Replays a simulated recording on several simulated hosts, with real links between them: real spools on
 * disk, the real state machines, virtual time, a network that does what it likes, hosts that are killed.
 */
import { runReader } from "../../hypervisor/rr_log/runs.ts";
import { replayPreamble, syntheticEnd } from "../../hypervisor/rr_log/stream.ts";
import { HybridLogReader } from "../../lib/recording/hybrid_log_reader.ts";
import { type LogCensus, takeCensus } from "../../lib/roles/log_census.ts";
import type { ReadinessPort } from "../../lib/roles/ports.ts";
import { HybridSource } from "../../lib/roles/replay_source.ts";
import { ReplayingAgent, type VmReplayResult } from "../../lib/roles/replaying_agent.ts";
import type { VmNumber } from "../../lib/units.ts";
import {
  type LinkCounters,
  type LinkLimits,
  type LinkParts,
  ReplayLinks,
} from "../../net/retransmit/replay_links.ts";
import { LinkNetwork, type NetworkFaults } from "./link_network.ts";
import { Random } from "./random.ts";
import { ReplayedWorld } from "./replayed_world.ts";
import { TABLE } from "./rr_bytes.ts";
import { VirtualTime } from "./virtual_time.ts";

/** What happens to a replay, all in virtual milliseconds. */
export interface Schedule {
  readonly seed: number;
  readonly hosts: number;
  readonly faults: NetworkFaults;
  readonly windowEpochs: number;
  readonly unacknowledgedBytesMax: number;
  readonly partitions: readonly { at: number; ms: number; a: number; b: number }[];
  readonly restarts: readonly { at: number; host: number; awayMs: number }[];
}

/** Every schedule follows from its seed. */
export function makeSchedule(seed: number, vms: number): Schedule {
  const random = new Random(seed);
  const hosts = Math.min(vms, random.between(2, 3));
  const calm = random.chance(15);
  const some = <T>(percent: number, max: number, make: () => T): T[] =>
    calm || !random.chance(percent) ? [] : Array.from({ length: random.between(1, max) }, make);
  return {
    seed,
    hosts,
    windowEpochs: random.pick([1, 1, 2, 3, Infinity]),
    unacknowledgedBytesMax: random.pick([1, 60, 300, 1 << 20]),
    faults: {
      lost: calm ? 0 : random.pick([0, 0, 5, 20]),
      doubled: calm ? 0 : random.pick([0, 5, 30]),
      delayMax: random.pick([0, 3, 12]),
      breaksEvery: calm ? 0 : random.pick([0, 0, 200, 60]),
    },
    partitions: some(40, 2, () => {
      const a = random.below(hosts);
      const b = (a + random.between(1, hosts - 1)) % hosts;
      return { at: random.below(120), ms: random.between(5, 250), a, b };
    }),
    restarts: some(50, 3, () => ({
      at: random.below(150),
      host: random.below(hosts),
      awayMs: random.below(80),
    })),
  };
}

const LIMITS: Partial<LinkLimits> = {
  resendAfterMs: 30,
  resendAfterMsMax: 120,
  pingMs: 40,
  deadMs: 100,
  reconnectMs: 4,
  reconnectMsMax: 30,
  peerLostMs: 1500,
};
/** Between two turns of an agent, if no message comes before. */
const TURN_MS = 2;
/** Nothing that a schedule does keeps a cluster from moving for so long. */
const STALL_MS = 1000;

/** A recording, with what is the same in all its replays. */
export interface LinkedRecording {
  readonly directory: string;
  readonly censuses: ReadonlyMap<VmNumber, LogCensus>;
}

export function openLinkedRecording(directory: string, vms: number): LinkedRecording {
  const censuses = new Map<VmNumber, LogCensus>();
  for (let vm = 1; vm <= vms; vm++) {
    const reader = HybridLogReader.open(`${directory}/vm${vm}`, { vm });
    censuses.set(vm, takeCensus(reader, runReader(TABLE, `vm${vm}`)));
    reader.close();
  }
  return { directory, censuses };
}

export interface LinkedReplay {
  /** By VM, in rising order. */
  readonly results: readonly VmReplayResult[];
  readonly worlds: readonly ReplayedWorld[];
  readonly counters: readonly LinkCounters[];
  readonly restarts: number;
  /** In virtual time. */
  readonly endedAtMs: number;
}

/** What a test may change. */
export interface LinkedOptions {
  readonly parts?: Partial<LinkParts>;
  readonly prepare?: (world: ReplayedWorld) => void;
}

/** One host: its agent is killed and begins anew as often as the schedule says. */
class SimHost {
  world!: ReplayedWorld;
  links!: ReplayLinks;
  results: readonly VmReplayResult[] | undefined;
  counters: LinkCounters[] = [];
  #incarnation = 0;
  #readers: HybridLogReader[] = [];
  #kill = new AbortController();

  constructor(
    readonly name: string,
    private readonly vms: readonly VmNumber[],
    private readonly cluster: LinkedCluster,
  ) {}

  get spools(): string {
    return `${this.cluster.directory}/${this.name}`;
  }

  begin(): void {
    const { cluster } = this;
    const { recording, schedule, random } = cluster;
    this.#kill = new AbortController();
    const seed = random.below(2 ** 30);
    this.world = new ReplayedWorld(new Random(seed), recording.censuses.size, this.vms);
    cluster.options.prepare?.(this.world);
    this.links = new ReplayLinks({
      runId: `run ${schedule.seed}`,
      name: this.name,
      incarnation: ++this.#incarnation,
      peers: cluster.hosts.filter((host) => host !== this)
        .map(({ name, vms }) => ({ name, vms })),
      censuses: new Map(this.vms.map((vm) => [vm, recording.censuses.get(vm)!])),
      spoolDirectory: this.spools,
      windowEpochs: schedule.windowEpochs,
      connect: (peer) => cluster.network.connect(this.name, peer),
      limits: { ...LIMITS, unacknowledgedBytesMax: schedule.unacknowledgedBytesMax },
      time: cluster.time,
      ...(cluster.options.parts && { parts: cluster.options.parts }),
    });
    cluster.network.listen(this.name, (channel) => this.links.accept(channel));
    this.links.start();
  }

  /** Until it and all others are done, or its agent is killed. */
  async run(): Promise<void> {
    const { recording, time } = this.cluster;
    const { signal } = this.#kill;
    const readiness: ReadinessPort = {
      wait: async () => {
        this.world.goOn();
        await time.sleep(TURN_MS);
      },
      wantWrite: () => {},
    };
    this.#readers = this.vms.map((vm) =>
      HybridLogReader.open(`${recording.directory}/vm${vm}`, { vm })
    );
    const agent = new ReplayingAgent(
      this.world.vms.map((vm, i) => ({
        vm,
        source: new HybridSource(
          this.#readers[i]!,
          recording.censuses.get(vm.number)!,
          { preamble: replayPreamble(TABLE), ending: syntheticEnd(TABLE) },
        ),
      })),
      this.links.frames,
      readiness,
      {
        stallMs: STALL_MS,
        likelyCause: "a simulated fault",
        window: this.links.window,
        elsewhere: this.links.elsewhere,
        now: () => time.now(),
      },
    );
    agent.prime();
    try {
      this.results = await agent.run(signal);
      this.links.done();
      await this.links.settled(signal);
    } catch (error) {
      if (!signal.aborted) await this.links.fail(String(error));
      throw error;
    }
  }

  /** The agent goes at once; a frame that it was writing may be in the spool in part. */
  kill(): void {
    const { random } = this.cluster;
    this.#kill.abort(KILLED);
    this.end();
    this.results = undefined;
    for (const { name } of Deno.readDirSync(this.spools)) {
      if (!random.chance(50)) continue;
      const torn = Uint8Array.from({ length: random.below(40) }, () => random.below(256));
      Deno.writeFileSync(`${this.spools}/${name}`, torn, { append: true });
    }
  }

  end(): void {
    this.counters.push(...this.links.counters());
    this.cluster.network.unlisten(this.name);
    this.links.close();
    for (const reader of this.#readers.splice(0)) reader.close();
  }
}

const KILLED = new Error("the agent was killed");

class LinkedCluster {
  readonly time = new VirtualTime();
  readonly random: Random;
  readonly network: LinkNetwork;
  readonly hosts: readonly SimHost[];
  restarts = 0;

  constructor(
    readonly recording: LinkedRecording,
    readonly schedule: Schedule,
    readonly directory: string,
    readonly options: LinkedOptions,
  ) {
    this.random = new Random(schedule.seed + 1);
    this.network = new LinkNetwork(this.time, new Random(schedule.seed + 2), schedule.faults);
    const placed = Array.from({ length: schedule.hosts }, (): VmNumber[] => []);
    for (const vm of recording.censuses.keys()) {
      const free = placed.find((vms) => vms.length === 0);
      (free ?? this.random.pick(placed)).push(vm);
    }
    this.hosts = placed.map((vms, i) => new SimHost(`host${i}`, vms, this));
  }

  async #runHost(host: SimHost, index: number): Promise<void> {
    const restarts = this.schedule.restarts.filter((restart) => restart.host === index)
      .sort((a, b) => a.at - b.at);
    Deno.mkdirSync(host.spools, { recursive: true });
    for (;;) {
      host.begin();
      const restart = restarts.shift();
      let killed = false;
      const cancel = restart === undefined
        ? () => {}
        : this.time.after(Math.max(1, restart.at - this.time.now()), () => {
          // Once all others are done as well, nobody is there to begin anew for.
          if (this.hosts.every(({ results }) => results !== undefined)) return;
          killed = true;
          host.kill();
        });
      try {
        await host.run();
        return cancel();
      } catch (error) {
        cancel();
        if (!killed) throw error;
      }
      this.restarts++;
      await this.time.sleep(restart!.awayMs);
    }
  }

  async #run(): Promise<LinkedReplay> {
    for (const { at, ms, a, b } of this.schedule.partitions) {
      this.time.after(at, () => this.network.partition(`host${a}`, `host${b}`, ms));
    }
    const runs = await Promise.allSettled(this.hosts.map((host, i) => this.#runHost(host, i)));
    for (const host of this.hosts) host.end();
    const failures = runs.flatMap((run) => run.status === "rejected" ? [run.reason] : []);
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join("\n"));
    return {
      results: this.hosts.flatMap(({ results }) => results!).sort((a, b) => a.number - b.number),
      worlds: this.hosts.map(({ world }) => world),
      counters: this.hosts.flatMap(({ counters }) => counters),
      restarts: this.restarts,
      endedAtMs: this.time.now(),
    };
  }

  run(): Promise<LinkedReplay> {
    return this.time.run(this.#run());
  }
}

/** Replays a recording by a schedule; `directory` is the schedule's own. */
export async function replayLinked(
  recording: LinkedRecording,
  schedule: Schedule,
  directory: string,
  options: LinkedOptions = {},
): Promise<LinkedReplay> {
  try {
    return await new LinkedCluster(recording, schedule, directory, options).run();
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}
