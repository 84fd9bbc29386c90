/** The directory of a recording: how it is claimed, whether its segments are what was recorded, its logs. */
import { createHash } from "node:crypto";
import { ClusterrrError, errnoOf, FormatError, messageOf } from "../errors.ts";
import { capturedNumbers } from "./captured_numbers.ts";
import { HybridLogReader } from "./hybrid_log_reader.ts";
import { type Manifest, type ManifestVm, vmDirectory } from "./manifest.ts";
import { SegmentReader } from "./segment_reader.ts";

/** What removing a mount point ends with. */
const EBUSY = 16;

/**
 * Makes `dir`, or takes it over where it is empty. Of several runs that try at once, one succeeds.
 * @throws {ClusterrrError} where something is there already
 */
export function createRecordingDirectory(dir: string): void {
  try {
    Deno.mkdirSync(dir, { recursive: true });
    const inUse = [...Deno.readDirSync(dir)].length > 0;
    if (!inUse) {
      Deno.mkdirSync(`${dir}/vms`); // fails for all but one
      return;
    }
  } catch (cause) {
    if (!(cause instanceof Deno.errors.AlreadyExists)) throw cannotMake(dir, cause);
  }
  throw inUse(dir);
}

/** Removes a recording. Of a directory that is a link or a mount point, which are the user's, what is in it. */
export async function removeRecordingDirectory(dir: string): Promise<void> {
  for await (const { name } of Deno.readDir(dir)) {
    await Deno.remove(`${dir}/${name}`, { recursive: true });
  }
  if ((await Deno.lstat(dir)).isSymlink) return;
  try {
    await Deno.remove(dir);
  } catch (error) {
    if (errnoOf(error) !== EBUSY) throw error;
  }
}

/**
 * Looks whether `dir` could be made now, for a recording that comes later.
 * @throws {ClusterrrError} where something is there already
 */
export function requireUnused(dir: string): void {
  try {
    if ([...Deno.readDirSync(dir)].length === 0) return;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return;
    throw cannotMake(dir, cause);
  }
  throw inUse(dir);
}

function cannotMake(dir: string, cause: unknown): ClusterrrError {
  return new ClusterrrError(
    `Cannot make the directory ${dir}: ${messageOf(cause)}. Choose another with --out.`,
    { cause },
  );
}

function inUse(dir: string): ClusterrrError {
  return new ClusterrrError(
    `${dir} exists and is not empty; a recording is never overwritten. ` +
      "Choose another directory with --out, or remove this one.",
  );
}

/**
 * Checks every segment of a sealed recording against the size and SHA-256 in its manifest.
 * @throws {FormatError} naming the first file that is missing, cut, damaged or not listed
 */
export async function verifySegments(dir: string, manifest: Manifest): Promise<void> {
  if (manifest.state !== "sealed") {
    throw new ClusterrrError(
      `Recording ${dir} was never sealed, so there are no digests to check its segments against.`,
    );
  }
  for (const vm of manifest.vms) {
    const listed = manifest.segments.filter((segment) => segment.vm === vm.number);
    const vmDir = vmDirectory(dir, vm.name);
    for (const { file, bytes, sha256 } of listed) {
      const actual = await digest(`${vmDir}/${file}`);
      if (actual.bytes !== bytes) {
        throw new FormatError(
          `${vmDir}/${file}`,
          Math.min(actual.bytes, bytes),
          `the segment of VM "${vm.name}" has ${actual.bytes} bytes, ${bytes} were recorded`,
        );
      }
      if (actual.sha256 !== sha256) {
        throw locateDamage(`${vmDir}/${file}`) ?? new FormatError(
          `${vmDir}/${file}`,
          0,
          `the segment of VM "${vm.name}" is damaged: SHA-256 ${actual.sha256}, recorded ${sha256}`,
        );
      }
    }
    for await (const { name } of Deno.readDir(vmDir)) {
      if (name.endsWith(".seg") && !listed.some(({ file }) => file === name)) {
        throw new FormatError(`${vmDir}/${name}`, 0, "a segment that the manifest does not list");
      }
    }
  }
}

/** The first damaged block of a segment, where its own checksums show it. */
function locateDamage(path: string): FormatError | undefined {
  let segment: SegmentReader | undefined;
  try {
    segment = new SegmentReader(path);
    while (segment.next().kind === "block");
  } catch (error) {
    if (error instanceof FormatError) return error;
    throw error;
  } finally {
    segment?.close();
  }
  return undefined;
}

async function digest(path: string): Promise<{ bytes: number; sha256: string }> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    throw new FormatError(path, 0, "the segment is missing", { cause });
  }
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const chunk of file.readable) { // closes the file
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** Opens a VM's hybrid log; the caller closes it. */
export function openLog(directory: string, vm: ManifestVm, manifest: Manifest): HybridLogReader {
  const sendNumberOf = capturedNumbers(manifest, vm.number);
  return HybridLogReader.open(vmDirectory(directory, vm.name), {
    vm: vm.number,
    rrLogVersion: vm.qemu.rrLogVersion,
    closed: vm.logClosed,
    ...(sendNumberOf === undefined ? {} : { sendNumberOf }),
  });
}
