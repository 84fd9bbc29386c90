/**
 * Where an agent keeps what outlives it.
 *
 * ```
 * STATE/
 *   identity/            its key and certificate, and the CA's
 *   recordings/ID/       its part of each recording
 *   replays/RUN/         of a replay that goes on: the recording put together, frames from other hosts
 *   images/SHA256        kernels, initrds and disks that were sent to it
 * ```
 */
import { rm } from "node:fs/promises";
import { ImageStore } from "../../host/image_store.ts";

/** The directories below one state directory. */
export class AgentState {
  readonly images: ImageStore;

  constructor(readonly directory: string) {
    this.images = new ImageStore(`${directory}/images`);
    for (const name of ["recordings", "replays"]) {
      Deno.mkdirSync(`${directory}/${name}`, { recursive: true, mode: 0o700 });
    }
  }

  get identity(): string {
    return `${this.directory}/identity`;
  }

  recording(id: string): string {
    return `${this.directory}/recordings/${id}`;
  }

  replay(run: string): string {
    return `${this.directory}/replays/${run}`;
  }

  async removeRecording(id: string): Promise<void> {
    await rm(this.recording(id), { recursive: true, force: true });
  }

  async removeReplay(run: string): Promise<void> {
    await rm(this.replay(run), { recursive: true, force: true });
  }

  /** The directories of all recordings that have a manifest. */
  recordings(): string[] {
    return [...Deno.readDirSync(`${this.directory}/recordings`)]
      .map(({ name }) => this.recording(name))
      .filter((path) => [...Deno.readDirSync(path)].some(({ name }) => name === "manifest.json"));
  }

  /** The replays that were going on when an agent here ended. */
  replays(): string[] {
    return [...Deno.readDirSync(`${this.directory}/replays`)].map(({ name }) => name);
  }
}
