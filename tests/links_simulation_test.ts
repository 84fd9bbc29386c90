/**
 * Replays over hosts without sockets: seeded schedules of loss, copies, reordering, delay, partitions, broken
 * connections and killed agents, over recordings of the simulated cluster. A failure names its seed;
 * `SIMULATION_SEED=n` runs that one alone.
 */
import assert from "node:assert/strict";
import {
  type LinkedOptions,
  type LinkedRecording,
  makeSchedule,
  openLinkedRecording,
  replayLinked,
} from "./simulation/linked_cluster.ts";
import { recordCluster, type Recorded } from "./simulation/cluster.ts";
import { NO_FAULTS } from "./simulation/recorded_world.ts";

const RECORDINGS = 40;
const SCHEDULES = 100;

interface Prepared {
  readonly recorded: Recorded;
  readonly linked: LinkedRecording;
}

/** Recordings of several VMs, which all schedules use. */
async function makeRecordings(root: string): Promise<Prepared[]> {
  const made = await Promise.all(Array.from({ length: RECORDINGS }, async (_, seed) => {
    const directory = `${root}/recording${seed}`;
    const recorded = await recordCluster(seed, directory, NO_FAULTS);
    return { recorded, linked: openLinkedRecording(directory, recorded.world.vms.length) };
  }));
  return made.filter(({ recorded }) => recorded.world.vms.length > 1);
}

async function withRecordings(work: (recordings: Prepared[], root: string) => Promise<void>) {
  const root = await Deno.makeTempDir({ prefix: "clrr-links-" });
  try {
    await work(await makeRecordings(root), root);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

/** Every VM went through what the recorded one did, and every frame was compared. */
async function replaySchedule(
  seed: number,
  recordings: readonly Prepared[],
  root: string,
  options: LinkedOptions = {},
) {
  const { recorded, linked } = recordings[seed % recordings.length]!;
  const vms = recorded.world.vms;
  const schedule = makeSchedule(seed, vms.length);
  const replay = await replayLinked(linked, schedule, `${root}/schedule${seed}`, options);
  const again = replay.worlds.flatMap((world) => world.vms).sort((a, b) => a.number - b.number);
  assert.equal(again.length, vms.length);
  for (const [i, vm] of vms.entries()) {
    assert.equal(again[i]!.program.state, vm.program.state, `state of ${vm.name}`);
    assert.equal(again[i]!.program.icount, vm.program.icount, `icount of ${vm.name}`);
    assert.equal(replay.results[i]!.framesMatched, vm.frames.length, `frames of ${vm.name}`);
  }
  return replay;
}

Deno.test("simulation: whatever happens to links and agents, a replay over hosts is identical", async () => {
  const only = Deno.env.get("SIMULATION_SEED");
  const seeds = only === undefined
    ? Array.from({ length: SCHEDULES }, (_, i) => i)
    : [Number(only)];
  const sums = { frames: 0, retransmissions: 0, duplicates: 0, reconnects: 0, restarts: 0 };
  await withRecordings(async (recordings, root) => {
    for (const seed of seeds) {
      try {
        const { counters, restarts } = await replaySchedule(seed, recordings, root);
        sums.restarts += restarts;
        for (const each of counters) {
          sums.frames += each.framesReceived;
          sums.retransmissions += each.retransmissions;
          sums.duplicates += each.duplicates;
          sums.reconnects += each.reconnects;
        }
      } catch (cause) {
        throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.stack : cause}`, { cause });
      }
    }
  });
  if (only !== undefined) return;
  console.log(`${SCHEDULES} schedules: ${JSON.stringify(sums)}`);
  for (const [name, sum] of Object.entries(sums)) {
    assert.ok(sum > SCHEDULES / 4, `too few ${name}: ${sum}`);
  }
});
