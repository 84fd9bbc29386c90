/** Recordings that are deleted or forgotten, with hosts that are there, away, lost or removed. */
import assert from "node:assert/strict";
import { sleep } from "../sleep.ts";
import { LOST_AFTER_MS, SimulatedWorld } from "./simulated_world_fixture.ts";

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
  (await world.operator.call("recordings.page", { behind: null })).recordings.map(({ id }) => id);

const removed = (world: SimulatedWorld, host: string) => world.agents.get(host)!.removed;

/** The host's connection breaks, and it cannot make another. */
async function isolate(world: SimulatedWorld, host: string): Promise<void> {
  world.isolated.add(host);
  world.wireOf(host)?.break();
  await world.until(() => !world.isConnected(host));
}

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
    assert.deepEqual(removed(world, "left"), [recording]);
    assert.deepEqual(removed(world, "right"), [recording]);
    await reconnect(world, "left");
    assert.deepEqual(await namesOf(world), []);
  });
});

Deno.test("where a host is lost, nothing is deleted; the recording can be forgotten", async () => {
  await withRecording(async (world, recording) => {
    await isolate(world, "right");
    await sleep(LOST_AFTER_MS + 1_000);
    await assert.rejects(
      world.operator.call("recordings.remove", { recording }),
      /Nothing was deleted: .* on right, not connected.*hosts remove NAME.*--keep-files/,
    );
    assert.deepEqual(removed(world, "left"), []);
    assert.deepEqual(await namesOf(world), [recording]);

    await world.operator.call("recordings.forget", { recording });
    assert.deepEqual([removed(world, "left"), await namesOf(world)], [[], []]);
    world.isolated.clear();
    await world.until(() => world.isConnected("right"));
    await sleep(1_000);
    assert.deepEqual(await namesOf(world), [], "it does not come back with the host");
  });
});

Deno.test("a host that is away is waited for, and one that was removed is passed over", async () => {
  await withRecording(async (world, recording) => {
    await isolate(world, "right");
    const removing = world.operator.call("recordings.remove", { recording });
    await sleep(LOST_AFTER_MS / 2);
    world.isolated.clear();
    await removing;
    assert.deepEqual([removed(world, "left"), removed(world, "right")], [[recording], [recording]]);
  });
  await withRecording(async (world, recording) => {
    await isolate(world, "right");
    await world.operator.call("hosts.remove", { name: "right" });
    await world.operator.call("recordings.remove", { recording });
    assert.deepEqual([removed(world, "left"), removed(world, "right")], [[recording], []]);
    assert.deepEqual(await namesOf(world), []);
  });
});
