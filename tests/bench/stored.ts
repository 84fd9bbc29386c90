/**
 * `deno task bench:stored`: how large the stored form of logs is, and how fast it is made, beside plain
 * zstd and xz of the same bytes. Without arguments it records the trio, with clusterrr and with stock QEMU.
 *
 *     deno task bench:stored [--runs 5] [RECORDING | RR-LOG]…
 *
 * ```
 * RECORDING  the hybrid logs of its VMs, all columns of each as one file for zstd and xz;
 *            "events" without what the rr log does not have: sends, checks
 * RR-LOG     QEMU's own file; ours has references for received frames
 * ```
 * Ours keeps its blocks (one a second while recording), the others have the whole log at once. Speeds are
 * medians by CPU time, of the raw bytes of a row.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import process from "node:process";
import { constants, zstdCompressSync } from "node:zlib";
import { RrLogScanner } from "../../hypervisor/rr_log/scanner.ts";
import { readRrLogFile } from "../../hypervisor/rr_log/stream.ts";
import { inspectQemu } from "../../hypervisor/qemu/capabilities.ts";
import { ByteWriter } from "../../lib/bytes/byte_writer.ts";
import { concat } from "../../lib/bytes/concat.ts";
import { renderTable } from "../../lib/cli/table.ts";
import { formatBytes } from "../../lib/cli/quantities.ts";
import { paint, processTerminal } from "../../lib/cli/terminal.ts";
import { loadClusterFile } from "../../lib/cluster/cluster_file.ts";
import { Column, COLUMNS } from "../../lib/recording/block_columns.ts";
import { BlockEncoder } from "../../lib/recording/block_encoder.ts";
import { ColumnPacker } from "../../lib/recording/column_packer.ts";
import { ColumnUnpacker } from "../../lib/recording/column_unpacker.ts";
import {
  BLOCK_BYTES,
  COMPRESSION_LEVEL,
  FRESH_EVERY_BYTES,
} from "../../lib/recording/hybrid_log_writer.ts";
import { readManifest, vmDirectory } from "../../lib/recording/manifest.ts";
import { BLOCK_HEADER_BYTES, HYBRID_LOG_VERSION } from "../../lib/recording/segment_layout.ts";
import { SegmentReader } from "../../lib/recording/segment_reader.ts";
import { Commands } from "./commands.ts";
import { recordStock, stockLog } from "./peers.ts";
import { median } from "./statistics.ts";

const SPEC = fileURLToPath(new URL("../../examples/trio/cluster.yaml", import.meta.url));
const SIZE_AIM = 0.5;
const SPEED_AIM = 1;
/** What the rr log does not have. */
const OF_SENDS_AND_CHECKS: readonly number[] = [
  Column.sendLengths,
  Column.sendTimes,
  Column.sendHashes,
  Column.headLengths,
  Column.heads,
  Column.checks,
];

/** The columns of one block. */
type Block = readonly Uint8Array[];

/** One log: what the others compress, and what ours does. */
interface Log {
  readonly plain: Uint8Array;
  readonly blocks: readonly Block[];
}

interface Measured {
  readonly name: string;
  readonly rawBytes: number;
  readonly zstd3: number;
  readonly zstd19: number;
  readonly xz6: number;
  readonly form2: number;
  readonly ours: number;
  readonly zstd3BytesPerS: number;
  readonly oursBytesPerS: number;
}

function zstd(bytes: Uint8Array, level: number): Uint8Array {
  return zstdCompressSync(bytes, { params: { [constants.ZSTD_c_compressionLevel]: level } });
}

async function xzBytes(bytes: Uint8Array): Promise<number> {
  const child = new Deno.Command("xz", { args: ["-6c"], stdin: "piped", stdout: "piped" }).spawn();
  const output = child.output();
  const stdin = child.stdin.getWriter();
  await stdin.write(bytes);
  await stdin.close();
  return (await output).stdout.length;
}

