/**
 * A snapshot of a cluster that has booted: what `clusterrr boot` saves and recordings start from.
 *
 * ```
 * NAME/
 *   manifest.json           what it is a snapshot of, with size and digest of the files below, but for
 *                           cluster.yaml and console.log
 *   cluster.yaml            as it was read
 *   vms/VM/state.qcow2      the VM's state, as QEMU's internal snapshot "boot"
 *   vms/VM/diskN.qcow2      the overlay of disk N, with the internal snapshot of the same name
 *   vms/VM/in-flight        frames that were on their way to the VM: u32 length, big-endian, then the bytes
 *   vms/VM/console.log      what it had printed
 * ```
 * Nothing in it is ever written again. Its digest is the SHA-256 of its manifest: recordings name that.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { ClusterrrError, FormatError, messageOf, VersionError } from "../errors.ts";
import { schemaProblems } from "../schema_problems.ts";
import { diskError } from "../recording/disk_error.ts";
import { sha256, vmSchema } from "../recording/manifest.ts";

export const SNAPSHOT_FORMAT = "clusterrr-snapshot";
export const SNAPSHOT_VERSION = 1;
export const SNAPSHOT_MANIFEST = "manifest.json";

const count = z.int().nonnegative();

const fileSchema = z.object({
  /** Relative to the snapshot's directory. */
  path: z.string().regex(/^(?!.*\.\.)[^/]/, "not a relative path"),
  bytes: count,
  sha256,
});
export type SnapshotFile = z.infer<typeof fileSchema>;

const snapshotSchema = z.object({
  format: z.literal(SNAPSHOT_FORMAT),
  formatVersion: z.literal(SNAPSHOT_VERSION),
  name: z.string().min(1),
  /** When the boot began, which the guests' clocks started at. */
  createdAt: z.iso.datetime(),
  savedAt: z.iso.datetime(),
  toolVersion: z.string(),
  /** The MAC address of the uplink's host end, which guests remember. */
  uplinkMac: z.string(),
  /** The resolved cluster file; its owner checks it. */
  cluster: z.unknown(),
  vms: z.array(z.object({
    number: vmSchema.shape.number,
    name: vmSchema.shape.name,
    qemu: vmSchema.shape.qemu,
    images: vmSchema.shape.images,
    /** Instructions that the VM had executed. */
    icount: count,
    /** The count at which the log of a recording starts: QEMU has yet to log what lies between. */
    logIcount: count,
    state: fileSchema,
    /** In the order of the cluster file. */
    disks: z.array(fileSchema),
    inFlight: fileSchema.extend({ frames: count }),
  })),
});
export type SnapshotManifest = z.infer<typeof snapshotSchema>;

/** A snapshot on this host. */
export interface Snapshot {
  readonly directory: string;
  /** SHA-256 of the manifest, hex. */
  readonly sha256: string;
  readonly manifest: SnapshotManifest;
}

/** Writes the manifest into the directory of a snapshot that is being made. @throws {HostError} */
export function writeSnapshotManifest(directory: string, manifest: SnapshotManifest): void {
  const text = JSON.stringify(snapshotSchema.parse(manifest), null, 2) + "\n";
  const path = `${directory}/${SNAPSHOT_MANIFEST}`;
  try {
    Deno.writeTextFileSync(path, text);
    using file = Deno.openSync(path);
    file.syncSync();
  } catch (cause) {
    throw diskError("write", path, cause);
  }
}

/**
 * Reads the manifest of the snapshot in `directory`, and looks that its files have their sizes.
 * @throws {ClusterrrError} where there is none or a file is missing
 * @throws {VersionError} where another build saved it; {FormatError} where it is damaged
 */
export function readSnapshot(directory: string): Snapshot {
  const path = `${directory}/${SNAPSHOT_MANIFEST}`;
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = Deno.readFileSync(path);
  } catch (cause) {
    throw new ClusterrrError(`${directory} is not a snapshot: it has no ${SNAPSHOT_MANIFEST}.`, {
      cause,
    });
  }
  const manifest = parse(path, new TextDecoder().decode(bytes));
  for (const file of filesOf(manifest)) {
    const size = sizeOf(`${directory}/${file.path}`);
    if (size === file.bytes) continue;
    throw new ClusterrrError(
      `Snapshot "${manifest.name}" is damaged: ${directory}/${file.path} ` +
        (size === undefined ? "is missing" : `has ${size} bytes, ${file.bytes} were saved`) +
        `. Remove it and boot again.`,
    );
  }
  return { directory, sha256: createHash("sha256").update(bytes).digest("hex"), manifest };
}

function parse(path: string, text: string): SnapshotManifest {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(path, 0, `not JSON: ${messageOf(cause)}`, { cause });
  }
  const start = z.object({ format: z.string(), formatVersion: z.int() }).safeParse(json);
  if (!start.success || start.data.format !== SNAPSHOT_FORMAT) {
    throw new FormatError(path, 0, "this is the manifest of something else than a snapshot");
  }
  if (start.data.formatVersion !== SNAPSHOT_VERSION) {
    throw new VersionError(
      path,
      0,
      `snapshot format ${start.data.formatVersion}; this build knows ${SNAPSHOT_VERSION}. ` +
        "Boot again with this build.",
    );
  }
  const result = snapshotSchema.safeParse(json);
  if (result.success) return result.data;
  throw new FormatError(path, 0, schemaProblems(result.error), { cause: result.error });
}

/** Every file that the manifest lists. */
export function filesOf(manifest: SnapshotManifest): SnapshotFile[] {
  return manifest.vms.flatMap((vm) => [vm.state, ...vm.disks, vm.inFlight]);
}

function sizeOf(path: string): number | undefined {
  try {
    return Deno.statSync(path).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** The bytes of `frames` as they lie in the file `in-flight`. */
export function encodeFrames(frames: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(frames.reduce((sum, frame) => sum + 4 + frame.length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const frame of frames) {
    view.setUint32(at, frame.length);
    bytes.set(frame, at + 4);
    at += 4 + frame.length;
  }
  return bytes;
}

/** The frames of a file `in-flight`. @throws {FormatError} */
export function decodeFrames(path: string, bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const frames: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes.length - at < 4 ? 0 : view.getUint32(at);
    if (length === 0 || length > bytes.length - at - 4) {
      throw new FormatError(path, at, `no frame of ${length} bytes fits here`);
    }
    frames.push(bytes.slice(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return frames;
}
