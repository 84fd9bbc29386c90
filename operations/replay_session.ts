/**
 * A replay that stops where it is told to: seeks by going on from where it stands, or from the nearest
 * snapshot, or from the start, and answers what is asked about the stopped cluster.
 */
import { registers, saveMemory } from "../hypervisor/qmp/commands.ts";
import type { Progress } from "../lib/cli/ports.ts";
import { epochOf, epochStart } from "../lib/clocks/lamport.ts";
import { ClusterrrError } from "../lib/errors.ts";
import { countBelow } from "../lib/bytes/growing_array.ts";
import {
  type ClusterCut,
  cutAt,
  exactCutAt,
  lastEpoch,
  timeOfLastReceive,
} from "../lib/roles/cluster_cut.ts";
import { framesUnderWay, type LogCensus, type VmPosition } from "../lib/roles/log_census.ts";
import type {
  SessionEnd,
  SessionFrame,
  SessionPort,
  SessionState,
  SessionVm,
} from "../lib/session/session.ts";
import type { SeekTarget } from "../lib/session/target.ts";
import { lamportTime, type VmNumber } from "../lib/units.ts";
import { CheckpointIndex } from "./checkpoint_index.ts";
import { consolesEqual } from "./consoles.ts";
import { type OpenRecording, openRecording, vmNamed } from "./open_recording.ts";
import { ReplayWorld, type WorldVm } from "./replay_world.ts";

/** How a session replays. */
export interface ReplaySessionOptions {
  readonly directory: string;
  readonly windowEpochs?: number;
}

/** One stopped replay. The owner closes it. */
export class ReplaySession implements SessionPort {
  readonly #index: CheckpointIndex;
  #world: ReplayWorld | undefined;
  /** The Lamport time of the cut at which the world stands. */
  #time = 0n;

  private constructor(
    readonly recording: OpenRecording,
    private readonly options: ReplaySessionOptions,
    private readonly progress: Progress,
    private readonly signal: AbortSignal,
  ) {
    this.#index = CheckpointIndex.open(recording);
  }

  /** Reads the recording; no VM runs before the first {@link goTo}. */
  static async open(
    options: ReplaySessionOptions,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<ReplaySession> {
    const recording = await openRecording(options.directory, progress);
    return new ReplaySession(recording, options, progress, signal);
  }

  /** The replayed VMs where they stand. */
  get world(): ReplayWorld {
    if (this.#world === undefined) {
      throw new ClusterrrError("The replay stands nowhere: seek first.");
    }
    return this.#world;
  }

  async close(): Promise<void> {
    await this.#world?.close();
    this.#world = undefined;
  }

  async goTo(target: SeekTarget): Promise<SessionState> {
    try {
      if (target.kind === "instruction") await this.#goToInstruction(target.vm, target.icount);
      else {await this.#goToEpoch(
          target.kind === "checkpoint" ? target.epoch : this.#epochAt(target.ms),
        );}
    } finally {
      this.progress.clear();
    }
    return await this.state();
  }

