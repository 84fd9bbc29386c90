/** The files a VM boots from: what they are is part of a recording, their bytes are not. */
import { createHash } from "node:crypto";
import { ClusterrrError } from "../lib/errors.ts";
import type { VmSpec } from "../lib/cluster/spec.ts";
import type { ManifestVm } from "../lib/recording/manifest.ts";

type Image = ManifestVm["images"][number];

export interface Digest {
  readonly sha256: string;
  readonly bytes: number;
}

/** Files that several VMs boot from are read once: by inode, length and time of the last change. */
const hashed = new Map<string, Promise<Digest>>();

/** Length and SHA-256 of the file `path`. */
export async function digestOf(path: string): Promise<Digest> {
  const { dev, ino, size, mtime } = await Deno.stat(path);
  const file = [dev, ino, size, mtime?.getTime()].join(" ");
  let digest = hashed.get(file);
  if (digest === undefined) hashed.set(file, digest = hashFile(path));
  try {
    return await digest;
  } catch (error) {
    hashed.delete(file);
    throw error;
  }
}

async function hashFile(path: string): Promise<Digest> {
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
  return await Promise.all(
    files.map(async ({ role, path }) => ({ role, path, ...await digestOf(path) })),
  );
}

/**
 * Looks whether the recorded images are still what they were.
 * @returns what differs, a line each
 * @throws {ClusterrrError} naming the image that is missing
 */
export async function compareImages(
  vms: readonly Pick<ManifestVm, "name" | "images">[],
): Promise<string[]> {
  const differences: string[] = [];
  for (const vm of vms) {
    for (const image of vm.images) {
      let now: Digest;
      try {
        now = await digestOf(image.path);
      } catch (cause) {
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
