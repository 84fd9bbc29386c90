/**
 * A replay that stops where it is told to: seeks by going on from where it stands, or from the nearest
 * snapshot, or from the start, and answers what is asked about the stopped cluster.
 */
import { rm } from "node:fs/promises";
import { registers, saveMemory } from "../hypervisor/qmp/commands.ts";
import type { Progress } from "../lib/cli/ports.ts";
import { epochOf, epochStart } from "../lib/clocks/lamport.ts";
import { ClusterrrError } from "../lib/errors.ts";
import { concat } from "../lib/bytes/concat.ts";
import { countBelow } from "../lib/bytes/growing_array.ts";
import { summarizeFrame } from "../lib/frames/summary.ts";
import {
  type ClusterCut,
  cutAt,
  cutBeside,
  lastEpoch,
  nextStop,
  timeOfLastReceive,
  type VmStop,
} from "../lib/roles/cluster_cut.ts";
import { type LogCensus, sendsBefore, type VmPosition } from "../lib/roles/log_census.ts";
import type {
  SessionEnd,
  SessionFrame,
  SessionPort,
  SessionState,
  SessionVm,
} from "../lib/session/session.ts";
import type { SeekTarget } from "../lib/session/target.ts";
import { lamportTime, type VmNumber } from "../lib/units.ts";
import { CheckpointIndex, type IndexedCheckpoint } from "./checkpoint_index.ts";
import { consolesEqual, readConsole } from "./consoles.ts";
import { type OpenRecording, openRecording, startIcount, vmNamed } from "./open_recording.ts";
import { newName, onDisk } from "./pack_files.ts";
import { ReplayWorld, type WorldVm } from "./replay_world.ts";

/** How a session replays. */
export interface ReplaySessionOptions {
  readonly directory: string;
  readonly windowEpochs?: number;
  /** VMs that gdb may connect to. */
  readonly gdb?: readonly string[];
}

/** One stopped replay. The owner closes it. */
export class ReplaySession implements SessionPort {
  readonly #index: CheckpointIndex;
  #world: ReplayWorld | undefined;
  /** The Lamport time of the cut at which the world stands. */
  #time = 0n;
  /** The VM that a debugger lets run. */
  #running: string | undefined;
  /** Whoever asks, at the prompt, from other processes or under gdb: one thing is done after the other. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly recording: OpenRecording,
    private readonly options: ReplaySessionOptions,
    private readonly progress: Progress,
    private readonly signal: AbortSignal,
  ) {
    this.#index = new CheckpointIndex(recording);
  }

  /** Reads the recording; no VM runs before the first {@link goTo}. */
  static async open(
    options: ReplaySessionOptions,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<ReplaySession> {
    const recording = await openRecording(options.directory, progress, signal);
    return new ReplaySession(recording, options, progress, signal);
  }

  /** The replayed VMs where they stand. */
  get world(): ReplayWorld {
    if (this.#world === undefined) {
      throw new ClusterrrError("The replay stands nowhere: seek first.");
    }
    return this.#world;
  }

  /** Ends the VMs, and with them what is being done. */
  async close(): Promise<void> {
    await this.#closeWorld();
    await this.#last.catch(() => {});
    await this.#closeWorld(); // of a seek that was on its way
  }

  async #closeWorld(): Promise<void> {
    const world = this.#world;
    this.#world = undefined;
    await world?.close();
  }