  /** The epoch that `ms` of the recording's time lies in. */
  #epochAt(ms: number): number {
    const { epochMs, recordS } = this.recording.manifest.timing;
    if (epochMs > 0 && ms <= recordS * 1000 + epochMs) {
      return Math.max(1, Math.min(Math.floor(ms / epochMs), lastEpoch(this.recording.censuses)));
    }
    throw new ClusterrrError(
      epochMs > 0
        ? `The recording is ${recordS.toFixed(1)} s long.`
        : "The recording has no checkpoints (record --epoch 0): name INSTRUCTION@VM.",
    );
  }

  async #goToEpoch(epoch: number): Promise<void> {
    const last = lastEpoch(this.recording.censuses);
    if (epoch < 1 || epoch > last) {
      throw new ClusterrrError(
        last === 0
          ? "The recording has no checkpoints (record --epoch 0): name INSTRUCTION@VM."
          : `The recording has the checkpoints 1 to ${last}; there is no ${epoch}.`,
      );
    }
    const time = epochStart(epoch);
    await this.#standBefore(time, cutAt(this.recording.censuses, time));
    this.#time = (await this.world.runToTime(time)).time;
  }

  /**
   * The VM goes to `icount` first, with the others held where it needs them; what it has sent by then
   * tells the Lamport time of the cut.
   */
  async #goToInstruction(name: string, icount: number): Promise<void> {
    const { manifest, censuses } = this.recording;
    const { number } = vmNamed(manifest, name);
    const census = censuses.get(number)!;
    if (icount < 1 || icount >= census.icount) {
      throw new ClusterrrError(
        `VM ${name} executes the instructions 1 to ${census.icount - 1}; there is no ${icount}.`,
      );
    }
    const least = timeOfLastReceive(census, icount);
    const receives = countBelow(census.receives.icounts, icount);
    const others = exactCutAt(censuses, least, number);
    const first: ClusterCut = {
      time: least,
      stops: new Map([...others.stops, [number, { icount, receives, sendsMin: 0 }]]),
    };
    await this.#standBefore(least, first);
    await this.world.runTo(first);
    const { sends } = (await this.world.positions()).get(number)!;
    const ownTime = sends === 0 ? 0n : census.sendTimes[sends - 1]! + 1n;
    this.#time = ownTime > least ? ownTime : least;
    if (ownTime > least) await this.world.runTo(exactCutAt(censuses, ownTime, number));
  }

  /** Leaves a world whose VMs all stand at or before their stops of `cut`: this one if it will do. */
  async #standBefore(time: bigint, cut: ClusterCut): Promise<void> {
    const start = this.#startBefore(time, cut);
    if (this.#world !== undefined && await this.#isBefore(time, cut)) {
      if (start === undefined || start.time <= this.#time) return;
    }
    await this.close();
    this.#time = start?.time ?? 0n;
    const { windowEpochs } = this.options;
    this.#world = await ReplayWorld.open(this.recording, {
      progress: this.progress,
      signal: this.signal,
      phase: "seeking",
      ...(start && { start: start.start }),
      ...(windowEpochs && { windowEpochs }),
    });
  }

  #startBefore(time: bigint, cut: ClusterCut) {
    return this.#index.checkpoints.findLast((checkpoint) =>
      checkpoint.time <= time &&
      [...checkpoint.start.vms].every(([vm, { position }]) =>
        position.icount <= cut.stops.get(vm)!.icount
      )
    );
  }

  async #isBefore(time: bigint, cut: ClusterCut): Promise<boolean> {
    if (this.#time > time) return false;
    const positions = await this.world.positions();
    return [...positions].every(([vm, { icount }]) => icount <= cut.stops.get(vm)!.icount);
  }

  async finish(): Promise<SessionEnd> {
    const { world, recording: { directory } } = this;
    const results = await world.runTo(undefined);
    this.progress.clear();
    const vms = results.map(({ name, number, framesMatched, framesRecorded, cutOff }) => {
      const each = this.#vm(name);
      const complete = each.census.complete && cutOff === undefined;
      const before = Deno.readTextFileSync(`${directory}/${each.recorded.console}`);
      const consoleEqual = consolesEqual(before, this.#consoleOf(each), complete);
      const sentAll = !complete || framesMatched === framesRecorded;
      return { name, number, framesMatched, framesRecorded, consoleEqual, sentAll };
    });
    return {
      ok: vms.every(({ consoleEqual, sentAll }) => consoleEqual && sentAll),
      vms: vms.map(({ number: _, sentAll: __, ...vm }) => vm),
    };
  }

  async state(): Promise<SessionState> {
    const { manifest, censuses, directory } = this.recording;
    const { world } = this;
    const positions = await world.positions();
    const vms = await Promise.all(world.vms.map(async ({ vm, census }): Promise<SessionVm> => {
      const position = positions.get(vm.number)!;
      const ended = position.icount === Infinity;
      return {
        name: vm.name,
        icount: ended ? census.icount : position.icount,
        lamport: clockAt(census, position).toString(),
        sent: position.sends,
        received: position.receives,
        registers: ended ? null : await registers(vm.qmp),
      };
    }));
    const checkpoint = epochOf(lamportTime(this.#time));
    return {
      recording: directory,
      checkpoint,
      lastCheckpoint: lastEpoch(censuses),
      seconds: checkpoint * manifest.timing.epochMs / 1000,
      lamport: this.#time.toString(),
      vms,
      inFlight: await this.#framesInFlight(positions),
    };
  }

  async #framesInFlight(
    positions: ReadonlyMap<VmNumber, VmPosition>,
  ): Promise<SessionFrame[]> {
    const { manifest, censuses } = this.recording;
    const nameOf = (vm: VmNumber) => manifest.vms.find(({ number }) => number === vm)!.name;
    const frames = await this.world.inFlight();
    return framesUnderWay(censuses, positions).map(({ source, sendNumber, receivers }, i) => ({
      from: nameOf(source),
      sendNumber,
      bytes: frames[i]!.bytes.length,
      to: receivers.map(nameOf),
    }));
  }

  // deno-lint-ignore require-await -- a port's calls are asynchronous
  async console(name: string): Promise<string> {
    return this.#consoleOf(this.#vm(name));
  }

  /** The recorded output up to where this replay began, and what it has printed since. */
  #consoleOf({ recorded, console, consoleBytesBefore }: WorldVm): string {
    const before = Deno.readFileSync(`${this.recording.directory}/${recorded.console}`);
    const decoder = new TextDecoder();
    return decoder.decode(before.subarray(0, consoleBytesBefore), { stream: true }) +
      decoder.decode(Deno.readFileSync(console));
  }

  async monitor(name: string, line: string): Promise<string> {
    return (await this.#standing(name).qmp.hmp(line)).replaceAll("\r\n", "\n");
  }

  async saveMemory(name: string, address: number, bytes: number, file: string): Promise<void> {
    const { vm } = this.#vm(name);
    this.#standing(name);
    const path = `${await Deno.realPath(file.replace(/[^/]*$/, "") || ".")}/${
      file.split("/").at(-1)
    }`;
    const [written] = await saveMemory(vm.qmp, path, [{ address, size: bytes }]);
    await Deno.rename(written!, path);
  }

  #vm(name: string): WorldVm {
    const { number } = vmNamed(this.recording.manifest, name);
    return this.world.vms.find(({ vm }) => vm.number === number)!;
  }

  #standing(name: string) {
    const { vm } = this.#vm(name);
    if (this.world.hasEnded(vm.number)) throw new ClusterrrError(`VM ${name} has ended.`);
    return vm;
  }
}

/** A VM's Lamport clock where it stands. */
function clockAt(census: LogCensus, { receives, sends }: VmPosition): bigint {
  const received = receives === 0 ? 0n : census.receives.lamports[receives - 1]!;
  const sent = sends === 0 ? 0n : census.sendTimes[sends - 1]!;
  return received > sent ? received : sent;
}
