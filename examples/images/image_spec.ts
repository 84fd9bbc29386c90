/**
 * What an example's `image.yaml` may say. See `README.md` beside this file.
 */
import { z } from "zod";
import { YamlSource } from "../../lib/cluster/yaml_source.ts";
import { SpecError } from "../../lib/errors.ts";

const SIZE = /^[1-9][0-9]{0,4}[MG]$/;

/** A path in the guest: relative, so that it is compared with those of packages. */
const guestPath = z.string().regex(/^[^/].*[^/]$/, "expected a path without / at its ends");

const diskSchema = z.strictObject({
  /** `NAME.qcow2` beside the initrd; `disks/NAME.sh` in the example fills it. */
  name: z.string().regex(/^[a-z][a-z0-9-]{0,30}$/, "expected a name of a-z, 0-9 and -"),
  /** Of the file system, and so of the disk. */
  size: z.string().regex(SIZE, 'expected a size such as "256M" or "1G"'),
});

const imageSchema = z.strictObject({
  /** Debian package whose first dependency is the kernel's image package. */
  kernel: z.string().default("linux-image-cloud-amd64"),
  /** Kernel modules to load at boot; what they need comes before them by itself. */
  modules: z.array(z.string()).default(["vmxnet3", "virtio_pci", "virtio_blk"]),
  /** Debian packages whose programs the guest has, beside busybox. */
  packages: z.array(z.string()).default([]),
  /** Files and folders of these packages that the guest does not get, nor what only they need. */
  leaveOut: z.array(guestPath).default([]),
  /** Users beside root, with the ids 101, 102, … */
  users: z.array(z.string().regex(/^[a-z_][a-z0-9_-]{0,30}$/, "expected a user's name")).default(
    [],
  ),
  /** Disk images, each an ext4 file system that the guest itself fills when the image is built. */
  disks: z.array(diskSchema).default([]),
});

/** The keys of the mapping at `path`. */
function knownAt(path: readonly (string | number)[]): string {
  return Object.keys((path[0] === "disks" ? diskSchema : imageSchema).shape).join(", ");
}

/** A guest image as `image.yaml` asks for it, defaults filled in. */
export type ImageSpec = z.infer<typeof imageSchema>;

/** A disk image as `image.yaml` asks for it. */
export type DiskRecipe = ImageSpec["disks"][number];

/** Parses the text of an `image.yaml`. @throws {SpecError} */
export function parseImageSpec(file: string, text: string): ImageSpec {
  const source = new YamlSource(text);
  if (source.syntaxProblems.length > 0) throw new SpecError(file, source.syntaxProblems);
  const parsed = imageSchema.safeParse(source.value ?? {});
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.flatMap((issue) => {
    const path = issue.path as (string | number)[];
    if (issue.code !== "unrecognized_keys") return [source.problem(path, issue.message)];
    return issue.keys.map((key) =>
      source.problem([...path, key], `unknown key; known here: ${knownAt(path)}`, "key")
    );
  });
  throw new SpecError(file, problems);
}
