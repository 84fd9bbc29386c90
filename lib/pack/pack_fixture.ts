/** For tests: small packs in memory, and what comes out of one. */
import { createHash } from "node:crypto";
import { PACK_FORMAT, PACK_VERSION, type PackContents, type PackedFile } from "./contents.ts";
import type { PackReceiver } from "./reader.ts";
import { readPack } from "./reader.ts";
import { packBytes } from "./writer.ts";

/** Files by path. */
export type Files = Readonly<Record<string, Uint8Array>>;

/** The golden pack's files. */
export const GOLDEN_FILES: Files = {
  "manifest.json": new TextEncoder().encode('{"format": "clusterrr-recording"}\n'),
  "cluster.yaml": new Uint8Array(0),
  "vms/web/hybrid-000000.seg": new Uint8Array(512).map((_, i) => i * 7),
  "vms/web/console.log": new TextEncoder().encode("hello\n".repeat(100)),
};

export function contentsOf(files: Files): PackContents {
  return {
    format: PACK_FORMAT,
    formatVersion: PACK_VERSION,
    files: Object.entries(files).map(([path, content]) => ({
      path,
      bytes: content.length,
      sha256: sha256Of(content),
    })),
  };
}

export function sha256Of(content: Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

/** `bytes` in portions of `length`. */
export async function* portions(bytes: Uint8Array, length = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) {
    yield await Promise.resolve(bytes.subarray(at, at + length));
  }
}

export async function gather(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk.slice());
  return joined(all);
}

export function joined(chunks: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** The pack of `files`; `contents` may say something else about them. */
export function packOf(
  files: Files,
  contents = contentsOf(files),
): Promise<Uint8Array<ArrayBuffer>> {
  return gather(packBytes(contents, ({ path }) => portions(files[path]!)));
}

/** The files that a pack holds. @throws {FormatError} */
export async function filesOf(
  pack: Uint8Array | AsyncIterable<Uint8Array>,
  portionBytes = 1000,
): Promise<Record<string, Uint8Array>> {
  const chunks = pack instanceof Uint8Array ? portions(pack, portionBytes) : pack;
  const receiver = new MemoryReceiver();
  await readPack(chunks, "test.tar", receiver);
  return receiver.files;
}

/** Keeps only files that came whole. */
class MemoryReceiver implements PackReceiver {
  readonly files: Record<string, Uint8Array> = {};
  #path = "";
  #chunks: Uint8Array[] = [];

  start(): Promise<void> {
    return Promise.resolve();
  }

  begin({ path }: PackedFile): Promise<void> {
    this.#path = path;
    this.#chunks = [];
    return Promise.resolve();
  }

  data(bytes: Uint8Array): Promise<void> {
    this.#chunks.push(bytes.slice());
    return Promise.resolve();
  }

  end(): Promise<void> {
    this.files[this.#path] = joined(this.#chunks);
    return Promise.resolve();
  }
}
