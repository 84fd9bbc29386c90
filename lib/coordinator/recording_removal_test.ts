/** Recordings that are deleted, and what their hosts do afterwards. */
import assert from "node:assert/strict";
import { sleep } from "../sleep.ts";
import { SimulatedWorld } from "./simulated_world_fixture.ts";

const PLACEMENT = { left: [1, 2], right: [3] };

/** Runs `work` with a recording that has ended. */
async function withRecording(
  work: (world: SimulatedWorld, id: string) => Promise<void>,
): Promise<void> {
  await SimulatedWorld.run({}, async (world) => {
    await world.startCoordinator();
    await world.startAgents("left", "right");
    const id = await world.record(PLACEMENT, { forMs: 1_000 });
    await world.ended(id);
    await work(world, id);
    await sleep(1);
  });
}

const namesOf = async (world: SimulatedWorld) =>
  (await world.operator.call("recordings.list", {})).recordings.map(({ id }) => id);

/** The host's connection breaks, and it makes another. */
async function reconnect(world: SimulatedWorld, host: string): Promise<void> {
  world.wireOf(host)?.break();
  await world.until(() => !world.isConnected(host));
  await world.until(() => world.isConnected(host));
  await sleep(1_000);
}

Deno.test("a recording that was deleted does not come back with its hosts", async () => {
  await withRecording(async (world, recording) => {
    await world.operator.call("recordings.remove", { recording });
    assert.deepEqual(world.agents.get("left")!.removed, [recording]);
    assert.deepEqual(world.agents.get("right")!.removed, [recording]);
    await reconnect(world, "left");
    assert.deepEqual(await namesOf(world), []);
  });
});
