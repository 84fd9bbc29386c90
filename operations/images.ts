/**
 * The files a VM boots from: what they are is part of a recording, their bytes need not be. A replay
 * takes each from where it has the recorded digest: the recorded path, the recording, the store.
 */
import { type Digest, digestOf } from "../host/file_digest.ts";
import { ImageStore } from "../host/image_store.ts";
import type { ClusterSpec, VmSpec } from "../lib/cluster/spec.ts";
import { ClusterrrError } from "../lib/errors.ts";
import type { ManifestVm } from "../lib/recording/manifest.ts";
import { requireMovable } from "./image_kinds.ts";

type Image = ManifestVm["images"][number];

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

/** Where the images of a recording are on this host, by the recorded path. */
export type LocatedImages = ReadonlyMap<string, string>;

/** The images that a recording carries: `images/SHA256` in its directory. */
export function carriedImage(directory: string, sha256: string): string {
  return `${directory}/images/${sha256}`;
}

/**
 * Finds each image of a recording: at the recorded path, in the recording's own directory, in the
 * store; wherever it has the recorded digest.
 * @throws {ClusterrrError} with every image that is nowhere, and what to do
 */
export async function locateImages(
  vms: readonly Pick<ManifestVm, "name" | "images">[],
  directory: string,
  store = new ImageStore(),
): Promise<LocatedImages> {
  const paths = new Map<string, string>();
  const missing: string[] = [];
  for (const vm of vms) {
    for (const image of vm.images) {
      const seen = await contentAt(image.path);
      if (seen?.sha256 === image.sha256) {
        paths.set(image.path, image.path);
        continue;
      }
      const places = [carriedImage(directory, image.sha256), store.find(image.sha256)];
      const damaged: string[] = [];
      let found: string | undefined;
      for (const place of places) {
        if (found !== undefined || place === undefined) continue;
        const content = await contentAt(place);
        if (content?.sha256 === image.sha256) found = place;
        else if (content !== undefined) damaged.push(place);
      }
      if (found !== undefined) {
        await requireMovable(vm.name, image, found);
        paths.set(image.path, found);
        continue;
      }
      const what = seen === undefined
        ? `The ${image.role} of VM ${vm.name} is missing: ${image.path}`
        : `another ${image.role} of VM ${vm.name}: ${image.path} has changed`;
      missing.push(
        `${what}; SHA-256 ${image.sha256}` +
          damaged.map((place) => `; ${place} is damaged`).join(""),
      );
    }
  }
  if (missing.length === 0) return paths;
  throw new ClusterrrError(
    `The recording starts from images that are not on this host:\n` +
      [...new Set(missing)].map((line) => `  - ${line}`).join("\n") +
      `\nPut each file back to its path, or into ${directory}/images or ${store.directory} with its ` +
      "SHA-256 as its name. `clusterrr pack --images`, where it was recorded, takes them along.",
  );
}

/** The digest of the file `path`, or `undefined` where there is no file that can be read. */
async function contentAt(path: string): Promise<Digest | undefined> {
  try {
    return await digestOf(path);
  } catch (error) {
    const { NotFound, NotADirectory, IsADirectory, PermissionDenied } = Deno.errors;
    const absences = [NotFound, NotADirectory, IsADirectory, PermissionDenied];
    if (absences.some((absence) => error instanceof absence)) return undefined;
    throw error;
  }
}

/** `spec` with the paths that its images have on this host. */
export function withLocalImages(spec: ClusterSpec, paths: LocatedImages): ClusterSpec {
  const local = (path: string) => {
    const found = paths.get(path);
    if (found === undefined) {
      throw new ClusterrrError(`The manifest lacks the digest of the image ${path}.`);
    }
    return found;
  };
  return {
    ...spec,
    vms: spec.vms.map((vm) => ({
      ...vm,
      kernel: local(vm.kernel),
      ...(vm.initrd === undefined ? {} : { initrd: local(vm.initrd) }),
      disks: vm.disks.map((disk) => ({ ...disk, image: local(disk.image) })),
    })),
  };
}

/** Whether an image is at its recorded path or in the store. */
export async function isOnHost(
  image: Pick<Image, "path" | "sha256">,
  store: ImageStore,
): Promise<boolean> {
  return (await contentAt(image.path))?.sha256 === image.sha256 ||
    store.find(image.sha256) !== undefined;
}
