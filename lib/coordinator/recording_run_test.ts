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
