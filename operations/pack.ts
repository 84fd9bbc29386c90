/**
 * `clusterrr pack`: a recording as one file, with what it boots from if wanted. The pack is written beside its
 * final name and gets that when it is whole.
 */
import { digestOf } from "../host/file_digest.ts";
import type { PackOptions, PackReport, Progress } from "../lib/cli/ports.ts";
import { ClusterrrError, FormatError } from "../lib/errors.ts";
import { compressed } from "../lib/pack/compression.ts";
import {
  PACK_FORMAT,
  PACK_VERSION,
  type PackContents,
  type PackedFile,
} from "../lib/pack/contents.ts";
import { packBytes } from "../lib/pack/writer.ts";
import { type Manifest, readManifest, vmDirectory } from "../lib/recording/manifest.ts";
import { SNAPSHOT_MANIFEST } from "../lib/snapshot/snapshot.ts";
import { requireMovable } from "./image_kinds.ts";
import { locateImages } from "./images.ts";
import { newName, onDisk, PackProgress, requireAbsent } from "./pack_files.ts";
import { snapshotOf } from "./start_state.ts";

/** A file to pack, and where it is. */
interface Source {
  readonly path: string;
  readonly from: string;
}

/**
 * Packs a recording.
 * @param signal ends it early; nothing is left then
 * @throws {ClusterrrError} where an image is missing or cannot be moved, or the output exists
 * @throws {FormatError} where the recording is damaged
 */
