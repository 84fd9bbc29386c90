/**
 * The monitor commands that a recording and a replay need, with checked results.
 *
 * All of them work on a paused VM too. An instruction count is QEMU's `icount`.
 */
import { z } from "zod";
import { ProtocolError, QmpError } from "../../lib/errors.ts";
import type { QmpClient } from "./client.ts";

export type ReplayMode = "none" | "record" | "play";

export interface ReplayState {
  readonly mode: ReplayMode;
  readonly icount: number;
}

/** QAPI's `RunState`, of which these matter here: `running`, `paused`, `prelaunch`, `shutdown`. */
export interface RunStatus {
  readonly running: boolean;
  readonly status: string;
}

/** A range of guest-physical memory: bytes `[address, address + size)`. */
export interface MemoryRange {
  readonly address: number;
  readonly size: number;
}

const replayShape = z.object({ mode: z.enum(["none", "record", "play"]), icount: z.number() });
const virtioDevicesShape = z.array(z.object({ name: z.string(), path: z.string() }));
const virtioQueueShape = z.object({ inuse: z.number() });
const statusShape = z.object({ running: z.boolean(), status: z.string() });

export async function queryStatus(qmp: QmpClient): Promise<RunStatus> {
  return await qmp.execute("query-status", {}, { shape: statusShape });
}

/**
 * Where a recording or replay stands. On a paused VM the count is exact.
 * @throws {ProtocolError} where the count no longer fits a JSON number (2^53: months of guest time)
 */
export async function queryReplay(qmp: QmpClient): Promise<ReplayState> {
  const { mode, icount } = await qmp.execute("query-replay", {}, { shape: replayShape });
  if (!Number.isSafeInteger(icount)) {
    throw new ProtocolError(`QMP: query-replay returned an inexact instruction count ${icount}`);
  }
  return { mode, icount };
}

/** Makes a replay pause at that count; there is one such break at a time. */
export async function replayBreak(qmp: QmpClient, icount: number): Promise<void> {
  await qmp.execute("replay-break", { icount });
}

/**
 * Whether an interrupt waits for the CPU, in its local APIC or in a PIC that is not masked: a CPU that has
 * halted will wake, although it has not yet.
 */
export async function interruptWaits(qmp: QmpClient): Promise<boolean> {
  const apic = /^IRR\s+(.*?)\s*$/m.exec(await qmp.hmp("info lapic"))?.[1];
  if (apic !== "(none)") return true;
  const pics = (await qmp.hmp("info pic")).matchAll(/^pic\d: irr=(..) imr=(..)/gm);
  return [...pics].some(([, irr, imr]) => (parseInt(irr!, 16) & ~parseInt(imr!, 16)) !== 0);
}

/**
 * Whether a request to a virtio disk is under way. The host moves its data in its own time, so RAM may change meanwhile
 * without an instruction. (`x-query-virtio-queue-status`: since QEMU 7.2; one queue a disk, as there is one vCPU.)
 */
export async function diskAtWork(qmp: QmpClient): Promise<boolean> {
  const devices = await qmp.execute("x-query-virtio", {}, { shape: virtioDevicesShape });
  for (const { name, path } of devices) {
    if (name !== "virtio-blk") continue;
    const { inuse } = await qmp.execute("x-query-virtio-queue-status", { path, queue: 0 }, {
      shape: virtioQueueShape,
    });
    if (inuse > 0) return true;
  }
  return false;
}

/** The CPU's registers as the human monitor prints them, with plain line ends. */
export async function registers(qmp: QmpClient): Promise<string> {
  return (await qmp.hmp("info registers")).replaceAll("\r\n", "\n");
}

/**
 * Writes a range of guest memory, as the guest sees it, to a file. QEMU writes it: `path` is absolute. The VM must be
 * paused, or the file is no one moment.
 */
export async function saveMemory(
  qmp: QmpClient,
  path: string,
  { address, size }: MemoryRange,
): Promise<void> {
  // 128 MiB take about 0.1 s; a busy host gets a second for every 16 MiB.
  const timeoutMs = 30_000 + Math.ceil(size / (16 << 20)) * 1_000;
  await qmp.execute("pmemsave", { val: address, size, filename: path }, { timeoutMs });
}

/**
 * Where the guest's RAM at `address` lies in the memory of QEMU's process.
 * @throws {ProtocolError} where there is none
 */
export async function hostAddress(qmp: QmpClient, address: number): Promise<number> {
  const hex = `0x${address.toString(16)}`;
  const said = (await qmp.hmp(`gpa2hva ${hex}`)).trim();
  const found = /^Host virtual address for \S+ \(pc\.ram\) is (0x[0-9a-f]+)$/.exec(said)?.[1];
  if (found === undefined) {
    throw new ProtocolError(`QMP: QEMU has no RAM at guest address ${hex}: ${said}`);
  }
  return parseInt(found, 16);
}

/**
 * Saves the paused VM as the snapshot `tag`, into the first writable drive and every disk.
 * @returns false where QEMU cannot just now, since it has work under way that only a running VM ends
 * @throws {QmpError} where it cannot at all
 */
export async function saveVm(
  qmp: QmpClient,
  tag: string,
  timeoutMs: number,
): Promise<boolean> {
  const said = (await qmp.hmp(`savevm ${tag}`, { timeoutMs })).trim();
  if (said === "") return true;
  if (/right now/.test(said)) return false;
  throw new QmpError("savevm", "GenericError", said);
}
