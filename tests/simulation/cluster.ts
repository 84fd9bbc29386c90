/** Records and replays a simulated cluster through the real roles and real hybrid logs on disk. */
import { runReader } from "../../hypervisor/rr_log/runs.ts";
import { RrLogScanner } from "../../hypervisor/rr_log/scanner.ts";
import { replayPreamble, syntheticEnd } from "../../hypervisor/rr_log/stream.ts";
import type { HybridTotals } from "../../lib/recording/hybrid_log.ts";
import { HybridLogReader } from "../../lib/recording/hybrid_log_reader.ts";
import { HybridLogWriter } from "../../lib/recording/hybrid_log_writer.ts";
import { RecordingAgent } from "../../lib/roles/recording_agent.ts";
import { coordinateRecording, type RecordingEnd } from "../../lib/roles/recording_coordinator.ts";
import { commonWindow } from "../../lib/roles/common_window.ts";
import { countUses, takeCensus } from "../../lib/roles/log_census.ts";
import { HybridSource } from "../../lib/roles/replay_source.ts";
import { ReplayingAgent, type VmReplayResult } from "../../lib/roles/replaying_agent.ts";
import { RetransmissionQueue } from "../../net/retransmit/queue.ts";
import { Random } from "./random.ts";
import { COOKIE, type Faults, RecordedWorld, STDIO_BYTES } from "./recorded_world.ts";
import { ReplayedWorld } from "./replayed_world.ts";
import { TABLE } from "./rr_bytes.ts";

const VMS_MAX = 4;
/** No seed's replay stands still for so long on its own, however busy the host is. */
const STALL_MS = 4000;

export interface Recorded {
  readonly directory: string;
  readonly world: RecordedWorld;
  readonly end: RecordingEnd;
  readonly totals: readonly HybridTotals[];
  /** One for each host. */
  readonly agents: readonly RecordingAgent[];
}

/** Something that happens to the cluster while it is recorded. */
export type Incident = (world: RecordedWorld, interrupt: AbortController, random: Random) => void;

/**
 * Records one cluster below `directory`, on as many hosts as `hosts` says; all that happens follows from
 * `seed`.
 */
export async function recordCluster(
  seed: number,
  directory: string,
  faults: Faults,
  incident: Incident = () => {},
  hosts = 1,
  checkEveryMs = 0,
): Promise<Recorded> {
  const random = new Random(seed);
  const world = new RecordedWorld(random, random.between(hosts, VMS_MAX), faults, hosts);
  const logs = world.vms.map((vm) =>
    new HybridLogWriter(`${directory}/${vm.name}`, {
      vm: vm.number,
      rrLogVersion: TABLE.version,
      compressionLevel: 1,
      blockBytes: random.pick([40, 400, 4000]),
      segmentBytes: random.pick([500, 5000, 64 << 20]),
    })
  );
  const agents = world.recorders.map((recorder, host) =>
    new RecordingAgent(
      world.vms.filter((vm) => world.hostOf(vm.number) === host).map((vm) => ({
        vm,
        log: logs[vm.number - 1]!,
        scanner: (sink) => new RrLogScanner(TABLE, sink, vm.name),
      })),
      recorder,
      {
        checkEveryMs,
        logBufferBytes: STDIO_BYTES,
        ...(hosts === 1 ? {} : { remote: { cookie: COOKIE } }),
      },
    )
  );
  let epoch = 0;
  let behind: RecordingAgent[] = []; // an epoch begins when all hosts have begun the one before
  world.beforePump = () => {
    if (!random.chance(40)) return;
    if (behind.length === 0) {
      epoch += random.between(1, 3);
      behind = [...agents];
    }
    const next = behind.length === 1 ? 0 : random.below(behind.length);
    behind.splice(next, 1)[0]!.tick(epoch);
  };
  const interrupt = new AbortController();
  incident(world, interrupt, random);
  const end = await coordinateRecording(
    agents,
    { durationMs: undefined, epochMs: 0 },
    interrupt.signal,
  );
  const progress = agents.flatMap((agent) => agent.progress());
  const totals = world.vms.map((vm, i) =>
    logs[i]!.close(progress.find(({ number }) => number === vm.number)!.ended === "complete")
  );
  return { directory, world, end, totals, agents };
}

export interface Replayed {
  readonly world: ReplayedWorld;
  readonly results: readonly VmReplayResult[];
  readonly queue: RetransmissionQueue;
}

/** Replays what {@link recordCluster} left in `directory`; the order of things follows from `seed`. */
export async function replayCluster(
  seed: number,
  directory: string,
  vms: number,
  prepare: (world: ReplayedWorld) => void = () => {},
): Promise<Replayed> {
  const windowEpochs = seed % 4 === 0 ? Infinity : seed % 4;
  const world = new ReplayedWorld(new Random(seed), vms);
  prepare(world);
  const open = (vm: { name: string; number: number }) =>
    HybridLogReader.open(`${directory}/${vm.name}`, { vm: vm.number });
  const censuses = new Map(world.vms.map((vm) => {
    const reader = open(vm);
    try {
      return [vm.number, takeCensus(reader, runReader(TABLE, vm.name))];
    } finally {
      reader.close();
    }
  }));
  const queue = new RetransmissionQueue(countUses(censuses));
  const readers = world.vms.map(open);
  try {
    const agent = new ReplayingAgent(
      world.vms.map((vm, i) => ({
        vm,
        source: new HybridSource(
          readers[i]!,
          censuses.get(vm.number)!,
          { preamble: replayPreamble(TABLE), ending: syntheticEnd(TABLE) },
        ),
      })),
      queue,
      world,
      {
        stallMs: STALL_MS,
        likelyCause: "a simulated fault",
        window: commonWindow(censuses, windowEpochs),
      },
    );
    agent.prime();
    const results = await agent.run(new AbortController().signal);
    return { world, results, queue };
  } finally {
    for (const reader of readers) reader.close();
  }
}
