/** What full disks and kills leave behind. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { HostError } from "../errors.ts";
import { HybridLogReader } from "./hybrid_log_reader.ts";
import { HybridLogWriter } from "./hybrid_log_writer.ts";
import { inTempDir, OPTIONS, VM } from "./testdata/hybrid_log_fixture.ts";
import { readItems, rrHeader } from "./testdata/item_trace.ts";

Deno.test({
  name: "a full disk: the error names the file, the log stays readable up to its last block",
  ignore: Deno.uid() !== 0, // mounts a tmpfs: needs root
  fn: () =>
    inTempDir((dir) => {
      for (const segmentBytes of [1 << 30, 50_000]) {
        run("mount", "-t", "tmpfs", "-o", "size=256k", "clrr-test", dir);
        try { // whatever fails, the mount goes
          const writer = new HybridLogWriter(`${dir}/vm`, {
            ...OPTIONS,
            blockBytes: 9000,
            segmentBytes,
          });
          const noise = new Uint8Array(1000);
          const header = Uint8Array.fromHex(rrHeader(9, 0, 0, 1000));
          let failure: unknown;
          let written = 0;
          for (; written < 2000 && !failure; written++) {
            try {
              crypto.getRandomValues(noise); // nothing to compress
              writer.frame(header, noise, BigInt(written), "external");
            } catch (error) {
              failure = error;
            }
          }
          assert(failure instanceof HostError);
          assert.equal(failure.code, 28);
          assert.match(
            failure.message,
            /write to .*hybrid-\d{6}\.seg failed \(28\): No space left/,
          );
          assert.match(failure.message, /Free some space/);
          assert.throws(() => writer.flush(), (error) => error === failure);
          assert.throws(() => writer.send(1, new Uint8Array(8), 0n), (error) => error === failure);
          const totals = writer.close(true);
          assert.equal(totals.complete, false);
          const log = readItems(
            HybridLogReader.open(`${dir}/vm`, { ...VM, closed: totals.closed }),
          );
          assert.equal(log.ending.complete, false);
          const frames = log.items.filter((item) => item.item === "frame");
          assert.equal(frames.length, totals.framesExternal);
          assert(frames.length > 150 && frames.length < written, `${frames.length} frames`);
          assert(frames.every((frame, i) => frame.lamport === BigInt(i)));
          const onDisk = totals.segments.map(({ file }) => Deno.statSync(`${dir}/vm/${file}`).size);
          assert.deepEqual(totals.segments.map(({ bytes }) => bytes), onDisk);
        } finally {
          run("umount", "--lazy", dir);
        }
      }
    }),
});

Deno.test("kill -9 in the middle of writing leaves a log that opens", async () => {
  const dir = Deno.makeTempDirSync({ prefix: "clrr-hybrid-" });
  try {
    for (const delayMs of [5, 30, 80]) {
      const logDir = `${dir}/${delayMs}`;
      const child = new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "-A",
          "--no-check",
          fileURLToPath(new URL("./testdata/endless_writer.ts", import.meta.url)),
          logDir,
        ],
        stdout: "piped",
      }).spawn();
      const reader = child.stdout.getReader();
      await reader.read(); // it has begun
      await new Promise((done) => setTimeout(done, delayMs));
      child.kill("SIGKILL");
      await reader.cancel();
      await child.status;
      const { items, ending } = readItems(HybridLogReader.open(logDir, VM));
      assert.equal(ending.complete, false);
      let next = 0n;
      for (const item of items) {
        if (item.item === "reference") assert.equal(item.lamport, next++);
      }
      assert(next > 0n);
    }
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
});

function run(program: string, ...args: string[]): void {
  const { code, stderr } = new Deno.Command(program, { args }).outputSync();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
}
