/**
 * Images by content: a directory with one file for each SHA-256, which is its name.
 *
 * ```
 * DIRECTORY/.partial-RANDOM ──has the expected digest──▶ DIRECTORY/SHA256
 *                           └─else, or cut short─▶ gone
 * ```
 * Only a rename leads to SHA256, so what can be found was whole when it was added. Several processes
 * may add at once. An image that was linked changes when its other name is written to: whoever boots
 * from one compares its digest.
 */
import { createHash } from "node:crypto";
import { ClusterrrError, errnoOf, HostError, messageOf } from "../lib/errors.ts";
import { type Digest, hashFile } from "./file_digest.ts";

const NAME = /^[0-9a-f]{64}$/;
const PARTIAL = ".partial-";
/** An adding process that has written nothing for so long is gone. */
const ABANDONED_MS = 24 * 3_600_000;

/** Where this host keeps images: `CLUSTERRR_IMAGES`, or `/var/lib/clusterrr/images`. */
export function imagesDirectory(
  env: (name: string) => string | undefined = Deno.env.get,
): string {
  return env("CLUSTERRR_IMAGES") || "/var/lib/clusterrr/images";
}

/** The images of one directory, which need not be there yet. */
export class ImageStore {
  constructor(
    readonly directory: string = imagesDirectory(),
    private readonly now: () => number = Date.now,
  ) {}

  /** The file with this content, or `undefined`. Its bytes are not read. */
  find(sha256: string): string | undefined {
    const path = this.#path(sha256);
    try {
      return Deno.statSync(path).isFile ? path : undefined;
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw error;
    }
  }

  /**
   * Takes an image in. A file is linked where it lies on the same file system, else copied.
   * @param source a file's path, or bytes as they come
   * @param signal ends it early; nothing is left then
   * @returns the path in the store
   * @throws {ClusterrrError} where the content is not `sha256`; {HostError} where the disk refuses
   */
  async add(
    source: string | AsyncIterable<Uint8Array>,
    sha256: string,
    signal?: AbortSignal,
  ): Promise<string> {
    const path = this.#path(sha256);
    if (this.find(sha256) !== undefined && (await hashFile(path)).sha256 === sha256) return path;
    const partial = `${this.directory}/${PARTIAL}${crypto.randomUUID()}`;
    try {
      Deno.mkdirSync(this.directory, { recursive: true, mode: 0o755 });
      this.#removeAbandoned();
      const digest = typeof source === "string" && await linked(source, partial)
        ? await hashFile(partial)
        : await copied(typeof source === "string" ? chunksOf(source) : source, partial, signal);
      if (digest.sha256 !== sha256) throw wrongContent(source, digest, sha256);
      Deno.renameSync(partial, path);
      // Where `path` is another link to the same file, rename does nothing: take the name away.
      removeIfThere(partial);
      return path;
    } catch (cause) {
      removeIfThere(partial);
      if (cause instanceof ClusterrrError || signal?.aborted) throw cause;
      throw new HostError(
        `add an image to ${this.directory}`,
        errnoOf(cause) ?? 0,
        messageOf(cause),
        "CLUSTERRR_IMAGES names another directory.",
        { cause },
      );
    }
  }

  /** What adding processes left that were killed. */
  #removeAbandoned(): void {
    for (const name of this.#names()) {
      if (!name.startsWith(PARTIAL)) continue;
      const path = `${this.directory}/${name}`;
      try {
        const changed = Deno.lstatSync(path).ctime?.getTime() ?? Infinity;
        if (this.now() - changed > ABANDONED_MS) Deno.removeSync(path);
      } catch (error) {
        if (!isAbsence(error)) throw error;
      }
    }
  }

  #names(): string[] {
    try {
      return [...Deno.readDirSync(this.directory)].filter((e) => e.isFile).map((e) => e.name);
    } catch (error) {
      if (isAbsence(error)) return [];
      throw error;
    }
  }

  #path(sha256: string): string {
    if (!NAME.test(sha256)) throw new Error(`not a SHA-256: ${sha256}`);
    return `${this.directory}/${sha256}`;
  }
}

/** Makes `path` another name of the file `source`; false where it has to be copied. */
async function linked(source: string, path: string): Promise<boolean> {
  // A link to a symbolic link would keep pointing to wherever it points.
  const file = await Deno.realPath(source);
  try {
    await Deno.link(file, path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw error;
    return false; // another file system, one without links, too many links, no right to link
  }
}

async function copied(
  chunks: AsyncIterable<Uint8Array>,
  path: string,
  signal: AbortSignal | undefined,
): Promise<Digest> {
  const hash = createHash("sha256");
  let bytes = 0;
  using file = await Deno.open(path, { write: true, createNew: true, mode: 0o644 });
  for await (const chunk of chunks) {
    signal?.throwIfAborted();
    hash.update(chunk);
    for (let done = 0; done < chunk.length;) done += await file.write(chunk.subarray(done));
    bytes += chunk.length;
  }
  await file.sync();
  return { sha256: hash.digest("hex"), bytes };
}

async function* chunksOf(path: string): AsyncGenerator<Uint8Array> {
  const file = await Deno.open(path);
  yield* file.readable; // closes the file
}

function wrongContent(
  source: string | AsyncIterable<Uint8Array>,
  { sha256, bytes }: Digest,
  expected: string,
): ClusterrrError {
  const what = typeof source === "string" ? source : "What was received";
  return new ClusterrrError(
    `${what} is not the image with SHA-256 ${expected}: its ${bytes} bytes have SHA-256 ${sha256}.`,
  );
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!isAbsence(error)) throw error;
  }
}

function isAbsence(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;
}
