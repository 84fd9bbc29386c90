/**
 * A program of its own, so that its peak memory is that of the codec: rr logs in, a hybrid log out.
 *
 *     deno run -A tests/bench/codec.ts bare|hashed DIRECTORY BYTES LOG…
 *
 * Scans the stock rr files LOG… one after another, again and again, until BYTES are done, in one
 * thread, 1 MiB a read, and writes the hybrid log into DIRECTORY: every received frame as a reference,
 * and a send for each. `hashed` computes each frame's hash as the recorder does to identify it;
 * `bare` decodes and encodes only. Repeating a log does not help the compression: blocks are
 * compressed one by one, and a log is longer than a block. Prints a {@link CodecRun} as JSON.
 */
import { detectForm } from "../../hypervisor/rr_log/stream.ts";
import { RrLogScanner, type RrLogSink } from "../../hypervisor/rr_log/scanner.ts";
import { type RrLogTable, tableForVersion } from "../../hypervisor/rr_log/tables.ts";
import { FormatError } from "../../lib/errors.ts";
import { HybridLogWriter } from "../../lib/recording/hybrid_log_writer.ts";
import { hashFrame } from "../../lib/roles/frame_matcher.ts";
import { FRAME_HEAD_BYTES } from "../../lib/roles/recording_agent.ts";

const READ_BYTES = 1 << 20;
const FILE_HEADER_BYTES = 12;
const NO_HASH = new Uint8Array(8);

/** What one run of the program measured. Memory is the highest resident set (`VmHWM`). */
export interface CodecRun {
  readonly seconds: number;
  readonly logBytes: number;
  readonly storedBytes: number;
  readonly events: number;
  readonly frames: number;
  readonly rssBytes: {
    /** Before the first byte: Deno and the program. */
    readonly start: number;
    /** After a quarter of the log. */
    readonly quarter: number;
    readonly end: number;
  };
}

/** Writes what the scanners of several logs find into one hybrid log. */
class Encoder implements RrLogSink {
  frames = 0;
  /** Instructions of the logs before the current one. */
  baseIcount = 0;

  constructor(private readonly log: HybridLogWriter, private readonly hashed: boolean) {}

  events(bytes: Uint8Array, start: number, end: number, icount: number): void {
    this.log.events(bytes, start, end, this.baseIcount + icount);
  }

  frame(header: Uint8Array, payload: Uint8Array): void {
    const hash = this.hashed ? Uint8Array.fromHex(hashFrame(payload).slice(0, 16)) : NO_HASH;
    const number = this.frames++;
    this.log.reference(header, 1, number, BigInt(2 * number + 1));
    const head = payload.subarray(0, FRAME_HEAD_BYTES);
    this.log.send(payload.length, hash, BigInt(2 * number), head);
  }
}

/** Scans one file to its END. @returns its bytes of events, their number, and its instructions */
function scanFile(
  path: string,
  table: RrLogTable,
  sink: RrLogSink,
  buffer: Uint8Array,
): { bytes: number; events: number; icount: number } {
  const scanner = new RrLogScanner(table, sink, path);
  using file = Deno.openSync(path);
  file.seekSync(FILE_HEADER_BYTES, Deno.SeekMode.Start);
  for (let n = file.readSync(buffer); n !== null; n = file.readSync(buffer)) {
    scanner.push(buffer.subarray(0, n));
  }
  if (!scanner.ended) throw new FormatError(path, scanner.offset, "the log has no end");
  return { bytes: scanner.offset, events: scanner.events, icount: scanner.icount };
}

/** The table of the QEMU that wrote `path`, a regular file. */
function tableOf(path: string): RrLogTable {
  const header = new Uint8Array(FILE_HEADER_BYTES);
  using file = Deno.openSync(path);
  file.readSync(header);
  if (detectForm(header) !== "file") throw new FormatError(path, 0, "not a regular file of QEMU's");
  return tableForVersion(new DataView(header.buffer).getUint32(0));
}

function peakRssBytes(): number {
  const status = Deno.readTextFileSync("/proc/self/status");
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
}

function runCodec(
  hashed: boolean,
  directory: string,
  bytesWanted: number,
  paths: readonly string[],
): CodecRun {
  const buffer = new Uint8Array(READ_BYTES);
  const table = tableOf(paths[0]!);
  const start = peakRssBytes();
  let quarter = 0;
  let logBytes = 0;
  let events = 0;
  const startedAt = performance.now();
  const log = new HybridLogWriter(directory, { vm: 1, rrLogVersion: table.version });
  const encoder = new Encoder(log, hashed);
  for (let i = 0; logBytes < bytesWanted; i++) {
    const scanned = scanFile(paths[i % paths.length]!, table, encoder, buffer);
    encoder.baseIcount += scanned.icount;
    events += scanned.events;
    logBytes += scanned.bytes;
    if (quarter === 0 && logBytes >= bytesWanted / 4) quarter = peakRssBytes();
  }
  const { storedBytes } = log.close(true);
  const seconds = (performance.now() - startedAt) / 1000;
  const rssBytes = { start, quarter, end: peakRssBytes() };
  return { seconds, logBytes, storedBytes, events, frames: encoder.frames, rssBytes };
}

if (import.meta.main) {
  const [kind, directory, bytes, ...paths] = Deno.args;
  console.log(JSON.stringify(runCodec(kind === "hashed", directory!, Number(bytes), paths)));
}
