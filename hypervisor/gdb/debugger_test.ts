/** Real gdb against the replay of a real guest kernel under stock QEMU: forward and backward. */
import assert from "node:assert/strict";
import { lineOf, recordedKernel, removeKernels } from "./kernel_guest_fixture.ts";
import { gdb, valuesOf, withDebugger } from "./recorded_guest_fixture.ts";

Deno.test.afterAll(removeKernels);

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
