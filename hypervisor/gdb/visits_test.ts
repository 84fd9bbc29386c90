/** gdb comes, interrupts, leaves; others move the VM or end it; what a replay refuses. */
import assert from "node:assert/strict";
import { queryStatus } from "../qmp/commands.ts";
import { nextEvent } from "../qmp/next_event_fixture.ts";
import { until } from "../../lib/until_fixture.ts";
import { recordedKernel, recordKernel, removeKernels } from "./kernel_guest_fixture.ts";
import { Gdb, gdb, type ReplayedGuest, valuesOf, withDebugger } from "./recorded_guest_fixture.ts";

Deno.test.afterAll(removeKernels);

Deno.test("gdb leaves by detach, kill or a broken connection: the VM stays, without its breakpoints", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (vm, proxy) => {
    const before = await gdb(
      kernel,
      proxy,
      `set breakpoint always-inserted on
       break on_timer
       continue
       continue
       printf "ticks=%u\\n", ticks
       detach`,
    );
    assert.deepEqual(valuesOf(before, "ticks"), ["1"], before);
    const stood = await vm.icount();
    const killed = await gdb(
      kernel,
      proxy,
      `set breakpoint always-inserted on
       printf "ticks=%u\\n", ticks
       break on_timer
       kill`,
    );
    assert.deepEqual(valuesOf(killed, "ticks"), ["1"], killed);
    const cut = new Gdb(
      kernel,
      proxy.address,
      `set breakpoint always-inserted on
       break on_timer
       shell kill -9 $PPID`,
    );
    await cut.output;
    assert.equal(await vm.icount(), stood);
    assert.equal(vm.starts, 1, "one QEMU has had three gdbs");
    const last = await gdb(kernel, proxy, `continue\nmonitor icount`);
    assert.match(last, new RegExp(`instruction ${vm.lastIcount} of`), last);
  });
});

Deno.test("one gdb at a time", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (_vm, proxy) => {
    const [hostname, port] = proxy.address.split(":");
    const first = await Deno.connect({ hostname: hostname!, port: Number(port) });
    const output = await gdb(kernel, proxy, "continue");
    assert.match(output, /another gdb debugs VM guest; detach that first/);
    first.close();
    // Its going is noticed in a moment.
    await until(async () => /instruction 0 of/.test(await gdb(kernel, proxy, "monitor icount")));
  });
});

Deno.test("a replay cannot be changed", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (_vm, proxy) => {
    const memory = await gdb(kernel, proxy, "break deposit\ncontinue\nprint balance = 7");
    assert.match(memory, /Cannot access memory|cannot be changed/);
    const register = await gdb(kernel, proxy, "print $rax = 7");
    assert.match(register, /clusterrr: a replay repeats what was recorded; it cannot be changed/);
    const monitor = await gdb(kernel, proxy, "monitor quit\nmonitor info status\nmonitor icount");
    assert.match(monitor, /Nothing else: it could change the replay/);
    assert.match(monitor, /VM status: paused/);
  });
});

Deno.test("Ctrl-C stops a run forward, and a search backward where it began", async () => {
  const { kernel, guest } = await recordKernel(10_000);
  await withDebugger(guest, async (vm, proxy) => {
    const child = new Gdb(
      kernel,
      proxy.address,
      `break deposit
       continue
       delete
       continue
       printf "stopped=%ld\\n", rounds
       monitor icount
       break *0x99999
       reverse-continue
       monitor icount
       delete
       break deposit
       reverse-continue
       printf "back=%ld\\n", rounds`,
      120_000,
    );
    await until(async () => !(await isStanding(vm)) && await vm.icount() > 20_000_000);
    child.kill("SIGINT");
    await until(() => Promise.resolve(vm.seeks >= 2));
    child.kill("SIGINT");
    const output = await child.output;
    assert.equal(output.match(/SIGINT/g)?.length, 2, output);
    assert.doesNotMatch(output, /No more reverse-execution history/);
    const [stopped] = valuesOf(output, "stopped");
    assert.ok(Number(stopped) > 10 && Number(stopped) < 10_000, output);
    const counts = [...output.matchAll(/instruction (\d+) of/g)].map((match) => match[1]);
    assert.equal(counts.length, 2, output);
    assert.equal(counts[1], counts[0]);
    const [back] = valuesOf(output, "back");
    assert.ok(Number(stopped) - Number(back) <= 1, output);
  });
});

Deno.test("a VM that was moved by someone else is met where it is, with gdb's breakpoints", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (vm, proxy) => {
    const directory = await Deno.makeTempDir({ prefix: "clusterrr-moved-" });
    const pause = (name: string) =>
      `shell touch ${directory}/${name}; while [ -e ${directory}/${name} ]; do sleep 0.02; done`;
    const whenPaused = async (name: string, work: () => Promise<void>) => {
      await until(() => Deno.stat(`${directory}/${name}`).then(() => true, () => false));
      await work();
      await Deno.remove(`${directory}/${name}`);
    };
    const output = gdb(
      kernel,
      proxy,
      `set breakpoint always-inserted on
       break deposit
       continue
       ${pause("first")}
       monitor icount
       continue
       printf "amount=%ld\\n", amount
       delete
       ${pause("second")}
       monitor icount
       break deposit
       continue
       printf "amount=%ld\\n", amount`,
    );
    const early = vm.standBefore(5_000_000);
    let ran = 0;
    try {
      // Into another QEMU, as when the cluster is brought back for another VM's sake.
      await whenPaused("first", () => vm.seek(early));
      // Forward in the same QEMU: its stub reports a stop that this gdb did not ask for.
      await whenPaused("second", async () => {
        ran = vm.standBefore(await vm.icount() + 1000);
        await vm.breakAt(ran);
        const stopped = nextEvent(vm.qemu.qmp, "STOP", 10_000);
        await vm.qemu.cont();
        await stopped;
      });
    } finally {
      const text = await output;
      await Deno.remove(directory, { recursive: true });
      assert.deepEqual(valuesOf(text, "amount"), ["10", "20"], text);
      const counts = [...text.matchAll(/instruction (\d+) of/g)].map((match) => Number(match[1]));
      assert.deepEqual(counts, [early, ran], text);
    }
  });
});

Deno.test("a VM whose QEMU has ended is explained, not waited for", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (vm, proxy) => {
    const child = gdb(
      kernel,
      proxy,
      `break deposit
       continue
       shell kill -9 ${vm.qemu.pid}
       continue
       monitor icount`,
    );
    const output = await child;
    assert.match(output, /clusterrr: |QEMU of VM guest has ended/, output);
  });
});

async function isStanding(vm: ReplayedGuest): Promise<boolean> {
  return !(await queryStatus(vm.qemu.qmp)).running;
}
