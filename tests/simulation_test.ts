/**
 * The whole of recording and replay without QEMU and kernel: seeded clusters of deterministic programs
 * go through the real roles, scanner, hybrid logs and retransmission queue. A failure names its seed;
 * `SIMULATION_SEED=n` runs that one alone.
 */
import assert from "node:assert/strict";
import { DivergenceError } from "../lib/errors.ts";
import { HybridLogReader } from "../lib/recording/hybrid_log_reader.ts";
import { TraceVisitor } from "../lib/recording/testdata/item_trace.ts";
import {
  type Incident,
  recordCluster,
  type Recorded,
  replayCluster,
} from "./simulation/cluster.ts";
import { Random } from "./simulation/random.ts";
import { type Faults, NO_FAULTS, padFrame } from "./simulation/recorded_world.ts";
import type { ReplayedSim } from "./simulation/replayed_world.ts";

/** The recording pump sleeps between its turns: seeds at once use the time. */
const AT_ONCE = 25;

const FAULTY: Faults = { refusedSends: 6, lostSendEvents: 6, lostDeliveryEvents: 6, tapDrops: 10 };

/** Runs `work` for many seeds, each in a directory of its own. */
async function forSeeds(
  count: number,
  work: (seed: number, directory: string) => Promise<void>,
): Promise<void> {
  const only = Deno.env.get("SIMULATION_SEED");
  const seeds = only === undefined ? Array.from({ length: count }, (_, i) => i) : [Number(only)];
  const root = await Deno.makeTempDir({ prefix: "clrr-simulation-" });
  try {
    while (seeds.length > 0) {
      const runs = await Promise.allSettled(
        seeds.splice(0, AT_ONCE).map(async (seed) => {
          const directory = `${root}/${seed}`;
          try {
            await work(seed, directory);
          } catch (cause) {
            throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.stack : cause}`, {
              cause,
            });
          }
          await Deno.remove(directory, { recursive: true });
        }),
      );
      for (const run of runs) if (run.status === "rejected") throw run.reason;
    }
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

function concat(parts: readonly Uint8Array[]): string {
  return parts.map((part) => part.toHex()).join("");
}

/** Every VM of the replay went through what the recorded one did. */
function assertSameRun(recorded: Recorded, replayed: readonly ReplayedSim[]): void {
  for (const [i, vm] of recorded.world.vms.entries()) {
    const again = replayed[i]!;
    assert.equal(again.program.state, vm.program.state, `state of ${vm.name}`);
    assert.equal(again.program.icount, vm.program.icount, `icount of ${vm.name}`);
    assert.equal(concat(again.fed).slice(8), concat(vm.log), `rr log of ${vm.name}`);
  }
}

/**
 * Every reference names a frame that was sent, with the bytes that were received; one to a VM of another
 * host by its recorder's number.
 */
function assertTrueReferences({ directory, world }: Recorded): { internal: number; whole: number } {
  let internal = 0;
  let whole = 0;
  for (const vm of world.vms) {
    const visitor = new TraceVisitor();
    const reader = HybridLogReader.open(`${directory}/${vm.name}`, { vm: vm.number });
    while (reader.nextBlock(visitor));
    reader.close();
    let received = 0;
    for (const item of visitor.items) {
      if (item.item !== "reference" && item.item !== "frame") continue;
      const { frame } = vm.received[received++]!;
      if (item.item === "frame") {
        whole++;
        assert.equal(item.payload, frame.toHex());
      } else {
        internal++;
        const sender = world.vms[item.source - 1]!;
        const remote = world.hostOf(sender.number) !== world.hostOf(vm.number);
        const number = remote ? sender.numberedFrames[item.number]! : item.number;
        const named = sender.frames[number];
        assert.ok(named !== undefined);
        assert.equal(
          padFrame(named).toHex(),
          frame.toHex(),
          `frame ${item.number} of VM ${item.source}`,
        );
      }
    }
  }
  return { internal, whole };
}

/**
 * At every epoch the VMs' cuts are consistent: what a reference stands for was sent before the sender's
 * cut if it was received before the receiver's. (A frame whose event was lost has no known time, but is
 * stored whole: its receiver does not depend on a sender.)
 * @returns how many cuts there are, and how many frames were under way at one
 */
function assertConsistentCuts({ directory, world }: Recorded): { cuts: number; inFlight: number } {
  const cutsOf = world.vms.map((vm) => {
    const reader = HybridLogReader.open(`${directory}/${vm.name}`, { vm: vm.number });
    const visitor = new TraceVisitor();
    while (reader.nextBlock(visitor));
    reader.close();
    let at = 0;
    const cuts = new Map<number, number>();
    const references = new Set<number>();
    for (const item of visitor.items) {
      if (item.item === "events") at += item.bytes.length / 2;
      if (item.item === "frame") at += (item.header.length + item.payload.length) / 2;
      if (item.item === "reference") references.add(at);
      if (item.item === "reference") at += 10 + parseInt(item.header.slice(12), 16);
      if (item.item === "epoch") cuts.set(item.epoch, at);
    }
    assert.equal(at, vm.logBytes, "the places are those of the log");
    return { cuts, references };
  });
  let inFlight = 0;
  for (const [i, vm] of world.vms.entries()) {
    for (const { source, sendNumber, at } of vm.received) {
      if (source === 0 || !cutsOf[i]!.references.has(at)) continue;
      const sent = world.vms[source - 1]!.sentAt[sendNumber]!;
      for (const [epoch, cut] of cutsOf[i]!.cuts) {
        const sendersCut = cutsOf[source - 1]!.cuts.get(epoch) ?? Infinity;
        if (at < cut) assert.ok(sent < sendersCut, `epoch ${epoch}: received, but not yet sent`);
        else if (sent < sendersCut) inFlight++;
      }
    }
  }
  return { cuts: cutsOf.reduce((sum, { cuts }) => sum + cuts.size, 0), inFlight };
}

Deno.test("simulation: every epoch's cuts are one consistent state of the cluster", async () => {
  let cuts = 0;
  let inFlight = 0;
  await forSeeds(150, async (seed, directory) => {
    const faults = { ...NO_FAULTS, lostSendEvents: seed % 3, lostDeliveryEvents: seed % 5 };
    const found = assertConsistentCuts(await recordCluster(seed, directory, faults));
    cuts += found.cuts;
    inFlight += found.inFlight;
  });
  if (Deno.env.get("SIMULATION_SEED") !== undefined) return;
  assert.ok(cuts > 1000 && inFlight > 1000, `${cuts} cuts, ${inFlight} frames under way at one`);
});

Deno.test("simulation: whatever the network did, replays are identical and nothing is stored twice", async () => {
  let internal = 0;
  await forSeeds(150, async (seed, directory) => {
    const recorded = await recordCluster(seed, directory, NO_FAULTS);
    assert.deepEqual(recorded.end, { by: "poweroff" });
    assertTrueReferences(recorded);
    for (const [i, vm] of recorded.world.vms.entries()) {
      const totals = recorded.totals[i]!;
      assert.equal(totals.complete, true);
      assert.equal(totals.framesUnmatched, 0, `unmatched frames of ${vm.name}`);
      const external = vm.received.filter(({ source }) => source === 0).length;
      assert.equal(totals.framesExternal, external);
      assert.equal(totals.framesInternal, vm.received.length - external);
      assert.equal(totals.framesSent, vm.frames.length);
      internal += totals.framesInternal;
    }
    for (const run of [1, 2]) {
      const replayed = await replayCluster(seed + 1e6 * run, directory, recorded.world.vms.length);
      assertSameRun(recorded, replayed.world.vms);
      assert.equal(replayed.queue.heldBytes, 0, "every frame was taken as often as it was counted");
      for (const [i, result] of replayed.results.entries()) {
        assert.equal(result.framesMatched, recorded.world.vms[i]!.frames.length);
        assert.equal(result.cutOff, undefined);
      }
    }
  });
  if (Deno.env.get("SIMULATION_SEED") === undefined) assert.ok(internal > 3000, `${internal}`);
});

Deno.test("simulation: lost events, refused sends and full taps cost bytes, never the replay", async () => {
  let internal = 0;
  let whole = 0;
  await forSeeds(150, async (seed, directory) => {
    const recorded = await recordCluster(seed, directory, FAULTY);
    const found = assertTrueReferences(recorded);
    internal += found.internal;
    whole += found.whole;
    const replayed = await replayCluster(seed, directory, recorded.world.vms.length);
    assertSameRun(recorded, replayed.world.vms);
  });
  if (Deno.env.get("SIMULATION_SEED") !== undefined) return;
  assert.ok(internal > 1000, `${internal} frames identified, ${whole} stored whole`);
});

Deno.test("simulation: VMs on several hosts record frames of each other as references", async () => {
  const faults = { ...NO_FAULTS, tunnelLosses: 5, tunnelCopies: 5 };
  let cuts = 0;
  let inFlight = 0;
  let remote = 0;
  await forSeeds(150, async (seed, directory) => {
    const hosts = 2 + seed % 2;
    const recorded = await recordCluster(seed, directory, faults, undefined, hosts);
    assert.deepEqual(recorded.end, { by: "poweroff" });
    assertTrueReferences(recorded);
    const found = assertConsistentCuts(recorded);
    cuts += found.cuts;
    inFlight += found.inFlight;
    const { world } = recorded;
    for (const [i, vm] of world.vms.entries()) {
      const totals = recorded.totals[i]!;
      assert.equal(totals.framesUnmatched, 0, `unmatched frames of ${vm.name}`);
      const external = vm.received.filter(({ source }) => source === 0).length;
      assert.equal(totals.framesInternal, vm.received.length - external);
      const elsewhere = ({ source }: { source: number }) =>
        source !== 0 && world.hostOf(source) !== world.hostOf(vm.number);
      remote += vm.received.filter(elsewhere).length;
    }
    const replayed = await replayCluster(seed, directory, world.vms.length);
    assertSameRun(recorded, replayed.world.vms);
    assert.equal(replayed.queue.heldBytes, 0);
  });
  if (Deno.env.get("SIMULATION_SEED") !== undefined) return;
  assert.ok(cuts > 1000 && inFlight > 500, `${cuts} cuts, ${inFlight} frames under way at one`);
  assert.ok(remote > 2000, `${remote} frames between hosts`);
});

Deno.test("simulation: lost events, full taps and missing hashes on several hosts cost bytes only", async () => {
  const faults = { ...FAULTY, refusedSends: 0, tunnelLosses: 5, tunnelCopies: 5, tunnelHashes: 10 };
  let internal = 0;
  await forSeeds(150, async (seed, directory) => {
    const recorded = await recordCluster(seed, directory, faults, undefined, 2 + seed % 3);
    internal += assertTrueReferences(recorded).internal;
    assertConsistentCuts(recorded);
    const replayed = await replayCluster(seed, directory, recorded.world.vms.length);
    assertSameRun(recorded, replayed.world.vms);
  });
  if (Deno.env.get("SIMULATION_SEED") === undefined) assert.ok(internal > 300, `${internal}`);
});

Deno.test("simulation: the agent's drifts lead from the recorder's numbers to those of the log", async () => {
  let drifted = 0;
  await forSeeds(100, async (seed, directory) => {
    const faults = { ...NO_FAULTS, refusedSends: 6 };
    const recorded = await recordCluster(seed, directory, faults, undefined, 2);
    assertTrueReferences(recorded);
    const { world, agents } = recorded;
    for (const vm of world.vms) {
      const agent = agents[world.hostOf(vm.number)]!;
      const drifts = agent.sendDrifts(vm.number, true);
      const refused = vm.frames.length - vm.numberedFrames.length;
      assert.equal(drifts.at(-1)?.frames ?? 0, refused);
      for (const [n, truth] of vm.numberedFrames.entries()) {
        const frames = drifts.findLast(({ from }) => from <= n)?.frames ?? 0;
        assert.ok(n + frames <= truth, "never a later frame");
        const doubt = drifts.some(({ from, doubtFrom }) => doubtFrom <= n && n < from);
        if (doubt) continue;
        assert.equal(n + frames, truth);
        if (frames > 0) drifted++;
      }
    }
    for (const agent of agents) {
      assert.throws(() => agent.sendDrifts(99, true), /not recorded by this/);
    }
  });
  if (Deno.env.get("SIMULATION_SEED") === undefined) assert.ok(drifted > 20, `${drifted}`);
});

/** At a random step of a random VM's run. */
function atSomeStep(what: (world: Parameters<Incident>[0], interrupt: AbortController) => void) {
  return ((world, interrupt, random) => {
    const at = random.below(70 * world.vms.length);
    world.beforeStep = (steps) => {
      if (steps === at) what(world, interrupt);
    };
  }) satisfies Incident;
}

Deno.test("simulation: a recording that was interrupted is complete and replays to where it stopped", async () => {
  let interrupted = 0;
  await forSeeds(100, async (seed, directory) => {
    const incident = atSomeStep((_world, interrupt) => interrupt.abort());
    const recorded = await recordCluster(seed, directory, NO_FAULTS, incident);
    if (recorded.end.by === "interrupt") interrupted++;
    assert.ok(recorded.totals.every(({ complete }) => complete));
    const replayed = await replayCluster(seed, directory, recorded.world.vms.length);
    assertSameRun(recorded, replayed.world.vms);
  });
  if (Deno.env.get("SIMULATION_SEED") === undefined) assert.ok(interrupted > 50, `${interrupted}`);
});

Deno.test("simulation: a VM whose log is cut off, and those that wait for it, end with cutOff", async () => {
  let cut = 0;
  await forSeeds(150, async (seed, directory) => {
    const incident = atSomeStep(({ vms, random }) => random.pick(vms).crash());
    const recorded = await recordCluster(seed, directory, NO_FAULTS, incident);
    const crashed = recorded.totals.findIndex(({ complete }) => !complete);
    if (crashed < 0) assert.deepEqual(recorded.end, { by: "poweroff" });
    else {
      assert.ok(recorded.end.by === "failure", `ended by ${recorded.end.by}`);
      const name = recorded.world.vms[crashed]!.name;
      assert.match(recorded.end.error.message, new RegExp(`VM ${name} was ended by SIGKILL`));
    }
    const replayed = await replayCluster(seed, directory, recorded.world.vms.length);
    for (const [i, vm] of recorded.world.vms.entries()) {
      const { cutOff, framesMatched } = replayed.results[i]!;
      const again = replayed.world.vms[i]!;
      if (cutOff !== undefined) {
        cut++;
        assert.match(cutOff, /^waits for frame \d+ of VM vm\d, which ended before it$/);
        assert.equal(again.killed, true);
        assert.equal(again.unreadLog(), 0, "it has done all that does not need that frame");
        assert.ok(recorded.totals.some(({ complete }) => !complete));
      } else if (recorded.totals[i]!.complete) {
        assert.equal(again.program.state, vm.program.state);
        assert.equal(framesMatched, vm.frames.length);
      }
      // Its log, as far as it goes, and then how it was closed.
      const fed = concat(again.fed).slice(8);
      const whole = cutOff === undefined ? fed.length - 4 : fed.length;
      assert.equal(fed.slice(0, whole), concat(vm.log).slice(0, whole), vm.name);
    }
  });
  if (Deno.env.get("SIMULATION_SEED") === undefined) assert.ok(cut > 5, `${cut}`);
});

Deno.test("simulation: a VM that cannot be looked at ends the recording", async () => {
  await forSeeds(1, async (seed, directory) => {
    const forever: Incident = ({ vms }) => vms.forEach((vm) => vm.left = Infinity);
    const { end, totals } = await recordCluster(seed, directory, NO_FAULTS, forever, 1, 5);
    assert.ok(end.by === "failure", `ended by ${end.by}`);
    assert.match(
      end.error.message,
      /Cannot take the state of VM vm1: the simulation has no states/,
    );
    assert.ok(totals.every(({ closed, storedBytes }) => closed && storedBytes > 0));
  });
});

Deno.test("simulation: segments cut anywhere replay up to there", async () => {
  let cut = 0;
  await forSeeds(100, async (seed, directory) => {
    const recorded = await recordCluster(seed, directory, NO_FAULTS);
    const random = new Random(seed);
    const vm = random.pick(recorded.world.vms);
    const last = recorded.totals[vm.number - 1]!.segments.at(-1)!;
    const path = `${directory}/${vm.name}/${last.file}`;
    await Deno.truncate(path, random.below(last.bytes));
    const replayed = await replayCluster(seed, directory, recorded.world.vms.length);
    for (const [i, { cutOff }] of replayed.results.entries()) {
      const log = concat(recorded.world.vms[i]!.log);
      const fed = concat(replayed.world.vms[i]!.fed).slice(8);
      const closing = cutOff === undefined && recorded.world.vms[i] === vm ? 4 : 0;
      const whole = fed.length - closing;
      if (cutOff !== undefined) cut++;
      else if (recorded.world.vms[i] !== vm) assert.equal(fed, log);
      if (fed !== log) assert.equal(fed.slice(0, whole), log.slice(0, whole));
      else assert.equal(replayed.world.vms[i]!.program.state, recorded.world.vms[i]!.program.state);
    }
  });
  if (Deno.env.get("SIMULATION_SEED") === undefined) assert.ok(cut > 5, `${cut}`);
});

Deno.test("simulation: a changed frame is a divergence that names VM and send number", async () => {
  let tried = 0;
  await forSeeds(150, async (seed, directory) => {
    const recorded = await recordCluster(seed, directory, NO_FAULTS);
    const random = new Random(seed);
    const senders = recorded.world.vms.filter(({ frames }) => frames.length > 0);
    if (senders.length === 0) return;
    tried++;
    const sender = random.pick(senders);
    const wrong = random.below(sender.frames.length);
    const way = random.below(3);
    const replaying = replayCluster(seed, directory, recorded.world.vms.length, (world) => {
      world.vms[sender.number - 1]!.corrupt = (frame, sendNumber) => {
        if (sendNumber !== wrong) return frame;
        const changed = Uint8Array.from([...frame, 0]);
        if (way === 0) return changed; // a byte more
        if (way === 1) return changed.subarray(0, frame.length - 1); // a byte less
        changed[random.below(frame.length)]! ^= 1 << random.below(8);
        return changed.subarray(0, frame.length);
      };
    });
    await assert.rejects(replaying, (error) => {
      assert.ok(error instanceof DivergenceError, String(error));
      assert.equal(error.divergence.vm, sender.name);
      assert.equal(error.divergence.sendNumber, wrong);
      assert.match(error.message, /sent a different frame/);
      return true;
    });
  });
  if (Deno.env.get("SIMULATION_SEED") === undefined) assert.ok(tried > 100, `${tried}`);
});
