/**
 * Recording for a failure: a run is recorded and judged; it is kept if it failed, else deleted, and with
 * `--until-failure` the next one follows.
 *
 * ```
 * record ─▶ judge ─failed─▶ keep, done
 *    ▲        └─passed─▶ delete ─▶ done, or no run left ─▶ done
 *    └───────────────────────┘
 * ```
 */
import { deleteRecording } from "../catalog/directories.ts";
import type { FailureCriteria, RecordOptions, RecordReport } from "./ports.ts";
import { formatSeconds } from "./quantities.ts";
import { type Context, withProgress } from "./subcommand.ts";

/** What is sought, and for how long. */
export interface FailureHunt {
  readonly criteria: FailureCriteria;
  /** More than one: go on until one failed. */
  readonly runsMax: number;
}

/** One run of a hunt. */
export interface HuntRun {
  readonly run: number;
  readonly failed: boolean;
  /** What says so. */
  readonly reason: string;
  readonly recordS: number;
}

/** What a hunt came to. */
export interface HuntReport {
  /** Whether a run failed; its recording is then kept. */
  readonly failed: boolean;
  readonly runs: readonly HuntRun[];
  /** The recording that was kept. */
  readonly recording: RecordReport | null;
}

/**
 * Records and judges until a run failed, `runsMax` is reached or the user ends it. What the run that the
 * user ended lacks says nothing: of several runs, that one is judged by its guests alone. A recording that
 * itself fails is kept and ends the hunt; so does one that cannot be judged, with the judge's error.
 */
export async function huntFailure(
  options: RecordOptions,
  { criteria, runsMax }: FailureHunt,
  context: Context,
  json: boolean,
): Promise<HuntReport> {
  const runs: HuntRun[] = [];
  while (runs.length < runsMax) {
    const recording = await withProgress(
      context,
      json,
      (progress) => context.operations.record(options, progress, context.signal),
    );
    if (recording.endedBy === "failure") return { failed: false, runs, recording };
    const { directory, id, recordS, endedBy } = recording;
    const whole = endedBy !== "interrupt" || runsMax === 1;
    if (!whole && !criteria.guests) {
      await deleteRecording(directory, id);
      context.terminal.err(`run ${runs.length + 1}: interrupted, not judged, deleted\n`);
      break;
    }
    const judged = whole ? criteria : { guests: true };
    const verdict = await context.operations.judge({ ...judged, directory }, context.signal);
    const run = { run: runs.length + 1, ...verdict, recordS };
    runs.push(run);
    if (!json) context.terminal.err(describeRun(run));
    if (verdict.failed) return { failed: true, runs, recording };
    await deleteRecording(directory, id);
    if (context.signal.aborted) break;
  }
  return { failed: false, runs, recording: null };
}

function describeRun({ run, failed, reason, recordS }: HuntRun): string {
  return `run ${run}: ${failed ? "FAILED" : "passed"}, ${reason} (${formatSeconds(recordS)})\n`;
}
