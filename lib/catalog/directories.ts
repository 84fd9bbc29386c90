/** Recordings on disk: which directories hold one, how large they are, and their removal. */
import { join } from "node:path";
import { ClusterrrError, messageOf } from "../errors.ts";
import { readManifest } from "../recording/manifest.ts";
import { removeRecordingDirectory } from "../recording/recording_directory.ts";
import type { RecordingSummary } from "./entry.ts";

/** The file that makes a directory a recording. */
export const MANIFEST_NAME = "manifest.json";

/** How many directories below its root a search goes. */
const DEPTH_MAX = 8;

/**
 * What the manifest of the recording `dir` says.
 * @throws {ClusterrrError} where `dir` is not a recording, or a damaged one
 */
export function readSummary(dir: string): RecordingSummary {
  const { id, name, createdAt, vms, complete } = readManifest(dir);
  return { id, name, createdAt, vms: vms.map((vm) => vm.name), complete };
}

/** The id of the recording in `dir`; `undefined` where there is none that can be read. */
export function idOfRecording(dir: string): string | undefined {
  try {
    return readSummary(dir).id;
  } catch (error) {
    if (error instanceof ClusterrrError) return undefined;
    throw error;
  }
}

/** The absolute path of `dir` without symbolic links, or `undefined` where there is no directory. */
export async function realDirectory(dir: string): Promise<string | undefined> {
  try {
    const path = await Deno.realPath(dir);
    return (await Deno.stat(path)).isDirectory ? path : undefined;
  } catch (cause) {
    if (isAbsence(cause)) return undefined;
    throw cause;
  }
}

/** Whether `dir` looks like a recording: it has a manifest, readable or not. */
export async function holdsManifest(dir: string): Promise<boolean> {
  try {
    return (await Deno.stat(join(dir, MANIFEST_NAME))).isFile;
  } catch (cause) {
    if (isAbsence(cause)) return false;
    throw cause;
  }
}

/** Nothing is there: no such file, a file where a directory should be, or no right to look. */
function isAbsence(cause: unknown): boolean {
  return cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory ||
    cause instanceof Deno.errors.PermissionDenied;
}

/**
 * Every directory with a manifest at or below `root`, in path order. Symbolic links and hidden
 * directories are not followed; a recording is not searched for further recordings.
 */
export async function* recordingsBelow(root: string, depth = 0): AsyncGenerator<string> {
  if (await holdsManifest(root)) {
    yield root;
    return;
  }
  if (depth === DEPTH_MAX) return;
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(root)) {
      if (entry.isDirectory && !entry.name.startsWith(".")) names.push(entry.name);
    }
  } catch (cause) {
    if (!isAbsence(cause)) throw cause;
  }
  for (const name of names.sort()) yield* recordingsBelow(join(root, name), depth + 1);
}

/** Bytes of all files below `dir`. Files that vanish meanwhile count as nothing. */
export async function directoryBytes(dir: string): Promise<number> {
  let total = 0;
  for await (const entry of Deno.readDir(dir)) {
    const path = join(dir, entry.name);
    try {
      if (entry.isDirectory) total += await directoryBytes(path);
      else if (entry.isFile) total += (await Deno.lstat(path)).size;
    } catch (cause) {
      if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    }
  }
  return total;
}

/**
 * Deletes the recording in `dir`, and only a recording: the directory must hold a manifest of ours
 * with this `id`.
 * @throws {ClusterrrError} where it is anything else; nothing is deleted then
 */
export async function deleteRecording(dir: string, id: string): Promise<void> {
  let found: string;
  try {
    found = readSummary(dir).id;
  } catch (cause) {
    throw new ClusterrrError(
      `Not deleting ${dir}: it does not hold a readable recording (${messageOf(cause)}). ` +
        `Delete it yourself, or use --keep-files to forget it.`,
      { cause },
    );
  }
  if (found !== id) {
    throw new ClusterrrError(
      `Not deleting ${dir}: it holds recording ${found}, not ${id}. ` +
        `Run \`clusterrr add ${dir}\` to bring the catalog up to date.`,
    );
  }
  await removeRecordingDirectory(dir);
}