/** Packs all blocks as the writer does. Returns the bytes in the file. */
function pack(blocks: readonly Block[]): number {
  const packer = new ColumnPacker(COMPRESSION_LEVEL);
  const out = new ByteWriter(BLOCK_BYTES);
  let bytes = 0;
  let sinceFresh = Infinity;
  for (const block of blocks) {
    const fresh = sinceFresh >= FRESH_EVERY_BYTES;
    out.reset();
    packer.pack(out, block, fresh);
    sinceFresh = (fresh ? 0 : sinceFresh) + block.reduce((sum, { length }) => sum + length, 0);
    bytes += BLOCK_HEADER_BYTES + out.length;
  }
  return bytes;
}

/** What version 2 of the hybrid log made of a block: zstd of each column that gains by it. */
function form2Bytes(blocks: readonly Block[]): number {
  let bytes = 0;
  for (const block of blocks) {
    bytes += BLOCK_HEADER_BYTES + 2 * COLUMNS;
    for (const [i, column] of block.entries()) {
      const kept = column.length < 64 || i === Column.sendHashes;
      bytes += kept ? column.length : Math.min(column.length, zstd(column, 3).length);
    }
  }
  return bytes;
}

/** By CPU time: this machine may be busy with other things. */
function bytesPerS(bytes: number, runs: number, work: () => void): number {
  const seconds = Array.from({ length: runs }, () => {
    const before = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e6;
  });
  return bytes / median(seconds);
}

async function measureLogs(name: string, logs: readonly Log[], runs: number): Promise<Measured> {
  const plain = logs.map((log) => log.plain);
  const rawBytes = sum(plain, ({ length }) => length);
  const xz = await Promise.all(plain.map(xzBytes));
  const packAll = () => sum(logs, ({ blocks }) => pack(blocks));
  const ours = packAll(); // warms up, too
  return {
    name,
    rawBytes,
    zstd3: sum(plain, (bytes) => zstd(bytes, 3).length),
    zstd19: sum(plain, (bytes) => zstd(bytes, 19).length),
    xz6: sum(xz, (bytes) => bytes),
    form2: sum(logs, ({ blocks }) => form2Bytes(blocks)),
    ours,
    zstd3BytesPerS: bytesPerS(rawBytes, runs, () => plain.forEach((bytes) => zstd(bytes, 3))),
    oursBytesPerS: bytesPerS(rawBytes, runs, packAll),
  };
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}

/** The blocks of one VM's log, unpacked. */
function blocksOf(directory: string): Block[] {
  const names = [...Deno.readDirSync(directory)].map(({ name }) => name)
    .filter((name) => name.endsWith(".seg")).sort();
  const unpacker = new ColumnUnpacker();
  return names.flatMap((name) => {
    const segment = new SegmentReader(`${directory}/${name}`);
    const blocks: Block[] = [];
    try {
      for (let record = segment.next(); record.kind === "block"; record = segment.next()) {
        const { header, payload } = record;
        const columns = unpacker.unpack(payload, header, segment.header!.version, segment.path);
        blocks.push(columns.map((column) => column.bytes(column.remaining).slice()));
      }
    } finally {
      segment.close();
    }
    return blocks;
  });
}

function logOf(blocks: readonly Block[]): Log {
  const columns = Array.from({ length: COLUMNS }, (_, i) => concat(blocks.map((b) => b[i]!)));
  return { plain: concat(columns), blocks };
}

/** Both parts of a recording. */
async function measureRecording(directory: string, runs: number): Promise<Measured[]> {
  const all = readManifest(directory).vms.map(({ name }) => blocksOf(vmDirectory(directory, name)));
  const empty = new Uint8Array(0);
  const events = all.map((blocks) =>
    blocks.map((block) =>
      block.map((column, i) => OF_SENDS_AND_CHECKS.includes(i) ? empty : column)
    )
  );
  const name = directory.split("/").at(-1)!;
  return [
    await measureLogs(`${name}: events`, events.map(logOf), runs),
    await measureLogs(`${name}: whole hybrid log`, all.map(logOf), runs),
  ];
}

