/** An agent's part of a recording, with a host that records nothing. */
import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { withDirectory } from "../../lib/cli/command_fixture.ts";
import type { RecordPlan } from "../../lib/protocol/control.ts";
import { HostRecording } from "../host_recording.ts";
import { AgentRecording } from "./agent_recording.ts";
import { AgentState } from "./agent_state.ts";

const RUN = "0123456789abcdef";

/** A plan in which host alpha has no VMs: its uplink alone. */
function planOf(qemu: string): RecordPlan {
  return {
    run: RUN,
    name: "demo",
    createdAt: "2026-01-31T12:00:00.000Z",
    cluster: {
      name: "demo",
      network: {},
      qemu: { program: qemu, machine: "q35", cpu: "qemu64", icountShift: 3, nic: "vmxnet3" },
      vms: [],
    },
    text: "name: demo",
    images: [],
    placement: [{ host: "alpha", vms: [] }],
    digestEveryMs: 0,
    epochMs: 250,
  };
}

/** What {@link HostRecording} does, without a host. */
function standIn(calls: string[]): HostRecording {
  const note = (step: string) => Promise.resolve(void calls.push(step));
  return {
    notes: [],
    arm: () => void calls.push("arm"),
    run: () => note("run"),
    quiesce: () => note("quiesce"),
    seal: () => note("seal"),
    abort: () => note("abort"),
    finished: Promise.resolve(),
    crashed: () => new Promise(() => {}),
    progress: () => [],
    values: () => ({ recorder: {} }),
    conclude: () => ({ vms: [], complete: true }),
    close: () => note("close"),
  } as unknown as HostRecording;
}

/** Makes a recording whose part is prepared by {@link standIn}, and takes it through its steps. */
async function concluded(dir: string, calls: string[]) {
  const qemu = `${dir}/qemu`;
  await Deno.writeTextFile(qemu, "#!/bin/sh\necho QEMU emulator version 7.2.22\n", { mode: 0o755 });
  const recording = new AgentRecording(planOf(qemu), "alpha", new AgentState(`${dir}/state`));
  const host = standIn(calls);
  const prepare = HostRecording.prepare;
  try {
    HostRecording.prepare = () => Promise.resolve(host);
    await recording.prepare();
  } finally {
    HostRecording.prepare = prepare;
  }
  await recording.arm();
  await recording.run();
  await recording.quiesce();
  await recording.seal();
  const part = await recording.conclude({ by: "interrupt" }, 5);
  assert.deepEqual(part, { vms: [], complete: true });
  return { recording, host: new WeakRef(host), part };
}

Deno.test("a recording that is concluded answers, and keeps nothing of the host's work", async () => {
  await withDirectory(async (dir) => {
    const calls: string[] = [];
    const { recording, host, part } = await concluded(dir, calls);
    assert.deepEqual(calls, ["arm", "run", "quiesce", "seal", "close"]);
    const { phase, finished, vms } = recording.status();
    assert.deepEqual({ phase, finished, vms }, { phase: "concluded", finished: true, vms: [] });
    assert.equal(recording.values(), undefined);
    assert.equal(await recording.conclude({ by: "duration" }, 9), part, "asked for again");
    await recording.seal();
    await recording.abort();
    await recording.endAlone("the agent was stopped");
    assert.equal(recording.tick(3).epoch, 0);
    assert.equal(calls.at(-1), "close");
    setFlagsFromString("--expose-gc");
    await new Promise((resolve) => setTimeout(resolve)); // a weak reference is kept in its turn
    runInNewContext("gc")();
    assert.equal(host.deref(), undefined);
  });
});
