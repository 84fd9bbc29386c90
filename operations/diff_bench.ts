/**
 * How fast two equal logs are compared, in rr log bytes of one side: `deno bench -A operations/diff_bench.ts`.
 * One iteration is 32 MiB, so MB/s = 33.6 / seconds.
 */
import { tableForVersion } from "../hypervisor/rr_log/tables.ts";
import { LogComparison } from "../lib/diff/log_comparison.ts";
import { ReferencedFrames } from "../lib/diff/received_frames.ts";
import { HybridLogReader } from "../lib/recording/hybrid_log_reader.ts";
import { HybridLogWriter } from "../lib/recording/hybrid_log_writer.ts";
import { eventCodec } from "./diff.ts";

const LOG_BYTES = 32 << 20;
const RR_LOG_VERSION = 0xe0200c;
const FRAME_BYTES = 1514;
const CHECKPOINT = 0x1f;

/** Runs of instructions and checkpoints, as most of a log is; every `framePairs` pairs a frame. */
function writeLog(dir: string, framePairs: number): void {
  const writer = new HybridLogWriter(dir, { vm: 1, rrLogVersion: RR_LOG_VERSION });
  const header = Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0, FRAME_BYTES >> 8, FRAME_BYTES & 0xff);
  const bytes = new Uint8Array(6 * framePairs);
  const view = new DataView(bytes.buffer);
  const [hash, head] = [new Uint8Array(8), new Uint8Array(64)];
  let icount = 0;
  let seed = 1;
  for (let n = 0; writer.counts.rrLogBytes < LOG_BYTES; n++) {
    for (let at = 0; at < bytes.length; at += 6) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const count = 1 + (seed >>> 20);
      view.setUint32(at + 1, count);
      bytes[at + 5] = CHECKPOINT;
      icount += count;
    }
    writer.events(bytes, 0, bytes.length, icount);
    if (framePairs > 1000) continue;
    new DataView(hash.buffer).setUint32(0, n);
    writer.reference(header, 1, n, BigInt(2 * n));
    writer.send(FRAME_BYTES, hash, BigInt(2 * n + 1), head);
  }
  writer.close(true);
}

for (
  const [name, framePairs] of [["events only", 10_000], ["a frame every 300 bytes", 50]] as const
) {
  Deno.bench({ name: `compare 32 MiB: ${name}`, n: 5, warmup: 1 }, (b) => {
    const dir = Deno.makeTempDirSync({ prefix: "clrr-bench-" });
    writeLog(dir, framePairs);
    const open = () => HybridLogReader.open(dir, { vm: 1, closed: true });
    const frames = new ReferencedFrames([{ number: 1, name: "vm", open }]);
    b.start();
    const work = new LogComparison({ open, frames }, { open, frames }, {
      vm: "vm",
      codec: eventCodec(tableForVersion(RR_LOG_VERSION)),
      firstIcount: 0,
      guestOnly: false,
      context: 5,
    }).run();
    let step = work.next();
    while (!step.done) step = work.next();
    b.end();
    if (step.value.difference !== undefined) throw new Error(step.value.difference.what);
    Deno.removeSync(dir, { recursive: true });
  });
}
