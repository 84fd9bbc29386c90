/** Recordings over simulated hosts, one thing after the other. */
import assert from "node:assert/strict";
import { sleep } from "../sleep.ts";
import { SimulatedWorld } from "./simulated_world_fixture.ts";

const PLACEMENT = { left: [1, 2], right: [3] };

Deno.test("a recording goes from its start to its entry in the store", async () => {
  await SimulatedWorld.run({}, async (world) => {
    await world.startCoordinator();
    await world.startAgents("left", "right");
    const run = await world.record(PLACEMENT, { forMs: 3_000 });
    const status = await world.ended(run);
    assert.equal(status.failure, undefined);
    assert.equal(status.recording?.endedBy, "duration");
    assert.deepEqual(status.recording?.vms.map(({ name }) => name), ["vm1", "vm2", "vm3"]);
    assert.ok(status.recording!.complete);
    assert.ok(Math.abs(status.recording!.recordS - 3) < 0.5);
    for (const host of ["left", "right"]) {
      assert.equal(world.recordingOn(host, run).phase, "concluded");
      assert.ok(world.recordingOn(host, run).epoch >= 11);
    }
    assert.deepEqual(await world.check(), []);
    await sleep(1);
  });
});

Deno.test("an agent that starts again while it prepares is left with nothing that runs", async () => {
  await SimulatedWorld.run({}, async (world) => {
    await world.startCoordinator();
    await world.startAgents("left", "right");
    world.recordingConducts.set("left", { stepMs: (step) => step === "prepare" ? 500 : 5 });
    const run = await world.record(PLACEMENT);
    await sleep(200);
    world.restartAgent("left");
    const status = await world.ended(run);
    assert.match(status.failure ?? "", /Host left started again while it prepared the recording/);
    assert.equal(world.recordingOn("left", run).phase, "concluded");
    assert.deepEqual(await world.check(), []);
  });
});

Deno.test("a run that the store does not take is told to have ended, and is stored later", async () => {
  await SimulatedWorld.run({}, async (world) => {
    await world.startCoordinator();
    await world.startAgents("left", "right");
    const run = await world.record(PLACEMENT);
    await world.until(() => world.recordingOn("left", run).isRunning);
    const set = world.kv.set;
    world.kv.set = () => Promise.reject(new Error("database or disk is full"));
    await world.operator.call("runs.stop", { run });
    const status = await world.ended(run);
    assert.match(status.failure ?? "", /disk is full/);
    assert.equal((await world.store.run(run))!.ended, false);
    world.kv.set = set;
    await sleep(2_000);
    assert.equal((await world.store.run(run))!.ended, true);
    for (const host of ["left", "right"]) {
      assert.equal(world.recordingOn(host, run).phase, "concluded");
    }
  });
});