/** One of QEMU's own files; every received frame becomes a reference. */
async function measureRrLog(path: string, runs: number): Promise<Measured> {
  const { events, table } = await readRrLogFile(path);
  const unpacker = new ColumnUnpacker();
  const encoder = new BlockEncoder(COMPRESSION_LEVEL);
  const blocks: Block[] = [];
  const finish = () => {
    if (encoder.empty) return;
    const out = new ByteWriter();
    const rawBytes = encoder.finish(out, true);
    const header = { number: blocks.length, rawBytes, goesOn: false };
    const columns = unpacker.unpack(out.view(), header, HYBRID_LOG_VERSION, path);
    blocks.push(columns.map((column) => column.bytes(column.remaining)));
  };
  let frames = 0;
  const scanner = new RrLogScanner(table, {
    events(bytes, start, end) {
      encoder.events(bytes, start, end);
      if (encoder.rawBytes >= BLOCK_BYTES) finish();
    },
    frame(header) {
      encoder.reference(header, 1, frames, BigInt(frames));
      frames++;
    },
  }, path);
  for (let at = 0; at < events.length; at += BLOCK_BYTES / 8) {
    scanner.push(events.subarray(at, at + BLOCK_BYTES / 8));
  }
  finish();
  const log = { plain: events, blocks };
  return await measureLogs(`${path.split("/").at(-1)}: QEMU's log`, [log], runs);
}

/** Records the trio twice: with clusterrr, and with stock QEMU. Returns what to measure. */
async function recordTrio(scratch: string, say: (line: string) => void): Promise<string[]> {
  const signal = AbortSignal.timeout(600_000);
  say("recording the trio");
  await new Commands(scratch, signal).record(SPEC, `${scratch}/trio`);
  const { spec } = await loadClusterFile(SPEC);
  const qemu = await inspectQemu(spec.qemu.program);
  await Deno.mkdir(`${scratch}/stock`);
  say("recording the trio with stock QEMU");
  const cluster = { spec, qemu, createdAt: new Date().toISOString() };
  await recordStock(cluster, `${scratch}/stock`, signal);
  return [`${scratch}/trio`, ...spec.vms.map((vm) => stockLog(`${scratch}/stock`, vm))];
}

function render(measured: readonly Measured[], color: boolean): string {
  const titles = ["RAW", "ZSTD -3", "ZSTD -19", "XZ -6", "FORM 2", "OURS", "OURS/-19"];
  const speeds = ["OURS MB/s", "ZSTD -3 MB/s", "RATIO"];
  const rate = (bytes: number) => (bytes / 1e6).toFixed(0);
  return renderTable(
    [
      { title: "LOG" },
      ...[...titles, ...speeds].map((title) => ({ title, align: "right" as const })),
    ],
    measured.map((m) => [
      m.name,
      ...[m.rawBytes, m.zstd3, m.zstd19, m.xz6, m.form2, m.ours].map(formatBytes),
      (m.ours / m.zstd19).toFixed(2),
      rate(m.oursBytesPerS),
      rate(m.zstd3BytesPerS),
      (m.oursBytesPerS / m.zstd3BytesPerS).toFixed(2),
    ]),
    paint(color),
  ) + measured.map(({ name, ours, zstd19, oursBytesPerS, zstd3BytesPerS }) =>
    `${name}: ours / zstd -19 size ${(ours / zstd19).toFixed(3)} (aim ${SIZE_AIM}), ` +
    `ours / zstd -3 speed ${(oursBytesPerS / zstd3BytesPerS).toFixed(2)} (aim ${SPEED_AIM})\n`
  ).join("");
}

if (import.meta.main) {
  const { positionals, values } = parseArgs({
    args: Deno.args,
    allowPositionals: true,
    options: { runs: { type: "string", default: "5" } },
  });
  const terminal = processTerminal();
  await using cleanup = new AsyncDisposableStack();
  let paths = positionals;
  if (paths.length === 0) {
    const scratch = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "clusterrr-stored-" });
    cleanup.defer(() => Deno.remove(scratch, { recursive: true }));
    paths = await recordTrio(scratch, (line) => terminal.err(line + "\n"));
  }
  const measured: Measured[] = [];
  for (const path of paths) {
    const isRecording = (await Deno.stat(path)).isDirectory;
    const runs = Number(values.runs);
    if (isRecording) measured.push(...await measureRecording(path, runs));
    else measured.push(await measureRrLog(path, runs));
  }
  terminal.out(render(measured, terminal.outColor));
}
