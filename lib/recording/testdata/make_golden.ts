/**
 * Writes the golden recording anew: `deno run -A lib/recording/testdata/make_golden.ts`.
 * Only for a change of the format; the version and `FORMAT.md` change with it.
 */
import { fileURLToPath } from "node:url";
import { HybridLogReader } from "../hybrid_log_reader.ts";
import { HybridLogWriter } from "../hybrid_log_writer.ts";
import { type Manifest, vmDirectory, writeManifest } from "../manifest.ts";
import { createRecordingDirectory } from "../recording_directory.ts";
import {
  formatTrace,
  numberItems,
  readItems,
  rrHeader,
  type TraceItem,
  writeItems,
} from "./item_trace.ts";

const dir = fileURLToPath(new URL("./golden", import.meta.url));
const sha256 = "0123456789abcdef".repeat(4);
await Deno.remove(dir, { recursive: true }).catch(() => {});
createRecordingDirectory(dir);

const options = { vm: 1, rrLogVersion: 0xe0200c, blockBytes: 600, segmentBytes: 1200 };
const writer = new HybridLogWriter(vmDirectory(dir, "web"), options);
writeItems(writer, goldenItems());
const { segments, complete, closed, icount, ...totals } = writer.close(true);
const manifest: Manifest = {
  format: "clusterrr-recording",
  formatVersion: 3,
  id: "00112233445566778899aabbccddeeff",
  name: "golden",
  createdAt: "2025-01-02T03:04:05.678Z",
  toolVersion: "0.1.0",
  state: "sealed",
  endedBy: "poweroff",
  complete,
  host: { kernel: "6.18.0", cpu: "a CPU", cores: 2 },
  hosts: [
    { name: "alpha", vms: [1], description: { kernel: "6.18.0", cpu: "a CPU", cores: 2 } },
    { name: "beta", vms: [2, 3] },
  ],
  sendDrifts: [{ vm: 2, drifts: [{ from: 100, frames: 1, doubtFrom: 98 }] }],
  cluster: { name: "golden", vms: [{ name: "web" }] },
  vms: [{
    number: 1,
    name: "web",
    qemu: {
      path: "/usr/bin/qemu-system-x86_64",
      version: "7.2.22",
      sha256,
      rrLogVersion: 0xe0200c,
    },
    images: [{ role: "kernel", path: "/boot/vmlinuz", sha256, bytes: 8_000_000 }],
    commandLine: ["qemu-system-x86_64", "-S"],
    console: "vms/web/console.log",
    logComplete: complete,
    logClosed: closed,
    end: { icount, reason: "guest-shutdown" },
    totals,
  }],
  segments: segments.map((segment) => ({ vm: 1, ...segment })),
  timing: { recordS: 1.25, epochMs: 250 },
};
writeManifest(dir, manifest);
const log = readItems(HybridLogReader.open(vmDirectory(dir, "web"), { vm: 1, closed: true }));
Deno.writeTextFileSync(`${dir}/web.trace`, formatTrace(log.items));

/** Every kind of item, in several blocks and segments, numbers of every length. */
function goldenItems(): TraceItem[] {
  const items: TraceItem[] = [];
  for (let i = 0; i < 24; i++) {
    const lamport = (BigInt(i >> 3) << 40n) + BigInt(i);
    const payload = Uint8Array.from({ length: 60 }, (_, j) => (i * 7 + j * j) & 0xff).toHex();
    const hash = Uint8Array.from({ length: 8 }, (_, j) => (i * 31 + j * 17) & 0xff).toHex();
    const source = 2 + i % 2;
    items.push(
      { item: "events", bytes: `00000000${(i + 16).toString(16)}1f`.repeat(5 + i % 4) },
      {
        item: "reference",
        header: rrHeader(9, 0, 0, 1514 - i),
        source,
        number: i * i * i,
        lamport,
      },
      { item: "send", number: 0, length: 60 + i, hash, lamport, head: payload.slice(0, 28) },
    );
    const origin = i % 8 === 3 ? "external" : "unmatched";
    if (i % 4 === 3) {
      items.push({ item: "frame", header: rrHeader(9, 0, 0, 60), payload, lamport, origin });
    }
    if (i % 8 === 7) items.push({ item: "epoch", epoch: i + 1, icount: 0 });
    if (i % 10 !== 9) continue;
    const registers = "RAX=0000000000000000 RBX=0000000000000001\nRIP=ffffffff81000000\n";
    const ramDigest = `xxh64:${sha256}` as const;
    const state = { registers, ramDigest, ramBytes: 1 << 27, wallMs: 1735787045678 + i };
    items.push({ item: "check", check: { icount: i * 1000, inside: i > 10, ...state } });
  }
  return numberItems(items);
}
