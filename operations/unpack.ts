/**
 * `clusterrr unpack`: a packed recording as a directory again. It is made beside its final name and gets that when
 * every file is there and has its digest.
 */
import { Buffer } from "node:buffer";
import { dirname } from "node:path";
import type { Progress, UnpackOptions, UnpackReport } from "../lib/cli/ports.ts";
import { decompressed } from "../lib/pack/compression.ts";
import type { PackContents, PackedFile } from "../lib/pack/contents.ts";
import { type PackReceiver, readPack } from "../lib/pack/reader.ts";
import { readManifest } from "../lib/recording/manifest.ts";
import { newName, onDisk, PackProgress, requireAbsent } from "./pack_files.ts";

/** Where a file's bytes are all zero for so long, the file has a hole. */
const HOLE_BYTES = 1 << 16;
const ZEROS = new Uint8Array(HOLE_BYTES);

/**
 * Unpacks a recording.
 * @param signal ends it early; nothing is left then
 * @throws {ClusterrrError} where the output exists; {FormatError} where the pack is damaged
 */
export async function unpack(
  { file, out }: UnpackOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<UnpackReport> {
  const startedAt = performance.now();
  await requireAbsent(out, "Choose another directory with --out, or remove it");
  using pack = await onDisk("read", file, () => Deno.open(file));
  const partial = newName(out);
  return await onDisk("make", out, async () => {
    try {
      await Deno.mkdir(partial);
      using receiver = new DirectoryReceiver(partial, progress, signal);
      const contents = await readPack(decompressed(portionsOf(pack), file), file, receiver);
      const manifest = readManifest(partial);
      await requireAbsent(out, "Choose another directory with --out, or remove it");
      await Deno.rename(partial, out);
      const { id, name } = manifest;
      return { directory: out, id, name, ...summaryOf(contents, startedAt) };
    } catch (error) {
      // The first error is the one to report.
      await Deno.remove(partial, { recursive: true }).catch(() => {});
      throw error;
    }
  });
}

function summaryOf({ files }: PackContents, startedAt: number) {
  return {
    files: files.length,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    images: files.filter(({ path }) => path.startsWith("images/")).length,
    snapshot: files.some(({ path }) => path.startsWith("snapshot/")),
    unpackS: (performance.now() - startedAt) / 1000,
  };
}

/** Writes the files of a pack below a directory. Their paths have been checked. */
class DirectoryReceiver implements PackReceiver, Disposable {
  #file: Deno.FsFile | undefined;
  #bytes = 0;
  #progress: PackProgress | undefined;

  constructor(
    private readonly directory: string,
    private readonly progress: Progress,
    private readonly signal: AbortSignal,
  ) {}

  start(contents: PackContents): Promise<void> {
    this.#progress = new PackProgress("unpacking", contents.files, this.progress, this.signal);
    return Promise.resolve();
  }

  async begin({ path, bytes }: PackedFile): Promise<void> {
    const target = `${this.directory}/${path}`;
    await Deno.mkdir(dirname(target), { recursive: true });
    this.#file = await Deno.open(target, { write: true, createNew: true });
    this.#bytes = bytes;
  }

  async data(bytes: Uint8Array): Promise<void> {
    this.#progress!.add(bytes.length);
    const file = this.#file!;
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.subarray(at, at + HOLE_BYTES);
      if (piece.length === HOLE_BYTES && Buffer.compare(piece, ZEROS) === 0) {
        await file.seek(piece.length, Deno.SeekMode.Current);
        at += piece.length;
      } else {
        at += await file.write(piece);
      }
    }
  }

  async end(): Promise<void> {
    const file = this.#file!;
    await file.truncate(this.#bytes); // a hole at the end
    await file.sync();
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#file?.close();
    this.#file = undefined;
  }
}

async function* portionsOf(file: Deno.FsFile): AsyncGenerator<Uint8Array> {
  for (;;) {
    const portion = new Uint8Array(1 << 18);
    const n = await file.read(portion);
    if (n === null) return;
    yield portion.subarray(0, n);
  }
}
