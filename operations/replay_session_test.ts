/** A session whose VMs do as they are told: what becomes of it when something fails. */
import assert from "node:assert/strict";
import type { QmpClient } from "../hypervisor/qmp/client.ts";
import { withDirectory } from "../lib/cli/command_fixture.ts";
import { SILENT } from "../lib/cli/progress.ts";
import { DivergenceError, HostError, InterruptedError, QmpError } from "../lib/errors.ts";
import type { ClusterCut } from "../lib/roles/cluster_cut.ts";
import type { LogCensus } from "../lib/roles/log_census.ts";
import type { VmNumber } from "../lib/units.ts";
import type { OpenRecording } from "./open_recording.ts";
import { ReplaySession } from "./replay_session.ts";
import { ReplayWorld } from "./replay_world.ts";

/** A session that stands at the start of a recording in `directory` with one VM, called left. */
async function standing(
  directory: string,
  { qmp = {}, censuses, ...worldParts }: Partial<ReplayWorld> & {
    qmp?: Partial<QmpClient>;
    censuses?: OpenRecording["censuses"];
  },
) {
  let isOpen = true;
  const vms = [{ vm: { number: 1, name: "left", qmp } }];
  const world = {
    vms,
    vm: () => vms[0],
    hasEnded: () => false,
    ...worldParts,
    close: () => Promise.resolve(void (isOpen = false)),
  };
  const recording = {
    directory,
    censuses,
    manifest: { vms: [{ number: 1, name: "left" }] },
    spec: { vms: [{ number: 1, name: "left", memoryMiB: 1 }] },
  };
  const session: ReplaySession = Reflect.construct(ReplaySession, [
    recording as unknown as OpenRecording,
    { directory },
    SILENT,
    new AbortController().signal,
  ]);
  const open = ReplayWorld.open;
  try {
    ReplayWorld.open = () => Promise.resolve(world as unknown as ReplayWorld);
    await session.goToStart();
  } finally {
    ReplayWorld.open = open;
  }
  return { session, isOpen: () => isOpen };
}

Deno.test("session: memory is written to a file, whole; where the disk refuses, that is an error of ours", async () => {
  await withDirectory(async (dir) => {
    const qmp = {
      async execute(_command: string, { filename }: { filename: string }) {
        await Deno.writeTextFile(filename, "memory");
      },
    } as unknown as Partial<QmpClient>;
    const { session } = await standing(dir, { qmp });
    await session.saveMemory("left", 0, 6, `${dir}/page.bin`);
    assert.equal(await Deno.readTextFile(`${dir}/page.bin`), "memory");
    await assert.rejects(
      session.saveMemory("left", 2 ** 32, 2 ** 20 + 1, `${dir}/much.bin`),
      /VM left has 1 MiB: nothing is at 4296015872 and above/,
    );
    await Deno.mkdir(`${dir}/folder`);
    for (const file of [`${dir}/none/page.bin`, `${dir}/folder`, `${dir}/page.bin/x`]) {
      await assert.rejects(session.saveMemory("left", 0, 6, file), (error) => {
        assert.ok(error instanceof HostError, `${error}`);
        assert.match(error.message, new RegExp(`^write ${file} failed`));
        return true;
      });
    }
    const left = (await Array.fromAsync(Deno.readDir(dir))).map(({ name }) => name).sort();
    assert.deepEqual(left, ["folder", "page.bin"]);
  });
});

Deno.test("session: where the rest went wrong, the next command finds no broken VMs", async () => {
  const divergence = new DivergenceError({
    vm: "left",
    instructionCount: 7n,
    sendNumber: null,
    what: "it stalls",
    expected: "",
    actual: "",
    likelyCause: "a device",
  });
  const gone = new QmpError("cont", "Closed", "QEMU is gone");
  for (const error of [divergence, gone, new InterruptedError("interrupted")]) {
    const { session, isOpen } = await standing("/r", { runTo: () => Promise.reject(error) });
    await assert.rejects(session.finish(), error);
    assert.equal(isOpen(), false, error.name);
    await assert.rejects(session.state(), /stands nowhere: seek first/);
  }
});

/** A VM that sends a frame after 20 instructions, at time 10, and receives one of `source` after 21, at `time`. */
function sender(source: VmNumber, time: bigint): LogCensus {
  return {
    receives: {
      lamports: BigUint64Array.of(time),
      icounts: Float64Array.of(21),
      sources: Float64Array.of(source),
      numbers: Float64Array.of(0),
      lastInside: Float64Array.of(10, 30), // not between the two
    },
    sendTimes: BigUint64Array.of(10n),
    cuts: [],
    bytes: 0,
    checks: [],
    complete: true,
    icount: 40,
    poweroffAt: Infinity,
  };
}

Deno.test("session: two VMs that need each other's next frame are brought on together", async () => {
  // VM 1, under gdb, waits for a frame of 3. It and 2 send to each other at the same moment.
  const censuses = new Map([[1, sender(3, 12n)], [2, sender(3, 11n)], [3, sender(2, 11n)]]);
  const at = new Map([[1, { icount: 0, receives: 0 }]]);
  for (const vm of [2, 3]) at.set(vm, { icount: 0, receives: 0 });
  const sent = (vm: VmNumber) => at.get(vm)!.icount > 20 ? 1 : 0;
  const moved: VmNumber[][] = [];
  const runTo = ({ stops }: ClusterCut) => {
    moved.push([...stops.keys()].sort());
    for (const [vm, { icount, receives }] of stops) at.set(vm, { icount, receives });
    const [left, right] = [at.get(2)!, at.get(3)!];
    assert.equal(left.receives > 0, right.receives > 0, "neither gets there without the other");
    return Promise.resolve([]);
  };
  const vm = (number: VmNumber) => ({
    vm: { number, icount: () => Promise.resolve(at.get(number)!.icount) },
  });
  const { session } = await standing("/r", {
    censuses,
    sent,
    runTo: runTo as unknown as ReplayWorld["runTo"],
    vm: vm as unknown as ReplayWorld["vm"],
    counts: () => new Map([...at].map(([vm, { receives }]) => [vm, { receives, sends: sent(vm) }])),
    async follow(_vm, _stopped, onWait) {
      for (let tries = 0; sent(3) === 0; tries++) {
        assert.ok(tries < 5);
        await onWait(3, 0);
      }
    },
  });
  await session.follow(1, () => false);
  assert.ok(sent(2) > 0 && sent(3) > 0);
  assert.ok(moved.some((vms) => vms.join() === "2,3"), JSON.stringify(moved));
});
