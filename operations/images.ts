/** The files a VM boots from: what they are is part of a recording, their bytes are not. */
import { createHash } from "node:crypto";
import { ClusterrrError } from "../lib/errors.ts";
import type { VmSpec } from "../lib/cluster/spec.ts";
import type { ManifestVm } from "../lib/recording/manifest.ts";

type Image = ManifestVm["images"][number];

/** Files that several VMs boot from are read once. */
const hashed = new Map<string, Promise<{ sha256: string; bytes: number }>>();

async function hashFile(path: string): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash("sha256");
  const portion = new Uint8Array(1 << 20);
  let bytes = 0;
  using file = await Deno.open(path);
  for (let n = await file.read(portion); n !== null; n = await file.read(portion)) {
    hash.update(portion.subarray(0, n));
    bytes += n;
  }
  return { sha256: hash.digest("hex"), bytes };
}

/** Kernel, initrd and disks of a VM with their digests. */
export async function hashImages(vm: VmSpec): Promise<Image[]> {
  const files: { role: Image["role"]; path: string }[] = [
    { role: "kernel", path: vm.kernel },
    ...(vm.initrd === undefined ? [] : [{ role: "initrd" as const, path: vm.initrd }]),
    ...vm.disks.map((disk) => ({ role: "disk" as const, path: disk.image })),
  ];
  return await Promise.all(files.map(async ({ role, path }) => {
    let digest = hashed.get(path);
    if (digest === undefined) hashed.set(path, digest = hashFile(path));
    return { role, path, ...await digest };
  }));
}

/**
 * Looks whether the recorded images are still what they were.
 * @returns what differs, a line each
 * @throws {ClusterrrError} naming the image that is missing
 */
export async function compareImages(vms: readonly ManifestVm[]): Promise<string[]> {
  const differences: string[] = [];
  for (const vm of vms) {
    for (const image of vm.images) {
      let digest = hashed.get(image.path);
      if (digest === undefined) hashed.set(image.path, digest = hashFile(image.path));
      let now: { sha256: string };
      try {
        now = await digest;
      } catch (cause) {
        hashed.delete(image.path);
        throw new ClusterrrError(
          `The ${image.role} of VM ${vm.name} is missing: ${image.path}. Put the file with SHA-256 ` +
            `${image.sha256} back there.`,
          { cause },
        );
      }
      if (now.sha256 !== image.sha256) {
        differences.push(`another ${image.role} of VM ${vm.name}: ${image.path} has changed`);
      }
    }
  }
  return differences;
}
