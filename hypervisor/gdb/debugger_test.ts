/** Real gdb against the replay of a real guest kernel under stock QEMU. */
import assert from "node:assert/strict";
import { queryStatus } from "../qmp/commands.ts";
import {
  buildKernel,
  Gdb,
  gdb,
  guestHardware,
  type RecordedGuest,
  recordGuest,
  type ReplayedGuest,
  valuesOf,
  withDebugger,
} from "./recorded_guest_fixture.ts";

interface KernelGuest {
  readonly kernel: string;
  readonly guest: RecordedGuest;
}

let recorded: Promise<KernelGuest> | undefined;
const directories: string[] = [];

/** The same recording for all tests. */
function recordedKernel(): Promise<KernelGuest> {
  return recorded ??= recordKernel(5);
}

async function recordKernel(rounds: number): Promise<KernelGuest> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-debugger-" });
  directories.push(directory);
  const kernel = await buildKernel(directory, rounds);
  const guest = await recordGuest(guestHardware(kernel), directory);
  assert.match(guest.console, /^start\r?\nbalance \d+\r?\n$/);
  return { kernel, guest };
}

Deno.test.afterAll(() => directories.forEach((path) => Deno.removeSync(path, { recursive: true })));

Deno.test("reverse-continue comes back to the breakpoint before, with the values of then", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (vm, proxy) => {
    const output = await gdb(
      kernel,
      proxy,
      `break deposit
       continue
       printf "balance=%ld amount %ld\\n", balance, amount
       continue
       printf "balance=%ld amount %ld\\n", balance, amount
       continue
       printf "balance=%ld amount %ld\\n", balance, amount
       reverse-continue
       printf "balance=%ld amount %ld\\n", balance, amount
       reverse-continue
       printf "balance=%ld amount %ld\\n", balance, amount
       continue
       printf "balance=%ld amount %ld\\n", balance, amount`,
    );
    assert.deepEqual(valuesOf(output, "balance"), [
      "100 amount 10",
      "110 amount 20",
      "130 amount 30",
      "110 amount 20",
      "100 amount 10",
      "110 amount 20",
    ], output);
    assert.ok(vm.seeks >= 2);
  });
});

Deno.test("reverse-stepi k times and stepi k times come back to the same registers", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (_vm, proxy) => {
    // Five instructions into an interrupt: going back leads over its delivery, into what it interrupted.
    const output = await gdb(
      kernel,
      proxy,
      `set $steps = 12
       break timer_entry
       continue
       delete
       stepi 5
       echo here=all\\n
       info registers
       set $i = 0
       while $i < $steps
         printf "back=%lx %lx\\n", $rip, $rsp
         reverse-stepi
         set $i = $i + 1
       end
       set $i = 0
       while $i < $steps
         stepi
         printf "forth=%lx %lx\\n", $rip, $rsp
         set $i = $i + 1
       end
       echo here=all\\n
       info registers
       printf "end=\\n"`,
    );
    const [, before, after] = output.split("here=all\n");
    const registers = (text: string) =>
      text.split("\n").filter((line) => /^[a-z]\w* +0x/.test(line));
    assert.ok(registers(before!).length > 20, output);
    assert.deepEqual(registers(after!).slice(0, 20), registers(before!).slice(0, 20));
    const back = valuesOf(output, "back");
    assert.equal(new Set(back).size, 12, `twelve places, one a step: ${back.join(", ")}`);
    assert.deepEqual(valuesOf(output, "forth"), back.toReversed());
  });
});

Deno.test("a watchpoint and reverse-continue find the write, and stand before it", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (_vm, proxy) => {
    const output = await gdb(
      kernel,
      proxy,
      `break finish
       continue
       watch balance
       reverse-continue
       printf "balance=%ld in round %ld\\n", balance, rounds
       x/i $pc
       reverse-continue
       printf "balance=%ld in round %ld\\n", balance, rounds
       continue
       printf "balance=%ld in round %ld\\n", balance, rounds
       reverse-continue
       printf "balance=%ld in round %ld\\n", balance, rounds`,
    );
    // Forward a watchpoint stops behind the write, backward before it.
    assert.deepEqual(valuesOf(output, "balance"), [
      "200 in round 4",
      "160 in round 3",
      "200 in round 3",
      "160 in round 3",
    ], output);
    assert.match(output, /Old value = 250\nNew value = 200\n/);
    assert.match(output, /=> 0x\w+ <deposit\+\d+>:\s+mov\s+%rax,0x\w+\(%rip\)\s+# 0x\w+ <balance>/);
  });
});

Deno.test("rwatch and awatch work backward", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (_vm, proxy) => {
    const output = await gdb(
      kernel,
      proxy,
      `break finish
       continue
       rwatch balance
       reverse-continue
       printf "read=%ld in round %ld\\n", balance, rounds
       delete
       awatch balance
       reverse-continue
       printf "access=%ld in round %ld\\n", balance, rounds`,
    );
    assert.deepEqual(valuesOf(output, "read"), ["200 in round 4"], output);
    assert.deepEqual(valuesOf(output, "access"), ["160 in round 3"], output);
  });
});

