/**
 * How fast a hybrid log is written and read, in rr log bytes: `deno bench -A lib/recording`.
 * One iteration is 32 MiB of rr log, so MB/s = 33.6 / seconds. The encoder must keep well above the
 * 100 MB/s that the recorder promises for scanning and encoding together.
 */
import { IGNORE_ITEMS } from "./hybrid_log.ts";
import { HybridLogReader } from "./hybrid_log_reader.ts";
import { HybridLogWriter } from "./hybrid_log_writer.ts";

const LOG_BYTES = 32 << 20;
const CHUNK_BYTES = 64 << 10;
const OPTIONS = { vm: 1, rrLogVersion: 0xe0200c };
const FRAME_BYTES = 1514;

/** A linear congruential generator: the same content in every run. */
function random(seed: number): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

/** Events as a booted guest logs them: instruction runs, checkpoints, clock reads that creep up. */
function eventBytes(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  const next = random(1);
  let clock = 1_000_000_000n;
  for (let at = 0; at + 24 < length;) {
    const count = next() < 0.7 ? 8 + next() * 8 : next() * 5000;
    bytes[at] = 0;
    view.setUint32(at + 1, count);
    bytes[at + 5] = 0x1f;
    at += 6;
    if (next() < 0.1) {
      clock += BigInt(Math.floor(next() * 100_000));
      bytes[at] = 0x1d;
      view.setBigUint64(at + 1, clock);
      at += 9;
    }
  }
  return bytes;
}

const events = eventBytes(4 << 20);
const payload = crypto.getRandomValues(new Uint8Array(FRAME_BYTES));
const header = Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0, FRAME_BYTES >> 8, FRAME_BYTES & 0xff);
const hash = new Uint8Array(8);

/** Writes 32 MiB of rr log; every `eventsPerFrame` event bytes a frame. */
function write(dir: string, eventsPerFrame: number, kind: "none" | "references" | "whole"): void {
  const writer = new HybridLogWriter(dir, OPTIONS);
  const spanBytes = kind === "none" ? CHUNK_BYTES : eventsPerFrame;
  let at = 0;
  for (let n = 0; writer.counts.rrLogBytes < LOG_BYTES; n++) {
    if (at + spanBytes > events.length) at = 0;
    writer.events(events, at, at + spanBytes, n);
    at += spanBytes;
    if (kind === "none") continue;
    if (kind === "references") writer.reference(header, 2, n, BigInt(n));
    else writer.frame(header, crypto.getRandomValues(payload), BigInt(n), "external");
    crypto.getRandomValues(hash);
    writer.send(FRAME_BYTES, hash, BigInt(n), payload.subarray(0, 64));
  }
  writer.close(true);
}

function bench(name: string, work: (dir: string) => void, prepare?: (dir: string) => void): void {
  Deno.bench({ name, n: 5, warmup: 1 }, (b) => {
    const dir = Deno.makeTempDirSync({ prefix: "clrr-bench-" });
    prepare?.(dir);
    b.start();
    work(dir);
    b.end();
    Deno.removeSync(dir, { recursive: true });
  });
}

bench("write 32 MiB: events only", (dir) => write(dir, 0, "none"));
bench("write 32 MiB: references, 300 event bytes each", (dir) => write(dir, 300, "references"));
bench("write 32 MiB: whole random frames, 300 event bytes each", (dir) => write(dir, 300, "whole"));
const read = (dir: string) => {
  const reader = HybridLogReader.open(dir, { vm: 1, closed: true });
  while (reader.nextBlock(IGNORE_ITEMS));
  reader.close();
};
bench("read 32 MiB: events only", read, (dir) => write(dir, 0, "none"));
bench("read 32 MiB: references", read, (dir) => write(dir, 300, "references"));
