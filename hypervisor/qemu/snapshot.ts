/**
 * Snapshots of a stopped VM, each in a qcow2 file of its own: machine state, and with it the state of
 * QEMU's replay. With disks, their overlays get a snapshot of the same name, and are copied.
 *
 * ```
 * VM stands ── empty qcow2 added as a block node ── snapshot-save into it ── node removed ──▶ file
 * later:       copy of the file as `-drive id=vmstate`, `rrsnapshot=TAG`
 * ```
 * Taken strictly inside a run of instructions, or QEMU might take something of its log meanwhile.
 * Source: QEMU's QAPI schema, `snapshot-save`, `query-jobs`; `replay/replay-snapshot.c`.
 */
import { z } from "zod";
import { run } from "../../host/command.ts";
import { ClusterrrError, QmpError } from "../../lib/errors.ts";
import type { QmpClient } from "../qmp/client.ts";
import { CHECKPOINT_TAG, diskNode } from "./command_line.ts";

const NODE = "vmstate0";
const JOB = "clusterrr-snapshot";
const POLL_MS = 5;
/** Enough for many GiB on a slow disk. */
const TIMEOUT_MS = 600_000;

const jobsShape = z.array(z.object({
  id: z.string(),
  status: z.string(),
  error: z.string().optional(),
}));

/**
 * Saves the state of a VM that stands.
 * @param file the qcow2 file to make
 * @param overlays the files of the VM's disks, and where their copies go
 * @returns false where QEMU cannot just now, since a disk request is under way that only a running VM ends
 * @throws {ClusterrrError} where it cannot be saved, as for want of space
 * Where it does not return true, no file is left.
 */
export async function saveSnapshot(
  qmp: QmpClient,
  file: string,
  overlays: readonly { readonly from: string; readonly to: string }[],
): Promise<boolean> {
  const disks = overlays.map((_, i) => diskNode(i));
  try {
    await run(["qemu-img", "create", "-q", "-f", "qcow2", file, "64K"]);
    await qmp.execute("blockdev-add", {
      "node-name": NODE,
      driver: "qcow2",
      file: { driver: "file", filename: file },
    });
    try {
      await runJob(qmp, "snapshot-save", {
        tag: CHECKPOINT_TAG,
        vmstate: NODE,
        devices: [NODE, ...disks],
      });
      for (const { from, to } of overlays) await Deno.copyFile(from, to);
      if (disks.length > 0) {
        await runJob(qmp, "snapshot-delete", { tag: CHECKPOINT_TAG, devices: disks });
      }
      return true;
    } finally {
      await qmp.execute("blockdev-del", { "node-name": NODE }, { timeoutMs: TIMEOUT_MS });
    }
  } catch (cause) {
    for (const path of [file, ...overlays.map(({ to }) => to)]) {
      await Deno.remove(path).catch(() => {});
    }
    if (cause instanceof QmpError && /right now/.test(cause.message)) return false;
    if (!(cause instanceof ClusterrrError)) throw cause;
    throw new ClusterrrError(`Cannot save the state of a VM to ${file}: ${cause.message}`, {
      cause,
    });
  }
}

/** Runs one of QEMU's background jobs to its end. */
async function runJob(
  qmp: QmpClient,
  command: string,
  args: Readonly<Record<string, unknown>>,
): Promise<void> {
  await qmp.execute(command, { "job-id": JOB, ...args });
  const deadline = performance.now() + TIMEOUT_MS;
  for (;;) {
    // QEMU answers nothing while it writes.
    const jobs = await qmp.execute("query-jobs", {}, { shape: jobsShape, timeoutMs: TIMEOUT_MS });
    const job = jobs.find(({ id }) => id === JOB);
    if (job === undefined) throw new QmpError(command, "JobLost", "QEMU has forgotten the job");
    if (job.status === "concluded") {
      await qmp.execute("job-dismiss", { id: JOB });
      if (job.error !== undefined) throw new QmpError(command, "JobFailed", job.error);
      return;
    }
    if (performance.now() > deadline) throw new QmpError(command, "Timeout", "it does not end");
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
