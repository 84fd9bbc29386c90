/** For the tests of the hybrid log: small logs in temporary directories. */
import { type HybridLogExpectation, HybridLogReader } from "../hybrid_log_reader.ts";
import type { HybridLogOptions } from "../hybrid_log_writer.ts";
import { numberItems, rrHeader, type TraceItem, TraceVisitor } from "./item_trace.ts";

export const VM: HybridLogExpectation = { vm: 2, rrLogVersion: 0xe0200c };
export const OPTIONS: HybridLogOptions = { vm: 2, rrLogVersion: 0xe0200c };
/** Blocks and segments so small that a few items fill several. */
export const SMALL = { ...OPTIONS, blockBytes: 100, segmentBytes: 700 };

/** Some of everything, `rounds` times. */
export function someItems(rounds: number): TraceItem[] {
  const items: TraceItem[] = [];
  for (let i = 0; i < rounds; i++) {
    const lamport = 2n ** 40n + BigInt(i);
    const payload = `aabbccdd${(i % 256).toString(16).padStart(2, "0")}`;
    items.push(
      { item: "events", bytes: "000000000921".repeat(4 + i % 3) },
      { item: "reference", header: rrHeader(9, 0, 0, 60), source: 1, number: i, lamport },
      { item: "send", number: 0, length: 60, hash: `${payload}000000`, lamport, head: payload },
      { item: "frame", header: rrHeader(9, 0, 1, 5), payload, lamport, origin: "external" },
    );
    if (i % 3 === 2) items.push({ item: "epoch", epoch: 2, icount: 0 });
    if (i % 5 !== 4) continue;
    const ramDigest = `xxh64:${"ab".repeat(32)}` as const;
    const state = { registers: "RAX=0", ramDigest, ramBytes: 1 << 27, wallMs: 1.5e12 + i };
    items.push({ item: "check", check: { icount: i * 100, inside: i % 2 === 0, ...state } });
  }
  return numberItems(items);
}

export function inTempDir(work: (dir: string) => void): void {
  const dir = Deno.makeTempDirSync({ prefix: "clrr-hybrid-" });
  try {
    work(dir);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
}

export function copySegments(from: string, to: string): void {
  for (const { name } of Deno.readDirSync(from)) {
    Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
  }
}

/** The blocks of a log: where each starts, ends, and the items up to its end. */
export function blocksOf(dir: string) {
  const reader = HybridLogReader.open(dir, VM);
  const visitor = new TraceVisitor();
  const blocks: { file: string; offset: number; firstIcount: number; items: TraceItem[] }[] = [];
  while (reader.nextBlock(visitor)) {
    const { file, offset, firstIcount } = reader.block!;
    blocks.push({ file, offset, firstIcount, items: [...visitor.items] });
  }
  reader.close();
  return blocks;
}

/** Where the index block of a finished segment starts, from its footer. */
export function indexOffset(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset + bytes.length - 16).getUint32(0, true);
}
