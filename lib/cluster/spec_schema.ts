/** A resolved cluster as it comes from elsewhere: over the network, out of a manifest. */
import { z } from "zod";
import { FormatError } from "../errors.ts";
import { schemaProblems } from "../schema_problems.ts";
import { DISKS_MAX, SERIAL_INPUT_MAX, VMS_MAX } from "./schema.ts";
import type { ClusterSpec } from "./spec.ts";

const TEXT_MAX = 4096;
const name = z.string().regex(/^[a-z][a-z0-9-]{0,30}$/);
const text = z.string().max(TEXT_MAX);

export const clusterSpecSchema: z.ZodType<ClusterSpec> = z.strictObject({
  name,
  network: z.strictObject({
    uplink: z.strictObject({
      address: z.string().regex(/^[0-9.]{7,15}\/[0-9]{1,2}$/),
      nat: z.boolean(),
      host: name.exactOptional(),
    }).exactOptional(),
  }),
  qemu: z.strictObject({
    program: text,
    machine: text,
    cpu: text,
    icountShift: z.int().min(0).max(10),
    nic: text,
  }),
  vms: z.array(z.strictObject({
    number: z.int().min(1).max(VMS_MAX),
    name,
    host: name.exactOptional(),
    memoryMiB: z.int().min(1),
    kernel: text,
    initrd: text.exactOptional(),
    kernelArgs: text,
    disks: z.array(z.strictObject({ image: text, format: z.enum(["qcow2", "raw"]) })).max(
      DISKS_MAX,
    ),
    mac: z.string().regex(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/),
    serialInput: z.string().max(SERIAL_INPUT_MAX).exactOptional(),
    onReboot: z.literal("restart").exactOptional(),
  })).min(1).max(VMS_MAX),
});

/**
 * The cluster in the manifest of the recording or snapshot in `directory`.
 * @throws {FormatError} it is none
 */
export function clusterOf(
  manifest: { readonly cluster?: unknown },
  directory: string,
): ClusterSpec {
  const result = clusterSpecSchema.safeParse(manifest.cluster);
  if (result.success) return result.data;
  const what = `cluster: ${schemaProblems(result.error)}`;
  throw new FormatError(`${directory}/manifest.json`, 0, what, { cause: result.error });
}
