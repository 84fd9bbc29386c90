/** What an agent gives out and takes in on its link listener: parts of recordings, images. */
import { ClusterrrError } from "../../lib/errors.ts";
import { FILE_METHODS, PORTION_BYTES_MAX } from "../../lib/protocol/control.ts";
import type { Channel } from "../../lib/protocol/channel.ts";
import { type Handlers, startRpc } from "../../lib/protocol/rpc.ts";
import { type Manifest, readManifest } from "../../lib/recording/manifest.ts";
import { isOnHost } from "../images.ts";
import { PART_FILE } from "../remote_files.ts";
import type { AgentState } from "./agent_state.ts";

/** Serves `channel` until it is closed. */
export function serveFiles(channel: Channel, state: AgentState): void {
  const uploads = new Map<string, Upload>();
  const handlers: Handlers<typeof FILE_METHODS> = {
    "files.list": ({ recording }) => {
      const directory = state.recording(recording);
      const manifest = readManifest(directory);
      const files = ["cluster.yaml"];
      for (const { name } of manifest.vms) {
        for (const entry of Deno.readDirSync(`${directory}/vms/${name}`)) {
          files.push(`vms/${name}/${entry.name}`);
        }
      }
      return {
        manifest,
        files: files.filter((path) => PART_FILE.test(path)).sort()
          .map((path) => ({ path, bytes: Deno.statSync(`${directory}/${path}`).size })),
      };
    },
    "files.read": async ({ recording, path, offset }) => {
      if (!PART_FILE.test(path)) throw new ClusterrrError(`no file of a recording: ${path}`);
      return { data: await readPortion(`${state.recording(recording)}/${path}`, offset) };
    },
    "images.missing": async ({ images }) => {
      const missing: string[] = [];
      for (const image of images) {
        if (!await isOnHost(image, state.images)) missing.push(image.sha256);
      }
      return { sha256s: missing };
    },
    "images.read": async ({ sha256, offset }) => {
      const path = state.images.find(sha256) ?? await recordedImage(sha256, state);
      if (path === undefined) throw new ClusterrrError(`There is no image ${sha256} here.`);
      return { data: await readPortion(path, offset) };
    },
    "images.write": async ({ sha256, offset, data, last }) => {
      let upload = uploads.get(sha256);
      if (offset === 0) {
        await upload?.abort();
        uploads.set(sha256, upload = new Upload(state, sha256));
      }
      if (upload === undefined || upload.bytes !== offset) {
        throw new ClusterrrError(
          `A portion of image ${sha256} at ${offset}: ${upload?.bytes ?? 0} is next.`,
        );
      }
      await upload.write(Uint8Array.fromBase64(data));
      if (!last) return {};
      uploads.delete(sha256);
      await upload.finish();
      return {};
    },
  };
  const rpc = startRpc(channel, { serves: FILE_METHODS, handlers, calls: {} });
  void rpc.closed.then(() => {
    for (const upload of uploads.values()) void upload.abort();
  });
}

/** An image that a recording here started from, where it still is. */
async function recordedImage(sha256: string, state: AgentState): Promise<string | undefined> {
  for (const recording of state.recordings()) {
    const image = imagesOf(recording).find((each) => each.sha256 === sha256);
    if (image !== undefined && await isOnHost(image, state.images)) return image.path;
  }
  return undefined;
}

/** None of a recording that is being removed, or that this build cannot read. */
function imagesOf(recording: string): Manifest["vms"][number]["images"] {
  try {
    return readManifest(recording).vms.flatMap(({ images }) => images);
  } catch (error) {
    if (!(error instanceof ClusterrrError)) throw error;
    return [];
  }
}

async function readPortion(path: string, offset: number): Promise<string> {
  using file = await Deno.open(path);
  await file.seek(offset, Deno.SeekMode.Start);
  const portion = new Uint8Array(PORTION_BYTES_MAX);
  let bytes = 0;
  while (bytes < portion.length) {
    const n = await file.read(portion.subarray(bytes));
    if (n === null) break;
    bytes += n;
  }
  return portion.subarray(0, bytes).toBase64();
}

/** An image that comes in, portion by portion. */
class Upload {
  bytes = 0;
  readonly #pipe = new TransformStream<Uint8Array, Uint8Array>();
  readonly #writer = this.#pipe.writable.getWriter();
  readonly #adding: Promise<string>;

  constructor(state: AgentState, sha256: string) {
    this.#adding = state.images.add(this.#pipe.readable, sha256);
    this.#adding.catch(() => {}); // `finish` tells, or the upload was given up
  }

  async write(portion: Uint8Array): Promise<void> {
    // Where the image is there already, nobody reads: its sender need not know.
    await Promise.race([this.#writer.write(portion), this.#adding]);
    this.bytes += portion.length;
  }

  async finish(): Promise<void> {
    this.#writer.close().catch(() => {});
    await this.#adding;
  }

  async abort(): Promise<void> {
    await this.#writer.abort(new ClusterrrError("the upload was given up")).catch(() => {});
    await this.#adding.catch(() => {});
  }
}
