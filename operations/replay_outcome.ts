/** One replay of a whole recording, and what it came to. */
import { type Divergence, DivergenceError } from "../lib/errors.ts";
import type { StateCheck } from "../lib/cli/ports.ts";
import type { LogCensus } from "../lib/roles/log_census.ts";
import type { VmReplayResult } from "../lib/roles/replaying_agent.ts";
import type { CheckResult } from "../lib/roles/state_checker.ts";
import { unreached } from "../lib/cli/verification.ts";
import config from "../deno.json" with { type: "json" };
import { digestConsole } from "../lib/diff/consoles.ts";
import { TRACE_FORMAT, TRACE_VERSION } from "../lib/diff/trace.ts";
import { TraceWriter } from "../lib/diff/trace_writer.ts";
import type { Manifest } from "../lib/recording/manifest.ts";
import { consolesEqual, readConsole } from "./consoles.ts";
import type { OpenRecording } from "./open_recording.ts";
import { ReplayWorld, type WorldOptions } from "./replay_world.ts";

/** What one replay came to. */
export interface ReplayOutcome {
  readonly results: readonly VmReplayResult[];
  readonly checks: ReadonlyMap<string, readonly CheckResult[]>;
  readonly consoleEqual: ReadonlyMap<string, boolean>;
  readonly divergence: Divergence | undefined;
  readonly replayS: number;
  /** The most that the retransmission queue held. */
  readonly queueBytesMax: number;
  /** Of a replay in parts: how many. */
  readonly parts?: number;
}

/**
 * Runs the cluster once from its recording. A divergence is a result, not an error.
 * @param tracePath where to write what the replay observed, if anywhere
 */
export async function replayOnce(
  recording: OpenRecording,
  options: WorldOptions,
  withChecks: boolean,
  tracePath?: string,
): Promise<ReplayOutcome> {
  using trace = tracePath === undefined ? undefined : openTrace(tracePath, recording.manifest);
  const world = await ReplayWorld.open(recording, {
    ...options,
    ...(trace === undefined ? {} : { observer: trace }),
  });
  try {
    const startedAt = performance.now();
    let divergence: Divergence | undefined;
    let results: readonly VmReplayResult[] = [];
    try {
      results = await world.runTo(undefined, ({ census }) => withChecks ? census.checks : []);
    } catch (error) {
      if (!(error instanceof DivergenceError)) throw error;
      divergence = error.divergence;
    }
    const replayS = (performance.now() - startedAt) / 1000;
    const cutOff = new Set(results.filter((vm) => vm.cutOff !== undefined).map((vm) => vm.name));
    if (trace !== undefined) concludeTrace(trace, world, results, divergence);
    const consoleEqual = new Map(world.vms.map(({ recorded, census, console }) => {
      const before = readConsole(`${recording.directory}/${recorded.console}`);
      const complete = census.complete && !cutOff.has(recorded.name);
      return [recorded.name, consolesEqual(before, readConsole(console), complete)];
    }));
    const checks = new Map(world.vms.map(({ vm }) => [vm.name, world.checks(vm.number)]));
    const { queueBytesMax } = world;
    return { results, checks, consoleEqual, divergence, replayS, queueBytesMax };
  } finally {
    await world.close();
  }
}

/** The recorded checks of a VM, with what a replay made of each. */
export function checksOf(
  census: Pick<LogCensus, "checks">,
  made: readonly CheckResult[] = [],
): StateCheck[] {
  const byIcount = new Map(made.map((check) => [check.at, check]));
  return census.checks.map(({ icount }): StateCheck => {
    const check = byIcount.get(icount);
    if (check === undefined) return unreached(icount);
    return { at: icount, icount: check.icount, registers: check.registers, ram: check.ram };
  });
}

function openTrace(path: string, { id, name, vms }: Manifest): TraceWriter {
  return new TraceWriter(path, {
    format: TRACE_FORMAT,
    formatVersion: TRACE_VERSION,
    recording: { id, name },
    toolVersion: config.version,
    vms: vms.map((vm) => ({ number: vm.number, name: vm.name })),
  });
}

/** How each VM ended and what it printed. */
function concludeTrace(
  trace: TraceWriter,
  { vms, recording }: ReplayWorld,
  results: readonly VmReplayResult[],
  divergence: Divergence | undefined,
): void {
  if (divergence !== undefined) trace.diverged(divergence);
  for (const { name, number, cutOff } of results) {
    const complete = recording.censuses.get(number)!.complete && cutOff === undefined;
    trace.ended(name, complete, cutOff ?? (complete ? "complete" : "the recording ends early"));
  }
  for (const { recorded, console } of vms) {
    const digest = digestConsole(console);
    if (digest !== undefined) trace.printed(recorded.name, digest);
  }
  trace.finish();
}