  /** Does `work` once nothing else is being done. @throws {ClusterrrError} while a debugger lets a VM run */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    const doing = this.#last.catch(() => {}).then(() => {
      this.#requireStanding();
      return work();
    });
    this.#last = doing;
    return await doing;
  }

  async goTo(target: SeekTarget): Promise<SessionState> {
    return await this.#alone(async () => {
      await this.#bringTo(target);
      return await this.#state();
    });
  }

  /** Every VM, paused before its first instruction. */
  async goToStart(): Promise<void> {
    await this.#alone(() =>
      this.#moving(async () => {
        await this.#closeWorld();
        await this.#openWorld(undefined);
      })
    );
  }

  /** A debugger lets a VM run, once `prepare` is done, and {@link follow}s it: until then the rest stands. */
  async letRun(name: string, prepare: () => Promise<void>): Promise<void> {
    await this.#alone(async () => {
      await prepare();
      this.#running = name;
    });
  }

  /**
   * Moves data for a VM that a debugger lets run ({@link letRun}), until it has stopped. The others stand;
   * where the VM waits for a frame, they are brought beyond the send of it, but not as far as they would
   * need what the VM itself sends next. Where it fails, the replay stands nowhere.
   */
  async follow(vm: VmNumber, stopped: () => boolean): Promise<void> {
    try {
      await this.#moving(() => this.#follow(vm, stopped));
    } finally {
      this.#running = undefined;
    }
  }

  async #follow(vm: VmNumber, stopped: () => boolean): Promise<void> {
    await this.world.follow(vm, stopped, async (source, sendNumber) => {
      const cut = this.#cutBehind(vm, source, sendNumber);
      if (cut === undefined) return await this.#makeSend(vm, source, sendNumber);
      await this.world.runTo(cut);
      this.#time = cut.time;
    });
  }

  /** A cut at which a frame has been sent that `vm` waits for, and nothing is needed that it sends later. */
  #cutBehind(vm: VmNumber, source: VmNumber, sendNumber: number): ClusterCut | undefined {
    const { censuses } = this.recording;
    const sent = this.world.sent(vm);
    const sendTime = censuses.get(source)?.sendTimes[sendNumber];
    if (sendTime === undefined) throw this.#cannotGoOn(source);
    const least = sendTime + 1n;
    if (least <= this.#time) return undefined; // they stand there, just short of the send
    const ownNext = censuses.get(vm)!.sendTimes[sent] ?? least;
    return cutBeside(censuses, vm, sent, ownNext > least ? ownNext : least) ??
      cutBeside(censuses, vm, sent, least);
  }

  /**
   * Brings one VM on, from stop to stop, until it has sent a frame, and those before it whose frames it
   * needs: where no cut can be stopped at, this is the least that has to move.
   * @param underWay where others are to go that need a frame of this one: with them it moves, where it needs one of theirs
   */
  async #makeSend(
    vm: VmNumber,
    source: VmNumber,
    sendNumber: number,
    underWay: ReadonlyMap<VmNumber, VmStop> = new Map(),
  ): Promise<void> {
    const census = this.recording.censuses.get(source);
    if (census === undefined) throw this.#cannotGoOn(source);
    const machine = this.world.vm(source).vm;
    while (this.world.sent(source) <= sendNumber) {
      this.signal.throwIfAborted();
      const { receives } = this.world.counts().get(source)!;
      const icount = await machine.icount();
      const stop = nextStop(census, { icount, receives });
      if (stop === undefined) throw this.#cannotStop();
      const alone = new Map([[source, stop]]);
      const together = new Map([...underWay, ...alone]);
      let stops = alone;
      const { sources, numbers } = census.receives;
      for (let i = receives; i < stop.receives; i++) {
        if (sources[i] === 0 || numbers[i]! < this.world.sent(sources[i]!)) continue;
        if (sources[i] === vm) throw this.#cannotStop();
        if (underWay.has(sources[i]!)) stops = together;
        else await this.#makeSend(vm, sources[i]!, numbers[i]!, together);
      }
      await this.world.runTo({ time: this.#time, stops });
    }
    const time = census.sendTimes[sendNumber]!;
    if (time > this.#time) this.#time = time;
  }

  #cannotStop(): ClusterrrError {
    return new ClusterrrError(
      "The other VMs cannot be stopped just there, between two frames: seek to somewhere further on.",
    );
  }

  #cannotGoOn(vm: VmNumber): ClusterrrError {
    return new ClusterrrError(
      `The next frame is one of VM number ${vm} that the recording does not have: it cannot go on.`,
    );
  }

  #requireStanding(): void {
    if (this.#running === undefined) return;
    throw new ClusterrrError(`gdb lets VM ${this.#running} run: stop it there first (Ctrl-C).`);
  }

  /** {@link goTo} without looking at what is there. */
  async bringTo(target: SeekTarget): Promise<void> {
    await this.#alone(() => this.#bringTo(target));
  }

  async #bringTo(target: SeekTarget): Promise<void> {
    const go = this.#wayTo(target);
    await this.#moving(go);
  }

  /** What brings every VM there. @throws {ClusterrrError} where there is no such point */
  #wayTo(target: SeekTarget): () => Promise<void> {
    if (target.kind === "instruction") {
      const { vm, icount } = target;
      this.#requireInstruction(vm, icount);
      return () => this.#goToInstruction(vm, icount);
    }
    const epoch = target.kind === "checkpoint" ? target.epoch : this.#epochAt(target.ms);
    this.#requireEpoch(epoch);
    return () => this.#goToEpoch(epoch);
  }

  /** VMs that went wrong may not even answer: the next seek begins with new ones. */
  async #moving<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      await this.#closeWorld();
      throw error;
    } finally {
      this.progress.clear();
    }
  }

  /** The epoch that `ms` of the recording's time lies in. */
  #epochAt(ms: number): number {
    const { epochMs, recordS } = this.recording.manifest.timing;
    const last = lastEpoch(this.recording.censuses);
    const wholeMs = Math.max(recordS * 1000, last * epochMs); // it is not known of one that was cut off
    if (epochMs > 0 && ms <= wholeMs + epochMs) {
      return Math.max(1, Math.min(Math.floor(ms / epochMs), last));
    }
    throw new ClusterrrError(
      epochMs > 0
        ? `The recording is ${(wholeMs / 1000).toFixed(1)} s long.`
        : "The recording has no checkpoints (record --epoch 0): name INSTRUCTION@VM.",
    );
  }

  #requireEpoch(epoch: number): void {
    const last = lastEpoch(this.recording.censuses);
    if (epoch >= 1 && epoch <= last) return;
    throw new ClusterrrError(
      last === 0
        ? "The recording has no checkpoints (record --epoch 0): name INSTRUCTION@VM."
        : `The recording has the checkpoints 1 to ${last}; there is no ${epoch}.`,
    );
  }

  async #goToEpoch(epoch: number): Promise<void> {
    const time = epochStart(epoch);
    await this.#standBefore(time, cutAt(this.recording.censuses, time).stops);
    this.#time = (await this.world.runToTime(time)).time;
  }

  #requireInstruction(name: string, icount: number): void {
    const { manifest, censuses } = this.recording;
    const vm = vmNamed(manifest, name);
    const first = startIcount(this.recording, vm) + 1;
    const last = censuses.get(vm.number)!.icount - 1;
    if (icount >= first && icount <= last) return;
    throw new ClusterrrError(
      `VM ${name} executes the instructions ${first} to ${last}; there is no ${icount}.`,
    );
  }

  /** The VM goes to `icount`, the others to where it has all that it has received by then. */
  async #goToInstruction(name: string, icount: number): Promise<void> {
    const { manifest, censuses } = this.recording;
    const { number } = vmNamed(manifest, name);
    const census = censuses.get(number)!;
    const least = timeOfLastReceive(census, icount);
    const receives = countBelow(census.receives.icounts, icount);
    const sendsMin = sendsBefore(census, least);
    const stop = { icount, receives, sendsMin };
    await this.#standBefore(least, new Map([[number, stop]]));
    const beside = cutBeside(censuses, number, sendsMin, least);
    if (beside === undefined) return await this.#runAlone(number, icount);
    await this.world.runTo({ ...beside, stops: new Map([...beside.stops, [number, stop]]) });
    const { vm } = this.world.vm(number);
    if (await vm.icount() !== icount) throw this.#cannotStop(); // others needed what it sends next
    this.#time = beside.time;
  }

  /** Brings one VM to `icount`, the others no further than it needs. */
  async #runAlone(number: VmNumber, icount: number): Promise<void> {
    const { vm } = this.world.vm(number);
    if (await vm.icount() >= icount) return;
    await vm.breakAt(icount);
    let stopped = false;
    const stopping = vm.stopped().then(() => stopped = true);
    const following = this.#follow(number, () => stopped);
    await Promise.all([vm.resume(), following, stopping]);
  }

  /** Leaves a world that stands before `time`, no VM beyond its stop: this one if it will do. */
  async #standBefore(time: bigint, stops: ClusterCut["stops"]): Promise<void> {
    if (this.#world !== undefined && await this.#isBefore(time, stops)) {
      const better = this.#startBefore(time, stops);
      if (better === undefined || better.time <= this.#time) return;
    }
    this.#index.refresh(); // others may have removed snapshots
    const start = this.#startBefore(time, stops);
    await this.#closeWorld();
    await this.#openWorld(start);
  }

  async #openWorld(start: IndexedCheckpoint | undefined): Promise<void> {
    this.#time = start?.time ?? 0n;
    const { windowEpochs, gdb = [] } = this.options;
    this.#world = await ReplayWorld.open(this.recording, {
      progress: this.progress,
      signal: this.signal,
      phase: "seeking",
      ...(start && { start: start.start }),
      ...(windowEpochs && { windowEpochs }),
      gdb: new Set(gdb.map((name) => vmNamed(this.recording.manifest, name).number)),
    });
  }

  #startBefore(time: bigint, stops: ClusterCut["stops"]): IndexedCheckpoint | undefined {
    return this.#index.checkpoints.findLast((checkpoint) =>
      checkpoint.time <= time &&
      [...stops].every(([vm, { icount }]) =>
        checkpoint.start.vms.get(vm)!.position.icount <= icount
      )
    );
  }

  async #isBefore(time: bigint, stops: ClusterCut["stops"]): Promise<boolean> {
    if (this.#time > time) return false;
    const positions = await this.world.positions();
    return [...stops].every(([vm, { icount }]) => positions.get(vm)!.icount <= icount);
  }

  async finish(): Promise<SessionEnd> {
    return await this.#alone(() => this.#finish());
  }

  async #finish(): Promise<SessionEnd> {
    const { world, recording: { directory } } = this;
    const results = await this.#moving(() => world.runTo(undefined));
    const vms = results.map(({ name, number, framesMatched, framesRecorded, cutOff }) => {
      const each = this.#vm(name);
      const complete = each.census.complete && cutOff === undefined;
      const before = readConsole(`${directory}/${each.recorded.console}`);
      const consoleEqual = consolesEqual(before, this.#consoleBytesOf(each), complete);
      const sentAll = !complete || framesMatched === framesRecorded;
      return { name, number, framesMatched, framesRecorded, consoleEqual, sentAll };
    });
    return {
      ok: vms.every(({ consoleEqual, sentAll }) => consoleEqual && sentAll),
      vms: vms.map(({ number: _, sentAll: __, ...vm }) => vm),
    };
  }

  async state(): Promise<SessionState> {
    return await this.#alone(() => this.#state());
  }

  async #state(): Promise<SessionState> {
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
      inFlight: await this.#framesInFlight(),
    };
  }

  async #framesInFlight(): Promise<SessionFrame[]> {
    const { vms } = this.recording.manifest;
    const nameOf = (vm: VmNumber) => vms.find(({ number }) => number === vm)!.name;
    return (await this.world.inFlight()).map(({ source, sendNumber, bytes, receivers }) => ({
      from: nameOf(source),
      sendNumber,
      bytes: bytes.length,
      summary: summarizeFrame(bytes),
      to: receivers.map(nameOf),
    }));
  }

  // deno-lint-ignore require-await -- a port's calls are asynchronous
  async console(name: string): Promise<string> {
    return new TextDecoder().decode(this.#consoleBytesOf(this.#vm(name)));
  }

  /** The recorded output up to where this replay began, and what it has printed since. */
  #consoleBytesOf({ recorded, console, consoleBytesBefore }: WorldVm): Uint8Array {
    const before = readConsole(`${this.recording.directory}/${recorded.console}`);
    return concat([before.subarray(0, consoleBytesBefore), readConsole(console)]);
  }

  async monitor(name: string, line: string): Promise<string> {
    const text = await this.#alone(() => this.#standing(name).qmp.hmp(line));
    return text.replaceAll("\r\n", "\n");
  }

  async saveMemory(name: string, address: number, bytes: number, file: string): Promise<void> {
    await this.#alone(() => this.#saveMemory(name, address, bytes, file));
  }

  async #saveMemory(name: string, address: number, bytes: number, file: string): Promise<void> {
    const { qmp, number } = this.#standing(name);
    const { memoryMiB } = this.recording.spec.vms.find((vm) => vm.number === number)!;
    // QEMU writes what there is no memory behind too. Devices have room below 4 GiB, what the VM has lies around.
    const end = 2 ** 32 + memoryMiB * 2 ** 20;
    if (address + bytes > end) {
      throw new ClusterrrError(`VM ${name} has ${memoryMiB} MiB: nothing is at ${end} and above.`);
    }
    await onDisk("write", file, async () => {
      const path = `${await Deno.realPath(file.replace(/[^/]*$/, "") || ".")}/${
        file.split("/").at(-1)
      }`;
      const partial = newName(path);
      try {
        await saveMemory(qmp, partial, { address, size: bytes });
        await Deno.rename(partial, path);
      } catch (error) {
        await rm(partial, { force: true });
        throw error;
      }
    });
  }

  #vm(name: string): WorldVm {
    const { number } = vmNamed(this.recording.manifest, name);
    return this.world.vm(number);
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