export async function pack(
  options: PackOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<PackReport> {
  const startedAt = performance.now();
  const { directory, file } = options;
  await requireAbsent(file, "Choose another name, or remove it");
  const manifest = readManifest(directory);
  const logs = recordingFiles(directory, manifest);
  const snapshot = options.images ? await snapshotFiles(directory, manifest) : [];
  const images = options.images ? await imageFiles(directory, manifest) : [];
  const sources = [...logs, ...snapshot, ...images];
  const files = await listFiles(sources, manifest, progress, signal);
  const contents: PackContents = {
    format: PACK_FORMAT,
    formatVersion: PACK_VERSION,
    files,
  };
  const from = new Map(sources.map((source) => [source.path, source.from]));
  const counter = new PackProgress("packing", files, progress, signal);
  const bytes = packBytes(contents, ({ path }) => counter.count(chunksOf(from.get(path)!)));
  await writeNew(file, options.images ? compressed(bytes) : bytes, signal);
  return {
    file,
    id: manifest.id,
    name: manifest.name,
    bytes: (await Deno.stat(file)).size,
    files: files.length,
    contentBytes: files.reduce((sum, each) => sum + each.bytes, 0),
    images: images.length,
    snapshot: snapshot.length > 0,
    leftOut: await leftOut(directory, new Set(files.map(({ path }) => path))),
    packS: (performance.now() - startedAt) / 1000,
  };
}

/**
 * The recording itself: of a sealed one what its manifest lists, else every segment that there is.
 * @throws {ClusterrrError} where a VM has none
 */
function recordingFiles(directory: string, manifest: Manifest): Source[] {
  const paths = ["manifest.json"];
  if (exists(`${directory}/cluster.yaml`)) paths.push("cluster.yaml");
  for (const vm of manifest.vms) {
    const at = `vms/${vm.name}`;
    const segments = manifest.state === "sealed"
      ? manifest.segments.filter((segment) => segment.vm === vm.number).map(({ file }) => file)
      : namesIn(vmDirectory(directory, vm.name)).filter((name) =>
        /^hybrid-\d{6,}\.seg$/.test(name)
      );
    if (segments.length === 0) {
      throw new ClusterrrError(
        `Recording ${directory} has no log of VM ${vm.name}: it was cut off before there was anything. ` +
          "It cannot be replayed, here or elsewhere.",
      );
    }
    paths.push(...segments.map((name) => `${at}/${name}`));
    if (exists(`${directory}/${at}/console.log`)) paths.push(`${at}/console.log`);
  }
  return paths.map((path) => ({ path, from: `${directory}/${path}` }));
}

/** The snapshot that the recording starts from, every file of it. */
async function snapshotFiles(directory: string, manifest: Manifest): Promise<Source[]> {
  const snapshot = await snapshotOf(manifest, directory);
  if (snapshot === undefined) return [];
  const paths = [SNAPSHOT_MANIFEST, "cluster.yaml"];
  for (const vm of snapshot.manifest.vms) {
    paths.push(...[vm.state, ...vm.disks, vm.inFlight].map((each) => each.path));
    paths.push(`vms/${vm.name}/console.log`);
  }
  return paths.filter((path) => exists(`${snapshot.directory}/${path}`))
    .map((path) => ({ path: `snapshot/${path}`, from: `${snapshot.directory}/${path}` }));
}

/** Each image once, named by its digest. */
async function imageFiles(directory: string, manifest: Manifest): Promise<Source[]> {
  const located = await locateImages(manifest.vms, directory);
  const sources = new Map<string, Source>();
  for (const vm of manifest.vms) {
    for (const image of vm.images) {
      const from = located.get(image.path)!;
      await requireMovable(vm.name, image, from);
      sources.set(image.sha256, { path: `images/${image.sha256}`, from });
    }
  }
  return [...sources.values()];
}

/** Size and digest of each file. @throws {FormatError} where a segment is not what was recorded */
async function listFiles(
  sources: readonly Source[],
  manifest: Manifest,
  progress: Progress,
  signal: AbortSignal,
): Promise<PackedFile[]> {
  const recorded = new Map(manifest.segments.map((segment) => {
    const { name } = manifest.vms.find(({ number }) => number === segment.vm)!;
    return [`vms/${name}/${segment.file}`, segment];
  }));
  const files: PackedFile[] = [];
  for (const [i, { path, from }] of sources.entries()) {
    signal.throwIfAborted();
    progress.show({ phase: "reading", fraction: i / sources.length, vms: [] });
    const segment = recorded.get(path);
    if (segment !== undefined && !exists(from)) {
      throw new FormatError(from, 0, "the segment is missing");
    }
    const { bytes, sha256 } = await digestOf(from);
    if (segment !== undefined && segment.sha256 !== sha256) {
      throw new FormatError(
        from,
        0,
        `the segment is damaged: SHA-256 ${sha256}, recorded ${segment.sha256}`,
      );
    }
    files.push({ path, bytes, sha256 });
  }
  return files;
}

/** Writes a file that is there whole or not at all. */
async function writeNew(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const partial = newName(path);
  await onDisk("write", path, async () => {
    try {
      using file = await Deno.open(partial, { write: true, createNew: true });
      for await (const chunk of chunks) {
        signal.throwIfAborted();
        for (let done = 0; done < chunk.length;) done += await file.write(chunk.subarray(done));
      }
      await file.sync();
      await requireAbsent(path, "Choose another name, or remove it");
      await Deno.rename(partial, path);
    } catch (error) {
      await Deno.remove(partial).catch(() => {}); // the first error is the one to report
      throw error;
    }
  });
}

/** What lies in the recording's directory and is not packed. */
async function leftOut(directory: string, packed: ReadonlySet<string>): Promise<string[]> {
  const found: string[] = [];
  const walk = async (at: string) => {
    for await (const { name, isDirectory } of Deno.readDir(`${directory}/${at}`)) {
      const path = at === "" ? name : `${at}/${name}`;
      if (packed.has(path)) continue;
      const holdsPacked = [...packed].some((each) => each.startsWith(`${path}/`));
      if (isDirectory && holdsPacked) await walk(path);
      else found.push(isDirectory ? `${path}/` : path);
    }
  };
  await walk("");
  return found.sort();
}

async function* chunksOf(path: string): AsyncGenerator<Uint8Array> {
  const file = await Deno.open(path);
  yield* file.readable; // closes the file
}

function namesIn(directory: string): string[] {
  return [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw new ClusterrrError(`Cannot look at ${path}: ${error}`, { cause: error });
  }
}
