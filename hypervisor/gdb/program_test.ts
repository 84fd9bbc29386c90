/** Real gdb against a program with symbols, under Debian's kernel in a replay. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { buildImage } from "../../examples/images/build.ts";
import { cpioArchive } from "../../examples/images/cpio.ts";
import { GUEST_ARGS_DEFAULT } from "../../lib/cluster/schema.ts";
import {
  buildProgram,
  gdb,
  guestHardware,
  recordGuest,
  valuesOf,
  withDebugger,
} from "./recorded_guest_fixture.ts";

const trio = fileURLToPath(new URL("../../examples/trio", import.meta.url));

Deno.test("a guest's program: breakpoints, variables and watchpoints, forward and backward", async () => {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-debugged-" });
  try {
    const image = await buildImage(trio);
    const program = await buildProgram(directory);
    const init = { kind: "file", bytes: await Deno.readFile(program), executable: true } as const;
    await Deno.writeFile(`${directory}/initrd`, cpioArchive(new Map([["init", init]])));
    const guest = await recordGuest(
      guestHardware(`${image}/vmlinux`, {
        initrd: `${directory}/initrd`,
        memoryMiB: 128,
        kernelArgs: GUEST_ARGS_DEFAULT.join(" "),
      }),
      directory,
    );
    assert.match(
      guest.console,
      /total 01\r?\ntotal 03\r?\ntotal 06\r?\ntotal 10\r?\ntotal 15\r?\n/,
    );
    await withDebugger(guest, async (vm, proxy) => {
      const beganAt = performance.now();
      const output = await gdb(
        program,
        proxy,
        `hbreak add
         continue
         printf "total=%ld amount %ld\\n", total, amount
         continue
         printf "total=%ld amount %ld\\n", total, amount
         continue
         printf "total=%ld amount %ld\\n", total, amount
         reverse-continue
         printf "total=%ld amount %ld\\n", total, amount
         delete
         watch total
         reverse-continue
         printf "total=%ld\\n", total
         x/i $pc
         delete
         reverse-stepi
         printf "rip=%lx\\n", $rip
         reverse-stepi
         printf "rip=%lx\\n", $rip
         stepi
         stepi
         x/i $pc
         monitor icount`,
        240_000,
      );
      const seconds = (performance.now() - beganAt) / 1000;
      assert.deepEqual(valuesOf(output, "total"), [
        "0 amount 1",
        "1 amount 2",
        "3 amount 3",
        "1 amount 2",
        "0", // before the write of the first addition
      ], output);
      const writes = output.match(
        /=> 0x\w+ <add\+\d+>:\s+mov\s+%r\w+,0x\w+\(%rip\)\s+# 0x\w+ <total>/g,
      );
      assert.equal(writes?.length, 2, output);
      assert.equal(new Set(valuesOf(output, "rip")).size, 2);
      console.log(`${vm.seeks} seeks from the start in ${seconds.toFixed(1)} s`);
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
