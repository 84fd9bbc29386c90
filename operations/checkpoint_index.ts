/**
 * Snapshots of the whole cluster beside a recording, from which a replay can go on: a cache, that
 * `clusterrr index` fills and that may be deleted at any time.
 *
 * ```
 * RECORDING/index/000020/checkpoint.json     where each VM stands, digests, frames in flight
 *                        left.qcow2          QEMU's snapshot of VM left
 *                        left.disk0.qcow2    its disk's overlay at that moment
 * ```
 * A directory is made under another name and renamed once it is whole.
 */
import { rm } from "node:fs/promises";
import { z } from "zod";
import { isAlive } from "../host/run_directory.ts";
import { ClusterrrError, errnoOf, messageOf } from "../lib/errors.ts";
import { ramDigestSchema } from "../lib/recording/ram_digest.ts";
import type { MachineState } from "../lib/roles/ports.ts";
import type { VmNumber } from "../lib/units.ts";
import type { OpenRecording } from "./open_recording.ts";
import type { ReplayWorld, WorldStart } from "./replay_world.ts";

const INDEX_VERSION = 2;
const PARTIAL = "partial-";
/** What renaming onto a directory that is not empty ends with: EEXIST, ENOTEMPTY. */
const FULL: ReadonlySet<number | undefined> = new Set([17, 39]);
const count = z.int().nonnegative();

/** Registers and RAM of a VM that stands: equal in every replay that stands there. */
const stateSchema = z.object({ icount: count, registers: z.string(), ramDigest: ramDigestSchema });
export type VmState = z.infer<typeof stateSchema>;

const checkpointSchema = z.object({
  version: z.literal(INDEX_VERSION),
  /** The recording's id and the program that made the snapshots: others cannot use them. */
  recording: z.string(),
  qemuSha256: z.string(),
  epoch: count,
  /** The Lamport time of the cut, decimal. */
  time: z.string().regex(/^\d+$/),
  vms: z.array(z.object({
    number: z.int().positive(),
    name: z.string(),
    receives: count,
    sends: count,
    consoleBytes: count,
    state: stateSchema,
    disks: count,
  })),
  inFlight: z.array(z.object({
    source: z.int().positive(),
    sendNumber: count,
    /** Base64. */
    bytes: z.base64(),
  })),
});

/** A snapshot of the cluster at a checkpoint. */
export interface IndexedCheckpoint {
  readonly epoch: number;
  readonly time: bigint;
  /** Of all its files. */
  readonly bytes: number;
  readonly states: ReadonlyMap<VmNumber, VmState>;
  readonly start: WorldStart;
}

/** The snapshots of one recording, in rising order of time. */
export class CheckpointIndex {
  #checkpoints: IndexedCheckpoint[];

  constructor(private readonly recording: OpenRecording) {
    this.#checkpoints = this.#read();
  }

  get checkpoints(): readonly IndexedCheckpoint[] {
    return this.#checkpoints;
  }

  get bytes(): number {
    return this.#checkpoints.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Looks again what is there. */
  refresh(): void {
    this.#checkpoints = this.#read();
  }

  get #directory(): string {
    return `${this.recording.directory}/index`;
  }

  /**
   * Saves where `world` stands, strictly inside a run of instructions in each VM.
   * @returns false where a VM cannot be saved here, since a request to its disk is under way
   * @throws {ClusterrrError} where the disk does not take it; nothing is left of it then
   */
  async save(
    world: ReplayWorld,
    epoch: number,
    time: bigint,
  ): Promise<boolean> {
    const name = String(epoch).padStart(6, "0");
    const partial = `${this.#directory}/${PARTIAL}${name}-${world.run}`;
    try {
      await this.#removeLeft();
      await Deno.mkdir(partial, { recursive: true });
      const positions = await world.positions();
      const vms = [];
      for (const { vm, recorded, console, consoleBytesBefore, disks } of world.vms) {
        const state = await vm.state();
        const overlays = Array.from({ length: disks }, (_, i) => diskFile(partial, vm.name, i));
        if (!await vm.save(`${partial}/${vm.name}.qcow2`, overlays)) {
          await Deno.remove(partial, { recursive: true });
          return false;
        }
        const { receives, sends } = positions.get(vm.number)!;
        vms.push({
          number: recorded.number,
          name: recorded.name,
          receives,
          sends,
          consoleBytes: consoleBytesBefore + (await Deno.stat(console)).size,
          state: vmState(state),
          disks,
        });
      }
      const checkpoint: z.infer<typeof checkpointSchema> = {
        version: INDEX_VERSION,
        recording: this.recording.manifest.id,
        qemuSha256: this.recording.qemu.sha256,
        epoch,
        time: time.toString(),
        vms,
        inFlight: (await world.inFlight()).map(({ source, sendNumber, bytes }) => {
          return { source, sendNumber, bytes: bytes.toBase64() };
        }),
      };
      await Deno.writeTextFile(`${partial}/checkpoint.json`, JSON.stringify(checkpoint, null, 1));
      await this.remove(epoch);
      await renameUnlessThere(partial, `${this.#directory}/${name}`);
    } catch (cause) {
      await Deno.remove(partial, { recursive: true }).catch(() => {});
      if (cause instanceof ClusterrrError) throw cause;
      throw new ClusterrrError(
        `Cannot save checkpoint ${epoch} in ${this.#directory}: ${messageOf(cause)}`,
        { cause },
      );
    }
    this.refresh();
    return true;
  }

