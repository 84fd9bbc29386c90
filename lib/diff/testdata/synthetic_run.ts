/** For tests: recordings of runs that never happened, written by the real writers. */
import { hashFrame, storedHash } from "../../roles/frame_matcher.ts";
import { HybridLogWriter } from "../../recording/hybrid_log_writer.ts";
import {
  type Manifest,
  MANIFEST_FORMAT,
  MANIFEST_VERSION,
  type ManifestVm,
  vmDirectory,
  writeManifest,
} from "../../recording/manifest.ts";

export const RR_LOG_VERSION = 0xe0200c;
const SHA256 = "0123456789abcdef".repeat(4);

/** One thing in a VM's log; frames as bytes, from which hashes and references are made. */
export type SyntheticItem =
  /** A whole rr event, no frame; `instructions` is not 0 for runs only. */
  | { readonly item: "event"; readonly bytes: Uint8Array; readonly instructions: number }
  | { readonly item: "send"; readonly frame: Uint8Array }
  | {
    readonly item: "reference";
    readonly source: number;
    readonly number: number;
    readonly frame: Uint8Array;
  }
  | { readonly item: "frame"; readonly frame: Uint8Array }
  | { readonly item: "check"; readonly icount: number; readonly ram: number };

export interface SyntheticVm {
  readonly name: string;
  readonly items: readonly SyntheticItem[];
  /** The instruction count at which it begins; default 0. */
  readonly firstIcount?: number;
  /** Default true. */
  readonly complete?: boolean;
  /** Default: its name. */
  readonly console?: string;
}

/** What may differ between two recordings of the same. */
export interface Cutting {
  readonly blockBytes?: number;
  readonly segmentBytes?: number;
  /** Whether to flush the block before item `i`. */
  readonly flush?: (i: number) => boolean;
  /** The epoch whose cut stands before item `i`, if one does. */
  readonly epoch?: (i: number) => number | undefined;
  /** The Lamport time of item `i`. */
  readonly lamport?: (i: number) => bigint;
}

/** Writes a recording of `vms`, numbered from 1, into `dir`. */
export function writeRun(dir: string, vms: readonly SyntheticVm[], cutting: Cutting = {}): string {
  Deno.mkdirSync(dir, { recursive: true });
  const recorded = vms.map((vm, i) => writeVm(dir, vm, i + 1, cutting));
  const manifest: Manifest = {
    format: MANIFEST_FORMAT,
    formatVersion: MANIFEST_VERSION,
    id: "00112233445566778899aabbccddeeff",
    name: "synthetic",
    createdAt: "2025-01-02T03:04:05.678Z",
    toolVersion: "0.1.0",
    state: "sealed",
    endedBy: "poweroff",
    complete: recorded.every((vm) => vm.logComplete),
    host: { kernel: "6.18.0", cpu: "a CPU", cores: 2 },
    cluster: {},
    vms: recorded,
    segments: [],
    timing: { recordS: 1, epochMs: 250 },
  };
  writeManifest(dir, manifest);
  return dir;
}

function writeVm(dir: string, vm: SyntheticVm, number: number, cutting: Cutting): ManifestVm {
  const writer = new HybridLogWriter(vmDirectory(dir, vm.name), {
    vm: number,
    rrLogVersion: RR_LOG_VERSION,
    ...(cutting.blockBytes === undefined ? {} : { blockBytes: cutting.blockBytes }),
    ...(cutting.segmentBytes === undefined ? {} : { segmentBytes: cutting.segmentBytes }),
    ...(vm.firstIcount === undefined ? {} : { firstIcount: vm.firstIcount }),
  });
  let icount = vm.firstIcount ?? 0;
  for (const [i, item] of vm.items.entries()) {
    if (cutting.flush?.(i)) writer.flush();
    const epoch = cutting.epoch?.(i);
    if (epoch !== undefined) writer.epoch(epoch);
    const lamport = cutting.lamport?.(i) ?? BigInt(i + 1);
    switch (item.item) {
      case "event":
        icount += item.instructions;
        writer.events(item.bytes, 0, item.bytes.length, icount);
        break;
      case "send":
        writer.send(item.frame.length, hashOf(item.frame), lamport, item.frame.subarray(0, 64));
        break;
      case "reference":
        writer.reference(headerOf(item.frame), item.source, item.number, lamport);
        break;
      case "frame":
        writer.frame(headerOf(item.frame), item.frame, lamport, "unmatched");
        break;
      case "check":
        writer.check(checkOf(item.icount, item.ram));
        break;
    }
  }
  const { segments: _, complete, closed, icount: end, ...totals } = writer.close(
    vm.complete ?? true,
  );
  Deno.writeTextFileSync(`${vmDirectory(dir, vm.name)}/console.log`, vm.console ?? vm.name);
  return {
    number,
    name: vm.name,
    qemu: { path: "/qemu", version: "7.2.22", sha256: SHA256, rrLogVersion: RR_LOG_VERSION },
    images: [{ role: "kernel", path: "/vmlinuz", sha256: SHA256, bytes: 8_000_000 }],
    commandLine: ["qemu"],
    console: `vms/${vm.name}/console.log`,
    logComplete: complete,
    logClosed: closed,
    ...(vm.firstIcount === undefined ? {} : { firstIcount: vm.firstIcount }),
    end: { icount: end, reason: "guest-shutdown" },
    totals,
  };
}

export function checkOf(icount: number, ram: number) {
  const ramDigest = `xxh64:${ram.toString(16).padStart(2, "0").repeat(32)}` as const;
  return {
    icount,
    inside: false,
    registers: `RIP=${icount}\nRAX=0`,
    ramDigest,
    ramBytes: 1 << 27,
    wallMs: 1.5e12,
  };
}

export function hashOf(frame: Uint8Array): Uint8Array<ArrayBuffer> {
  return storedHash(hashFrame(frame));
}

/** Kind, id, flags and length of a received frame in QEMU 7.2's log. */
function headerOf(frame: Uint8Array): Uint8Array {
  const header = new Uint8Array(10);
  header[0] = 9;
  new DataView(header.buffer).setUint32(6, frame.length);
  return header;
}