Deno.test("backward, every breakpoint is met that is met forward, and no other", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (_vm, proxy) => {
    // Among them the start of an interrupt's handler, which no instruction leads to.
    const output = await gdb(
      kernel,
      proxy,
      `break *mix
       break *timer_entry
       break *deposit
       break *finish
       continue
       while $pc != &finish
         printf "forth=%lx in round %ld, tick %u\\n", $pc, rounds, ticks
         continue
       end
       reverse-continue
       while $pc > 0xffff
         printf "back=%lx in round %ld, tick %u\\n", $pc, rounds, ticks
         reverse-continue
       end`,
      240_000,
    );
    const forth = valuesOf(output, "forth");
    assert.ok(forth.length >= 15, output);
    assert.deepEqual(valuesOf(output, "back"), forth.toReversed());
  });
});

Deno.test("short windows and leaps over many hits find the same last hit", async () => {
  const { kernel, guest } = await recordedKernel();
  const hot = `kernel.c:${await lineOf("kernel.c", "mixed[i] ^=")}`;
  const counts = new Set<string>();
  for (
    const pace of [
      { windowFirst: 50, windowGrowth: 2, hitsMax: 64, trailSteps: 4 }, // many windows
      { windowFirst: 60_000, windowGrowth: 4, hitsMax: 8, trailSteps: 32 }, // 5,000 hits in the first
    ]
  ) {
    await withDebugger(guest, async (_vm, proxy) => {
      const output = await gdb(
        kernel,
        proxy,
        `break finish
         continue
         delete
         break ${hot}
         reverse-continue
         monitor icount
         printf "rounds=%ld\\n", rounds
         break deposit
         continue
         info symbol $pc`,
        120_000,
      );
      assert.deepEqual(valuesOf(output, "rounds"), ["4"], output);
      // The last of 12,800 hits before the last deposit: going on from it leads there.
      assert.match(output, /^deposit.* in section/m, output);
      counts.add(/instruction (\d+) of/.exec(output)![1]!);
    }, pace);
  }
  assert.equal(counts.size, 1, [...counts].join(", "));
});

Deno.test("a leap that has gone too far is taken back", async () => {
  const { kernel, guest } = await recordedKernel();
  // 512 turns of one loop, and then no hit any more for the rest of the window.
  const loop = `kernel_entry.S:${await lineOf("kernel_entry.S", "loop 1b")}`;
  const pace = { windowFirst: 1 << 20, windowGrowth: 4, hitsMax: 8, trailSteps: 32 };
  await withDebugger(guest, async (vm, proxy) => {
    const output = await gdb(
      kernel,
      proxy,
      `break finish
       continue
       delete
       break ${loop}
       reverse-continue
       printf "left=%d\\n", $ecx
       reverse-continue
       printf "left=%d\\n", $ecx`,
      120_000,
    );
    assert.deepEqual(valuesOf(output, "left"), ["1", "2"], output);
    assert.ok(vm.seeks > 6, `${vm.seeks} seeks`);
  }, pace);
});

Deno.test("both ends of the recording answer that there is no more", async () => {
  const { kernel, guest } = await recordedKernel();
  await withDebugger(guest, async (vm, proxy) => {
    const output = await gdb(
      kernel,
      proxy,
      `printf "rip=%lx\\n", $rip
       continue
       monitor icount
       stepi
       reverse-stepi
       monitor icount
       reverse-continue
       printf "rip=%lx\\n", $rip
       reverse-stepi
       continue`,
    );
    assert.equal(output.match(/No more reverse-execution history/g)?.length, 5, output);
    const counts = [...output.matchAll(/instruction (\d+) of (\d+)/g)].map((m) => [m[1], m[2]]);
    assert.deepEqual(counts, [
      [`${vm.lastIcount}`, `${vm.lastIcount}`],
      [`${vm.lastIcount - 1}`, `${vm.lastIcount}`],
    ]);
    const [atStart, back] = valuesOf(output, "rip");
    assert.equal(back, atStart);
    assert.equal(await vm.icount(), vm.lastIcount);
  });
});

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
        const stopped = vm.qemu.qmp.nextEvent("STOP", 10_000);
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

/** The line of a source file of the kernel that holds `text`. */
async function lineOf(file: string, text: string): Promise<number> {
  const source = await Deno.readTextFile(new URL(`testdata/${file}`, import.meta.url));
  return source.split("\n").findIndex((line) => line.includes(text)) + 1;
}

async function isStanding(vm: ReplayedGuest): Promise<boolean> {
  return !(await queryStatus(vm.qemu.qmp)).running;
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!await condition()) {
    assert.ok(performance.now() < deadline, "it did not come to that");
    await new Promise((resume) => setTimeout(resume, 20));
  }
}
