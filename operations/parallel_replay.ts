/**
 * A replay in slices, several at the same time, on recordings whose serial replay leaves cores idle.
 *
 * ```
 *   start ═══ slice 0 ═══▶ ck 20   ck 20 ═══ slice 1 ═══▶ ck 40   ck 40 ═══ slice 2 ═══▶ end
 *                           └── equal? ──┘                  └── equal? ──┘
 * ```
 * A slice begins in a snapshot and ends at the cut of the next one. There, everything that makes up a
 * state has to be equal to the snapshot's: instruction counts, registers and RAM of every VM, frames sent,
 * received and in flight. Then the slices, one behind the other, are one replay of the whole.
 */
import { type Divergence, DivergenceError } from "../lib/errors.ts";
import type { CheckPoint } from "../lib/recording/hybrid_log.ts";
import type { ManifestVm } from "../lib/recording/manifest.ts";
import type { ClusterCut } from "../lib/roles/cluster_cut.ts";
import type { VmReplayResult } from "../lib/roles/replaying_agent.ts";
import { type CheckResult, comparedAt } from "../lib/roles/state_checker.ts";
import type { FrameInFlight } from "../net/retransmit/queue.ts";
import { type IndexedCheckpoint, vmState } from "./checkpoint_index.ts";
import { consolesEqual, readConsole } from "./consoles.ts";
import type { OpenRecording } from "./open_recording.ts";
import type { ReplayOutcome } from "./replay_outcome.ts";
import { ReplayWorld, type WorldOptions, type WorldVm } from "./replay_world.ts";

/** What one slice came to. */
interface SliceOutcome {
  readonly results: readonly VmReplayResult[];
  readonly checks: ReadonlyMap<string, readonly CheckResult[]>;
  readonly consoleEqual: ReadonlyMap<string, boolean>;
  readonly queueBytesMax: number;
}

/** A slice costs a start and the comparison at its end: few are better, but some more than jobs. */
const SLICES_PER_JOB = 2;

/**
 * Replays the whole recording in slices between some of `checkpoints`, `jobs` at a time. The first
 * divergence ends all.
 */
export async function replaySlices(
  recording: OpenRecording,
  checkpoints: readonly IndexedCheckpoint[],
  jobs: number,
  options: WorldOptions,
): Promise<ReplayOutcome> {
  const startedAt = performance.now();
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  const seams = chooseSeams(recording, checkpoints, SLICES_PER_JOB * jobs);
  const slices = [undefined, ...seams].map((from, i) => ({ from, to: seams[i] }));
  const outcomes: SliceOutcome[] = [];
  let divergence: Divergence | undefined;
  let next = 0;
  const work = async () => {
    while (next < slices.length && !signal.aborted) {
      const number = next++;
      const { from, to } = slices[number]!;
      const phase = `part ${number + 1} of ${slices.length}`;
      outcomes[number] = await replaySlice(recording, from, to, { ...options, signal, phase });
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: jobs }, async () => {
    try {
      await work();
    } catch (error) {
      if (error instanceof DivergenceError) divergence ??= error.divergence;
      stop.abort(error);
      throw error;
    }
  }));
  const failed = ended.find((end) => end.status === "rejected");
  if (divergence === undefined) {
    options.signal.throwIfAborted(); // also where that was between two slices: not all has been compared
    if (failed !== undefined) throw failed.reason;
  }
  const replayS = (performance.now() - startedAt) / 1000;
  return { ...joinSlices(recording, outcomes, divergence, replayS), parts: slices.length };
}

/** Checkpoints that cut the recording into at most `slices` slices of about as many instructions each. */
export function chooseSeams<C extends Pick<IndexedCheckpoint, "states">>(
  { censuses, manifest }: Pick<OpenRecording, "censuses"> & {
    readonly manifest: { readonly vms: readonly Pick<ManifestVm, "firstIcount">[] };
  },
  checkpoints: readonly C[],
  slices: number,
): C[] {
  // What a recording from a snapshot does not execute.
  const before = manifest.vms.reduce((sum, { firstIcount = 0 }) => sum + firstIcount, 0);
  const sumOf = (vms: Iterable<{ readonly icount: number }>) =>
    [...vms].reduce((sum, { icount }) => sum + icount, -before);
  const total = sumOf(censuses.values());
  const done = ({ states }: C) => sumOf(states.values()) / total;
  const chosen: C[] = [];
  for (const checkpoint of checkpoints) {
    if (done(checkpoint) >= (chosen.length + 1) / slices && done(checkpoint) < 1 - 0.5 / slices) {
      chosen.push(checkpoint);
    }
  }
  return chosen;
}

