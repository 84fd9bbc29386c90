/**
 * Replays over hosts without sockets: seeded schedules of loss, copies, reordering, delay, partitions, broken
 * connections and killed agents, over recordings of the simulated cluster. A failure names its seed;
 * `SIMULATION_SEED=n` runs that one alone.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import {
  type LinkedOptions,
  type LinkedRecording,
  makeSchedule,
  openLinkedRecording,
  replayLinked,
} from "./simulation/linked_cluster.ts";
import { recordCluster, type Recorded } from "./simulation/cluster.ts";
import { BROKEN_LINKS } from "./simulation/broken_links.ts";
import { DivergenceError, PeerFailedError } from "../lib/errors.ts";
import { Random } from "./simulation/random.ts";
import { NO_FAULTS } from "./simulation/recorded_world.ts";

const RECORDINGS = 40;
/** Recordings with more events take longer than they show more. */
const EVENTS_MAX = 200;
const SCHEDULES = 2000;
/** Few recordings at once: one that takes a second of the host's time has its blocks cut elsewhere. */
const AT_ONCE = 8;

/** Thousands of small files: in memory where the system has a place for that. */
const SHARED_MEMORY = "/dev/shm";
const IN_MEMORY = existsSync(SHARED_MEMORY) ? { dir: SHARED_MEMORY } : {};

interface Prepared {
  readonly recorded: Recorded;
  readonly linked: LinkedRecording;
}

/** Recordings of several VMs, which all schedules use. */
async function makeRecordings(root: string): Promise<Prepared[]> {
  const made: Prepared[] = [];
  while (made.length < RECORDINGS) {
    const seeds = Array.from({ length: AT_ONCE }, (_, i) => made.length + i);
    made.push(
      ...await Promise.all(seeds.map(async (seed) => {
        const directory = `${root}/recording${seed}`;
        const recorded = await recordCluster(seed, directory, NO_FAULTS);
        return { recorded, linked: openLinkedRecording(directory, recorded.world.vms.length) };
      })),
    );
  }
  return made.filter(({ recorded: { world: { vms } } }) =>
    vms.length > 1 && vms.reduce((events, { log }) => events + log.length, 0) <= EVENTS_MAX
  );
}

async function withRecordings(work: (recordings: Prepared[], root: string) => Promise<void>) {
  const root = await Deno.makeTempDir({ ...IN_MEMORY, prefix: "clrr-links-" });
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

Deno.test("simulation: a schedule's seed decides everything that happens", async () => {
  await withRecordings(async (recordings, root) => {
    for (const seed of [3, 14, 15]) {
      const runs = [];
      for (let run = 0; run < 2; run++) runs.push(await replaySchedule(seed, recordings, root));
      assert.deepEqual(runs[0]!.counters, runs[1]!.counters, `seed ${seed}`);
      assert.deepEqual(runs[0]!.endedAtMs, runs[1]!.endedAtMs, `seed ${seed}`);
    }
  });
});

/** Seeds until one refutes a broken link. */
const BROKEN_TRIES = 120;

Deno.test("simulation: links with a rule left out are refuted", async () => {
  if (Deno.env.get("SIMULATION_SEED") !== undefined) return;
  await withRecordings(async (recordings, root) => {
    for (const { without, parts, shows } of BROKEN_LINKS) {
      let refuted: unknown;
      for (let seed = 0; seed < BROKEN_TRIES && refuted === undefined; seed++) {
        await replaySchedule(seed, recordings, root, { parts }).catch((error) => refuted = error);
      }
      assert.ok(refuted !== undefined, `without ${without}: ${BROKEN_TRIES} schedules went well`);
      assert.match(String(refuted), shows, `without ${without}`);
    }
  });
});

Deno.test("simulation: a divergence on one host stops all, and says where it was", async () => {
  let tried = 0;
  const tries = 60;
  await withRecordings(async (recordings, root) => {
    for (let seed = 0; seed < tries; seed++) {
      const { recorded } = recordings[seed % recordings.length]!;
      const random = new Random(seed);
      const senders = recorded.world.vms.filter(({ frames }) => frames.length > 0);
      if (senders.length === 0) continue;
      const sender = random.pick(senders);
      const wrong = random.below(sender.frames.length);
      const replaying = replaySchedule(seed, recordings, root, {
        prepare: (world) => {
          const vm = world.vms.find(({ number }) => number === sender.number);
          if (vm === undefined) return;
          vm.corrupt = (frame, sendNumber) =>
            sendNumber === wrong ? Uint8Array.from([...frame, 0]) : frame;
        },
      });
      await assert.rejects(replaying, (error: unknown) => {
        assert.ok(error instanceof AggregateError, `seed ${seed}: ${error}`);
        const at = error.errors.filter((each) => each instanceof DivergenceError);
        const elsewhere = error.errors.filter((each) => each instanceof PeerFailedError);
        assert.equal(at.length + elsewhere.length, error.errors.length, `seed ${seed}: ${error}`);
        assert.ok(
          at.some(({ divergence }) =>
            divergence.vm === sender.name && divergence.sendNumber === wrong
          ),
          `seed ${seed}: ${error}`,
        );
        assert.ok(elsewhere.length > 0, `seed ${seed}: the other hosts went on`);
        return true;
      });
      tried++;
    }
  });
  assert.ok(tried > tries / 2, `${tried}`);
});

Deno.test("simulation: where a recording was cut off, its replay over hosts ends", async () => {
  let cut = 0;
  let divided = 0;
  const root = await Deno.makeTempDir({ ...IN_MEMORY, prefix: "clrr-links-" });
  try {
    const recordings = await Promise.all(Array.from({ length: 160 }, (_, seed) => {
      return recordCluster(seed, `${root}/recording${seed}`, NO_FAULTS, (world, _stop, random) => {
        const at = random.below(70 * world.vms.length);
        world.beforeStep = (steps) => {
          if (steps === at) random.pick(world.vms).crash();
        };
      });
    }));
    for (const [seed, recorded] of recordings.entries()) {
      const { vms } = recorded.world;
      if (vms.length === 1) continue;
      const schedule = makeSchedule(seed, vms.length);
      const linked = openLinkedRecording(recorded.directory, vms.length);
      const replay = await replayLinked(linked, schedule, `${root}/schedule${seed}`)
        .catch((cause) => {
          throw new Error(`seed ${seed}: ${cause}`, { cause });
        });
      const worlds = replay.worlds.map((world) => new Set(world.vms.map(({ number }) => number)));
      for (const { number, cutOff, framesMatched } of replay.results) {
        if (cutOff === undefined && recorded.totals[number - 1]!.complete) {
          assert.equal(framesMatched, vms[number - 1]!.frames.length, `seed ${seed}`);
        }
        if (cutOff === undefined) continue;
        cut++;
        assert.match(cutOff, /^waits for frame \d+ of VM \S+( \d+)?, which ended before it$/);
        const sender = Number(/VM (?:vm|number )(\d+)/.exec(cutOff)![1]);
        if (!worlds.some((here) => here.has(number) && here.has(sender))) divided++;
      }
    }
  } finally {
    await Deno.remove(root, { recursive: true });
  }
  assert.ok(cut > 5 && divided > 2, `${cut} ends, ${divided} because of a VM on another host`);
});
