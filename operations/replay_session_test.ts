/** A session whose VMs do as they are told: what becomes of it when something fails. */
import assert from "node:assert/strict";
import type { QmpClient } from "../hypervisor/qmp/client.ts";
import { withDirectory } from "../lib/cli/command_fixture.ts";
import { SILENT } from "../lib/cli/progress.ts";
import { DivergenceError, HostError, InterruptedError, QmpError } from "../lib/errors.ts";
import type { OpenRecording } from "./open_recording.ts";
import { ReplaySession } from "./replay_session.ts";
import { ReplayWorld } from "./replay_world.ts";

/** A session that stands at the start of a recording in `directory` with one VM, called left. */
async function standing(
  directory: string,
  { qmp = {}, runTo }: { qmp?: Partial<QmpClient>; runTo?: () => Promise<never> },
) {
  let isOpen = true;
  const vms = [{ vm: { number: 1, name: "left", qmp } }];
  const world = {
    vms,
    vm: () => vms[0],
    hasEnded: () => false,
    runTo,
    close: () => Promise.resolve(void (isOpen = false)),
  };
  const recording = {
    directory,
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