async function replaySlice(
  recording: OpenRecording,
  from: IndexedCheckpoint | undefined,
  to: IndexedCheckpoint | undefined,
  options: WorldOptions,
): Promise<SliceOutcome> {
  const world = await ReplayWorld.open(recording, {
    ...options,
    ...(from && { start: from.start }),
  });
  try {
    const begins = (vm: WorldVm) => from?.states.get(vm.vm.number)?.icount ?? -1;
    const ends = (vm: WorldVm) => to?.states.get(vm.vm.number)?.icount ?? Infinity;
    const results = await world.runTo(
      to && cutOf(to),
      (vm, isInside) => checksOfSlice(vm.census.checks, begins(vm), ends(vm), isInside),
    );
    if (to !== undefined) await requireSameState(world, to);
    const consoleEqual = new Map(world.vms.map((vm) => {
      const result = results.find(({ number }) => number === vm.vm.number);
      return [vm.vm.name, isConsoleEqual(recording, vm, to, result?.cutOff === undefined)];
    }));
    const checks = new Map(world.vms.map(({ vm }) => [vm.name, world.checks(vm.number)]));
    return { results, checks, consoleEqual, queueBytesMax: world.queueBytesMax };
  } finally {
    await world.close();
  }
}

/**
 * The checks that are compared behind instruction `begins` and not behind `ends`: each belongs to one
 * slice. A seam may lie between a check and the instruction before it, at which that check is compared.
 */
export function checksOfSlice<C extends Pick<CheckPoint, "icount" | "registers">>(
  checks: readonly C[],
  begins: number,
  ends: number,
  isInside: (icount: number) => boolean,
): C[] {
  return checks.filter((check) => {
    const at = comparedAt(check, isInside);
    return at > begins && at <= ends;
  });
}

function cutOf({ time, start }: IndexedCheckpoint): ClusterCut {
  return {
    time,
    stops: new Map(
      [...start.vms].map(([vm, { position: { icount, receives, sends } }]) =>
        [vm, { icount, receives, sendsMin: sends }] as const
      ),
    ),
  };
}

/** @throws {DivergenceError} where the state is not that in which the next slice begins */
async function requireSameState(world: ReplayWorld, to: IndexedCheckpoint): Promise<void> {
  const positions = await world.positions();
  for (const { vm } of world.vms) {
    const expected = to.states.get(vm.number)!;
    const actual = vmState(await vm.state());
    const { sends } = positions.get(vm.number)!;
    const sendsExpected = to.start.vms.get(vm.number)!.position.sends;
    const describe = (state: typeof expected, sent: number) =>
      `instruction ${state.icount}, ${sent} frames sent, RAM ${state.ramDigest}\n${state.registers}`;
    const before = describe(expected, sendsExpected);
    const after = describe(actual, sends);
    if (before !== after) throw seamDivergence(vm.name, expected.icount, to.epoch, before, after);
  }
  const before = describeFrames(to.start.inFlight);
  const after = describeFrames(await world.inFlight());
  if (before === after) return;
  const { vm } = world.vms[0]!;
  throw seamDivergence(vm.name, to.states.get(vm.number)!.icount, to.epoch, before, after);
}

function describeFrames(frames: readonly FrameInFlight[]): string {
  return "in flight:\n" +
    frames.map(({ source, sendNumber, bytes }) =>
      `VM ${source} frame ${sendNumber}: ${bytes.toHex()}`
    ).join("\n");
}

function seamDivergence(
  vm: string,
  icount: number,
  epoch: number,
  expected: string,
  actual: string,
): DivergenceError {
  return new DivergenceError({
    vm,
    instructionCount: BigInt(icount),
    sendNumber: null,
    what: `its state at checkpoint ${epoch} is not that of the snapshot there`,
    expected,
    actual,
    likelyCause:
      "an earlier replay, which took the snapshot, went otherwise: remove the directory " +
      "index/ of the recording and verify without --parallel.",
  });
}

/** Compares what was printed in the slice with the same part of the recorded console. */
function isConsoleEqual(
  { directory }: OpenRecording,
  { recorded, census, console, consoleBytesBefore }: WorldVm,
  to: IndexedCheckpoint | undefined,
  whole: boolean,
): boolean {
  const end = to?.start.vms.get(recorded.number)?.consoleBytes;
  const before = readConsole(`${directory}/${recorded.console}`).subarray(consoleBytesBefore, end);
  return consolesEqual(
    before,
    readConsole(console),
    to !== undefined || (census.complete && whole),
  );
}

/** The slices as one replay. */
function joinSlices(
  recording: OpenRecording,
  slices: readonly SliceOutcome[],
  divergence: Divergence | undefined,
  replayS: number,
): ReplayOutcome {
  const done = slices.filter((slice) => slice !== undefined);
  const names = recording.manifest.vms.map(({ name }) => name);
  return {
    results: (done.at(-1)?.results ?? []).map((vm) => ({ ...vm, replayS })),
    checks: new Map(
      names.map((name) => [name, done.flatMap(({ checks }) => checks.get(name) ?? [])]),
    ),
    consoleEqual: new Map(
      names.map((name) => [
        name,
        divergence === undefined && done.every(({ consoleEqual }) => consoleEqual.get(name)),
      ]),
    ),
    divergence,
    replayS,
    queueBytesMax: Math.max(0, ...done.map(({ queueBytesMax }) => queueBytesMax)),
  };
}
