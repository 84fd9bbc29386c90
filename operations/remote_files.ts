/** Fetches parts of recordings from agents, and sends images to them. */
import { dirname } from "node:path";
import type { z } from "zod";
import { ClusterrrError, ProtocolError } from "../lib/errors.ts";
import type { Channel } from "../lib/protocol/channel.ts";
import { FILE_METHODS, openLink, PORTION_BYTES_MAX } from "../lib/protocol/control.ts";
import { type Rpc, startRpc } from "../lib/protocol/rpc.ts";
import { type Manifest, manifestSchema } from "../lib/recording/manifest.ts";

export type FileRpc = Rpc<typeof FILE_METHODS>;

/** Portions that are asked for before the first has come. */
const AHEAD = 4;
const PORTION_MS = 60_000;
/** For calls about images: one that is looked for, or has come whole, is hashed before the answer. */
const IMAGE_MS = 600_000;

/** The files of a part of a recording: nothing that leads elsewhere, on either side. */
export const PART_FILE = /^(cluster\.yaml|vms\/[a-z][a-z0-9-]{0,30}\/[a-z0-9-]+\.(seg|log))$/;

/** Opens the file service on a channel to an agent's link listener. */
export async function openFiles(channel: Channel): Promise<FileRpc> {
  await openLink(channel, { open: "files" });
  return startRpc(channel, { serves: {}, handlers: {}, calls: FILE_METHODS });
}

/** What an agent has of a recording. */
export interface RecordingPart {
  readonly manifest: Manifest;
  readonly files: z.output<(typeof FILE_METHODS)["files.list"]["result"]>["files"];
}

export async function listPart(rpc: FileRpc, recording: string): Promise<RecordingPart> {
  const { manifest, files } = await rpc.call("files.list", { recording });
  const strange = files.find(({ path }) => !PART_FILE.test(path));
  if (strange !== undefined) {
    throw new ProtocolError(
      `${rpc.peer.name} offers ${strange.path}, which is no file of a recording.`,
    );
  }
  return { manifest: manifestSchema.parse(manifest), files };
}

/**
 * Copies files of a part into `directory`.
 * @param wanted by path; default: all
 * @param onBytes hears how many have come
 */
export async function fetchPart(
  rpc: FileRpc,
  recording: string,
  { files }: RecordingPart,
  directory: string,
  { wanted = () => true, onBytes = () => {}, signal }: {
    readonly wanted?: (path: string) => boolean;
    readonly onBytes?: (bytes: number) => void;
    readonly signal?: AbortSignal;
  } = {},
): Promise<void> {
  for (const { path, bytes } of files) {
    if (!wanted(path)) continue;
    const target = `${directory}/${path}`;
    await Deno.mkdir(dirname(target), { recursive: true });
    using file = await Deno.open(target, { write: true, create: true, truncate: true });
    const ask = (offset: number) =>
      rpc.call("files.read", { recording, path, offset }, { timeoutMs: PORTION_MS, signal });
    const asked: ReturnType<typeof ask>[] = [];
    let next = 0;
    for (let done = 0; done < bytes;) {
      for (; next < bytes && asked.length < AHEAD; next += PORTION_BYTES_MAX) {
        const answer = ask(next);
        answer.catch(() => {}); // heard when it is its turn
        asked.push(answer);
      }
      const portion = Uint8Array.fromBase64((await asked.shift()!).data);
      if (portion.length === 0) throw new ClusterrrError(`${path} has become shorter meanwhile.`);
      for (let at = 0; at < portion.length;) at += await file.write(portion.subarray(at));
      done += portion.length;
      onBytes(portion.length);
    }
  }
}

/** Which of the images an agent has neither in its store nor at their paths: their digests. */
export async function missingImages(
  rpc: FileRpc,
  images: readonly { readonly path: string; readonly sha256: string }[],
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const wanted = images.map(({ path, sha256 }) => ({ path, sha256 }));
  const options = { timeoutMs: IMAGE_MS, signal };
  const { sha256s } = await rpc.call("images.missing", { images: wanted }, options);
  return new Set(sha256s);
}

/** Sends the file `path` to the image store of an agent. */
export async function sendImage(
  rpc: FileRpc,
  path: string,
  sha256: string,
  signal: AbortSignal,
): Promise<void> {
  using file = await Deno.open(path);
  const { size } = await file.stat();
  for (let offset = 0;;) {
    const portion = new Uint8Array(Math.min(PORTION_BYTES_MAX, size - offset));
    for (let at = 0; at < portion.length;) {
      const n = await file.read(portion.subarray(at));
      if (n === null) throw new ClusterrrError(`${path} has become shorter while it was sent.`);
      at += n;
    }
    const last = offset + portion.length >= size;
    await rpc.call(
      "images.write",
      { sha256, offset, data: portion.toBase64(), last },
      { timeoutMs: IMAGE_MS, signal },
    );
    offset += portion.length;
    if (last) return;
  }
}

/** The bytes of an image in the store of an agent, or of one that it has recorded. */
export async function* readImage(
  rpc: FileRpc,
  sha256: string,
  bytes: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes;) {
    const options = { timeoutMs: IMAGE_MS, signal };
    const { data } = await rpc.call("images.read", { sha256, offset }, options);
    const portion = Uint8Array.fromBase64(data);
    if (portion.length === 0) {
      throw new ClusterrrError(`Image ${sha256} is shorter than ${bytes} bytes.`);
    }
    yield portion;
    offset += portion.length;
  }
}
