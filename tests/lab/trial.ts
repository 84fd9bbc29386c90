/**
 * One trial: an example is recorded, and the recording replayed several times, all under one load. What goes wrong
 * is a result; only an interruption ends the laboratory.
 */
import { existsSync, rmSync } from "node:fs";
import type { RecordReport, VerifyReport, VmVerification } from "../../lib/cli/ports.ts";
import { passed } from "../../lib/cli/verification.ts";
import { type Divergence, messageOf } from "../../lib/errors.ts";
import type { Commands, Timed } from "../bench/commands.ts";
import { withBusyCores } from "../bench/busy_cores.ts";
import { guestStatusOf, reasonOf } from "../bench/guest_status.ts";
import type { Example } from "./examples.ts";
import { withHostScript } from "./host_script.ts";
import type { Load, Recorded, RecordingSample, ReplaySample, ReplayTime } from "./samples.ts";

/** Where a trial leaves its recording while it goes on, and what it uses. */
export interface TrialSetup {
  readonly commands: Commands;
  /** The recording's directory; must not exist. Kept where something was wrong. */
  readonly recording: string;
  readonly replays: number;
  readonly load: Load;
  readonly piece: number;
  readonly signal: AbortSignal;
}

/** Records `example` and replays that. @throws the reason of `signal`; nothing is kept then */
export async function runTrial(example: Example, setup: TrialSetup): Promise<RecordingSample> {
  const { commands, recording, load, piece, signal } = setup;
  const base = { piece, example: example.name, load, mayFail: example.mayFail };
  const under = load === "full" ? withBusyCores : <T>(work: () => Promise<T>) => work();
  try {
    const sample = await under(async (): Promise<RecordingSample> => {
      let timed: Timed<RecordReport>;
      try {
        timed = await withHostScript(
          example,
          `${recording}.host.log`,
          () => commands.record(example.spec, recording),
        );
      } catch (error) {
        signal.throwIfAborted();
        return { ...base, failure: messageOf(error), unfinishedWork: [], replays: [] };
      }
      const unfinishedWork = unfinishedWorkOf(recording, timed.report, example);
      const replayTime = await timeReplay(commands, recording, signal);
      const replays: ReplaySample[] = [];
      while (replays.length < setup.replays) {
        replays.push(await replayOnce(commands, recording, signal));
      }
      return { ...base, recorded: recordedOf(timed), unfinishedWork, replayTime, replays };
    });
    if (isGood(sample)) {
      removeRecording(recording);
      return sample;
    }
    return existsSync(recording) ? { ...sample, kept: recording } : sample;
  } catch (error) {
    removeRecording(recording);
    throw error;
  }
}

/** Whether a trial shows what it should: the work done, every replay identical. */
export function isGood(sample: RecordingSample): boolean {
  return sample.failure === undefined && (sample.mayFail || sample.unfinishedWork.length === 0) &&
    (sample.replayTime === undefined || "replayS" in sample.replayTime) &&
    sample.replays.every(({ identical }) => identical);
}

function removeRecording(recording: string): void {
  for (const path of [recording, `${recording}.host.log`]) {
    rmSync(path, { recursive: true, force: true });
  }
}

/** A line for each guest that did not say it had done its work, and one for a host that never got through. */
function unfinishedWorkOf(
  recording: string,
  report: RecordReport,
  { hostScript }: Pick<Example, "hostScript">,
): string[] {
  const external = report.vms.some(({ frames }) => (frames.external ?? 0) > 0);
  const host = hostScript === undefined || external
    ? []
    : ["the host's script: no frame of it has come"];
  const guests = report.vms.flatMap(({ name }) => {
    const console = Deno.readTextFileSync(`${recording}/vms/${name}/console.log`);
    const status = guestStatusOf(console);
    if (status === 0) return [];
    const said = reasonOf(console);
    const end = status === undefined ? "said nothing of its end" : `ended with status ${status}`;
    return [`VM ${name} ${end}${said === undefined ? "" : `: ${said}`}`];
  });
  return [...guests, ...host];
}

function recordedOf({ report, wholeS, use }: Timed<RecordReport>): Recorded {
  const { vms, recorder } = report;
  const sum = (pick: (vm: RecordReport["vms"][number]) => number | null) =>
    vms.reduce((total, vm) => total + (pick(vm) ?? 0), 0);
  const external = sum((vm) => vm.frames.external);
  return {
    recordS: report.recordS,
    wholeS,
    use,
    vms: vms.length,
    instructions: sum((vm) => vm.instructions),
    bytes: {
      rrLog: sum((vm) => vm.bytes.rrLog),
      hybrid: sum((vm) => vm.bytes.hybrid),
      stored: sum((vm) => vm.bytes.stored),
    },
    frames: {
      sent: sum((vm) => vm.frames.sent),
      internal: sum((vm) => vm.frames.internal),
      external,
      storedWhole: sum((vm) => vm.frames.stored) - external,
    },
    ...recorder === undefined ? {} : {
      recorder: { lostEvents: recorder.lostEvents, droppedFrames: recorder.droppedFrames },
    },
    checks: sum((vm) => vm.checks),
  };
}

async function timeReplay(
  commands: Commands,
  recording: string,
  signal: AbortSignal,
): Promise<ReplayTime> {
  try {
    const { report, wholeS, use } = await commands.replay(recording);
    const { ok, replayS, incomplete, divergence } = report;
    if (ok && incomplete === undefined) return { replayS, wholeS, use };
    return {
      failure: divergence === undefined ? incomplete ?? "not equal" : differenceOf(divergence),
    };
  } catch (error) {
    signal.throwIfAborted();
    return { failure: messageOf(error) };
  }
}

function differenceOf({ vm, instructionCount, what, likelyCause }: Divergence): string {
  return `VM ${vm}, instruction ${instructionCount}: ${what}; ${likelyCause}`;
}

async function replayOnce(
  commands: Commands,
  recording: string,
  signal: AbortSignal,
): Promise<ReplaySample> {
  try {
    return replayOf(await commands.verify(recording, 1));
  } catch (error) {
    signal.throwIfAborted();
    return {
      identical: false,
      difference: messageOf(error),
      frames: { recorded: 0, matched: 0 },
      checks: { recorded: 0, equal: 0 },
      consolesEqual: false,
    };
  }
}

/** The one replay of a verification. */
export function replayOf({ report, wholeS, use }: Timed<VerifyReport>): ReplaySample {
  const [run] = report.perRun;
  if (run === undefined) throw new Error("a verification without a replay");
  const sum = (pick: (vm: VmVerification) => number) =>
    run.vms.reduce((total, vm) => total + pick(vm), 0);
  const differing = run.vms.filter((vm) => !vm.console).map(({ name }) => name);
  const checks = {
    recorded: sum((vm) => vm.checks.length),
    equal: sum((vm) => vm.checks.filter(passed).length),
  };
  const frames = {
    recorded: sum((vm) => vm.frames.recorded),
    matched: sum((vm) => vm.frames.matched),
  };
  const identical = report.ok && report.incomplete === undefined && differing.length === 0 &&
    checks.equal === checks.recorded && frames.matched === frames.recorded;
  const { divergence } = run;
  const difference = divergence === undefined
    ? report.incomplete ??
      (differing.length > 0
        ? `the console of ${differing.join(", ")}`
        : `${frames.matched} of ${frames.recorded} frames, ${checks.equal} of ${checks.recorded} checks`)
    : differenceOf(divergence);
  return {
    identical,
    ...identical ? {} : { difference },
    frames,
    checks,
    consolesEqual: differing.length === 0,
    replayS: run.replayS,
    wholeS,
    use,
  };
}