  /** Removes what processes left half-made, or half-removed, that were killed, and snapshots of earlier versions. */
  async #removeLeft(): Promise<void> {
    for (const name of entriesOf(this.#directory)) {
      const path = `${this.#directory}/${name}`;
      const left = name.startsWith(PARTIAL) ? !isAlive(name.split("-").at(-1)!) : isOlder(path);
      if (left) await rm(path, { recursive: true, force: true });
    }
  }

  /** Removes the snapshot of `epoch`, if there is one. */
  async remove(epoch: number): Promise<void> {
    const name = String(epoch).padStart(6, "0");
    // Out of sight first: whoever is killed here leaves no snapshot without some of its files.
    const gone = `${this.#directory}/${PARTIAL}${name}-${crypto.randomUUID()}`;
    try {
      await Deno.rename(`${this.#directory}/${name}`, gone);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    await rm(gone, { recursive: true, force: true });
    this.#checkpoints = this.#checkpoints.filter((each) => each.epoch !== epoch);
  }

  /**
   * Removes snapshots until all take no more than `bytesMax`: each time the one that leaves the smallest
   * gap. The newest stays.
   */
  async shrink(bytesMax: number): Promise<void> {
    while (this.bytes > bytesMax && this.#checkpoints.length > 1) {
      const epochs = this.#checkpoints.map(({ epoch }) => epoch);
      const gap = (i: number) => epochs[i + 1]! - (epochs[i - 1] ?? 0);
      let least = 0;
      for (let i = 1; i < epochs.length - 1; i++) if (gap(i) < gap(least)) least = i;
      await this.remove(epochs[least]!);
    }
  }

  /** What does not belong to this recording, this QEMU or this build is passed over. */
  #read(): IndexedCheckpoint[] {
    const found: IndexedCheckpoint[] = [];
    for (const name of entriesOf(this.#directory)) {
      if (!/^\d{6,}$/.test(name)) continue;
      const checkpoint = this.#readOne(`${this.#directory}/${name}`);
      if (checkpoint !== undefined) found.push(checkpoint);
    }
    return found.sort((a, b) => a.epoch - b.epoch);
  }

  #readOne(directory: string): IndexedCheckpoint | undefined {
    let content: z.infer<typeof checkpointSchema>;
    let bytes = 0;
    try {
      content = checkpointSchema.parse(
        JSON.parse(Deno.readTextFileSync(`${directory}/checkpoint.json`)),
      );
      for (const path of filesOf(directory, content)) bytes += diskUsage(path);
    } catch {
      return undefined; // another version's, damaged or not whole: it is only a cache
    }
    const { manifest, qemu } = this.recording;
    if (content.recording !== manifest.id || content.qemuSha256 !== qemu.sha256) return undefined;
    const { epoch, vms } = content;
    return {
      epoch,
      time: BigInt(content.time),
      bytes,
      states: new Map(vms.map(({ number, state }) => [number, state])),
      start: {
        vms: new Map(vms.map(({ number, name, state, receives, sends, consoleBytes, disks }) => [
          number,
          {
            position: { icount: state.icount, receives, sends },
            file: `${directory}/${name}.qcow2`,
            overlays: Array.from({ length: disks }, (_, i) => diskFile(directory, name, i)),
            consoleBytes,
          },
        ])),
        inFlight: content.inFlight.map(({ source, sendNumber, bytes }) => {
          return { source, sendNumber, bytes: Uint8Array.fromBase64(bytes) };
        }),
      },
    };
  }
}

/** Whether a snapshot is of an earlier version, which no build reads any more that saves here. */
function isOlder(directory: string): boolean {
  try {
    const { version } = JSON.parse(Deno.readTextFileSync(`${directory}/checkpoint.json`));
    return typeof version === "number" && version < INDEX_VERSION;
  } catch {
    return false; // damaged: somebody may want to look at it
  }
}

/** What of a state is compared. */
export function vmState({ icount, registers, ramDigest }: MachineState): VmState {
  return { icount, registers, ramDigest };
}

/** @returns also of files that are not there */
function filesOf(directory: string, { vms }: z.infer<typeof checkpointSchema>): string[] {
  return [
    `${directory}/checkpoint.json`,
    ...vms.flatMap(({ name, disks }) => [
      `${directory}/${name}.qcow2`,
      ...Array.from({ length: disks }, (_, i) => diskFile(directory, name, i)),
    ]),
  ];
}

/** Renames a directory; where another process has just put one of that name there, that one stays. */
async function renameUnlessThere(from: string, to: string): Promise<void> {
  try {
    await Deno.rename(from, to);
  } catch (error) {
    if (!FULL.has(errnoOf(error))) throw error;
    await Deno.remove(from, { recursive: true });
  }
}

function diskFile(directory: string, vm: string, index: number): string {
  return `${directory}/${vm}.disk${index}.qcow2`;
}

function entriesOf(directory: string): string[] {
  try {
    return [...Deno.readDirSync(directory)].map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** What a file takes on disk: snapshots have holes. */
function diskUsage(path: string): number {
  const { size, blocks } = Deno.statSync(path);
  return blocks === null ? size : blocks * 512;
}
