/**
 * How fast the scanner is: `deno bench -A hypervisor/rr_log/scanner_bench.ts`.
 *
 * 64 MiB of events in the proportions of a recorded boot, and the same with traffic, in the chunks
 * that a FIFO gives. Deno prints the time of one pass: 223 ms are 300 MB/s.
 */
import { concat } from "../../lib/bytes/concat.ts";
import { encodeEvent } from "./events.ts";
import { RrLogScanner, type RrLogSink } from "./scanner.ts";
import { kindOf, tableForQemu } from "./tables.ts";

const LOG_BYTES = 64 * 1024 * 1024;
const CHUNK_BYTES = 64 * 1024;
const table = tableForQemu("7.2.22");

/** Mostly pairs of a short run and a checkpoint, a clock in twenty, and frames as asked. */
function realisticLog(pairsPerFrame: number): Uint8Array {
  const checkpoint = Uint8Array.of(kindOf(table, "CHECKPOINT_CLOCK_WARP_ACCOUNT"));
  const interrupt = Uint8Array.of(kindOf(table, "INTERRUPT"));
  const clock = encodeEvent(
    { kind: kindOf(table, "CLOCK_HOST"), type: "clock", value: 1n << 60n },
    table,
  );
  const payload = new Uint8Array(1000);
  const frame = encodeEvent(
    { kind: kindOf(table, "ASYNC_NET"), type: "frame", id: 0, flags: 0, payload },
    table,
  );
  const block: Uint8Array[] = [];
  let seed = 1;
  for (let i = 0; i < 2000; i++) {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    block.push(encodeEvent({ kind: 0, type: "instruction", count: 1 + (seed >>> 20) }, table));
    block.push(checkpoint);
    if (i % 20 === 0) block.push(clock, interrupt);
    if (i % pairsPerFrame === 1) block.push(frame);
  }
  const pattern = concat(block);
  const log = new Uint8Array(LOG_BYTES - (LOG_BYTES % pattern.length));
  for (let at = 0; at < log.length; at += pattern.length) log.set(pattern, at);
  return log;
}

const nowhere: RrLogSink = { events() {}, frame() {} };

for (
  const [name, log] of [["boot", realisticLog(Infinity)], ["traffic", realisticLog(200)]] as const
) {
  Deno.bench(`${name}, ${Math.round(log.length / 1e6)} MB`, { n: 10, warmup: 3 }, () => {
    const scanner = new RrLogScanner(table, nowhere, "bench");
    for (let at = 0; at < log.length; at += CHUNK_BYTES) {
      scanner.push(log.subarray(at, at + CHUNK_BYTES));
    }
  });
}
