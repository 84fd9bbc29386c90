/** From raw samples to the figures of each example: medians with their spread, success rates, ratios. */
import { type Spread, spreadOf } from "../bench/statistics.ts";
import type {
  Load,
  RecordingSample,
  ReplayTime,
  Results,
  StockRun,
  StockSample,
} from "./samples.ts";
import { isGood } from "./trial.ts";

/** What a replay may take of its recording's time: the aim. */
export const REPLAY_RATIO_AIM = 0.7;

/** So many of so many. */
export interface Rate {
  readonly good: number;
  readonly of: number;
}

/** An example under one load. Spreads are absent where nothing was measured. */
export interface LoadSummary {
  readonly load: Load;
  /** Recordings whose guests all did their work. */
  readonly worked: Rate;
  /** Recordings that came about at all. */
  readonly recorded: Rate;
  readonly identical: Rate;
  readonly recordS?: Spread;
  /** Of a replay that compares frames only. */
  readonly replayS?: Spread;
  /** Of one that is stopped at each check and compared in everything. */
  readonly verifyS?: Spread;
  /** Of `replayS` to the recording. */
  readonly ratio?: Spread;
  readonly use?: {
    readonly recordCpuS: Spread;
    /** Of one core, from the command's start to its end. */
    readonly recordShare: Spread;
    readonly recordRssBytes: number;
    readonly replayCpuS?: Spread;
    readonly replayShare?: Spread;
    readonly replayRssBytes?: number;
  };
  readonly lostEvents: number;
  readonly droppedFrames: number;
  /** Means over the recordings. */
  readonly frames?: Recorded["frames"];
  readonly samples: readonly RecordingSample[];
}
type Recorded = NonNullable<RecordingSample["recorded"]>;

/** What stock QEMU's rounds came to. */
export interface StockSummary {
  readonly plainS?: Spread;
  readonly recordS?: Spread;
  readonly replayS?: Spread;
  /** Replays that had not ended after so many seconds. */
  readonly overBound: number;
  readonly boundS?: number;
  /** Replays that ended and showed the same consoles. */
  readonly equal: Rate;
  readonly logBytes?: Spread;
  readonly zstd19Bytes?: Spread;
  readonly failures: readonly string[];
}

export interface ExampleSummary {
  readonly example: string;
  readonly mayFail: boolean;
  readonly vms?: number;
  readonly loads: readonly LoadSummary[];
  readonly stock?: StockSummary;
  /** Of the recordings without load. */
  readonly bytes?: { readonly rrLog: Spread; readonly stored: Spread };
  /** What went wrong, one line each. */
  readonly problems: readonly string[];
}

/** The figures of every example in `results`, by name. */
export function summarize(results: Results): ExampleSummary[] {
  const names = new Set([...results.recordings, ...results.stock].map(({ example }) => example));
  return [...names].sort().map((example) => {
    const recordings = results.recordings.filter((sample) => sample.example === example);
    const stock = results.stock.filter((sample) => sample.example === example);
    const recorded = recordings.flatMap((sample) => sample.recorded ?? []);
    // Stock QEMU's logs, to which they are compared, are of a machine without load.
    const idle = recordings.filter(({ load }) => load === "idle")
      .flatMap((sample) => sample.recorded ?? []);
    const vms = recorded[0]?.vms;
    return {
      example,
      mayFail: recordings.some(({ mayFail }) => mayFail),
      ...vms === undefined ? {} : { vms },
      loads: (["idle", "full"] as const).flatMap((load) => {
        const samples = recordings.filter((sample) => sample.load === load);
        return samples.length === 0 ? [] : [summarizeLoad(load, samples)];
      }),
      ...stock.length === 0 ? {} : { stock: summarizeStock(stock) },
      ...idle.length === 0 ? {} : {
        bytes: {
          rrLog: spreadOf(idle.map(({ bytes }) => bytes.rrLog)),
          stored: spreadOf(idle.map(({ bytes }) => bytes.stored)),
        },
      },
      problems: recordings.flatMap(problemsOf),
    };
  });
}

/** Whether everything went as it should; the reason why not. */
export function failureOf(summary: ExampleSummary): string | undefined {
  const samples = summary.loads.flatMap((load) => load.samples);
  const stock = summary.stock?.failures ?? [];
  if (samples.every(isGood) && stock.length === 0) return undefined;
  return [...summary.problems, ...stock.map((failure) => `stock QEMU: ${failure}`)].join("; ");
}

function problemsOf(sample: RecordingSample): string[] {
  const { load, failure, unfinishedWork, mayFail, replayTime, replays, kept } = sample;
  const problems = [
    ...failure === undefined ? [] : [`no recording: ${failure}`],
    ...mayFail ? [] : unfinishedWork,
    ...replayTime === undefined ? [] : failureText("replay", replayTime),
    ...replays.flatMap(({ difference }) =>
      difference === undefined ? [] : [`verification: ${difference}`]
    ),
  ];
  if (problems.length === 0) return [];
  const where = kept === undefined ? "" : ` (kept in ${kept})`;
  return [`${load}: ${problems.join("; ")}${where}`];
}

function summarizeLoad(load: Load, samples: readonly RecordingSample[]): LoadSummary {
  const recorded = samples.flatMap((sample) => sample.recorded ?? []);
  const replays = samples.flatMap((sample) => sample.replays);
  const timed = samples.flatMap(timedReplayOf);
  // The time of a replay that differed says nothing.
  const verifyS = replays.flatMap(({ identical, replayS }) =>
    identical && replayS !== undefined ? [replayS] : []
  );
  return {
    load,
    recorded: { good: recorded.length, of: samples.length },
    worked: {
      good: samples.filter((s) => s.recorded !== undefined && s.unfinishedWork.length === 0).length,
      of: samples.length,
    },
    identical: { good: replays.filter(({ identical }) => identical).length, of: replays.length },
    ...spread("recordS", recorded.map(({ recordS }) => recordS)),
    ...spread("replayS", timed.map(({ replayS }) => replayS)),
    ...spread("verifyS", verifyS),
    ...spread("ratio", timed.map(({ ratio }) => ratio)),
    ...recorded.length === 0 ? {} : {
      use: {
        recordCpuS: spreadOf(recorded.map(({ use }) => use.cpuS)),
        recordShare: spreadOf(recorded.map(({ use, wholeS }) => use.cpuS / wholeS)),
        recordRssBytes: Math.max(...recorded.map(({ use }) => use.rssBytesMax)),
        ...timed.length === 0 ? {} : {
          replayCpuS: spreadOf(timed.map(({ use }) => use.cpuS)),
          ...spread(
            "replayShare",
            timed.flatMap(({ use, wholeS }) => wholeS === undefined ? [] : [use.cpuS / wholeS]),
          ),
          replayRssBytes: Math.max(...timed.map(({ use }) => use.rssBytesMax)),
        },
      },
      frames: meanFrames(recorded),
    },
    lostEvents: sum(recorded.map(({ recorder }) => recorder?.lostEvents ?? 0)),
    droppedFrames: sum(recorded.map(({ recorder }) => recorder?.droppedFrames ?? 0)),
    samples,
  };
}

/** The timed replay of a recording, if it ended well. */
export function timedReplayOf({ recorded, replayTime }: RecordingSample) {
  if (recorded === undefined || replayTime === undefined || "failure" in replayTime) return [];
  return [{ ...replayTime, ratio: replayTime.replayS / recorded.recordS }];
}

function meanFrames(recorded: readonly Recorded[]): Recorded["frames"] {
  const mean = (pick: (frames: Recorded["frames"]) => number) =>
    sum(recorded.map(({ frames }) => pick(frames))) / recorded.length;
  return {
    sent: mean(({ sent }) => sent),
    internal: mean(({ internal }) => internal),
    external: mean(({ external }) => external),
    storedWhole: mean(({ storedWhole }) => storedWhole),
  };
}

function summarizeStock(samples: readonly StockSample[]): StockSummary {
  const times = (pick: (sample: StockSample) => StockSample["replay"]) =>
    samples.flatMap((sample) => {
      const run = pick(sample);
      return run !== undefined && "runS" in run ? [run.runS] : [];
    });
  const bounds = samples.flatMap(({ replay }) =>
    replay !== undefined && "boundS" in replay ? [replay.boundS] : []
  );
  const logs = samples.flatMap((sample) => sample.logs ?? []);
  return {
    ...spread("plainS", times(({ plain }) => plain)),
    ...spread("recordS", times(({ record }) => record)),
    // The time of a replay that differed says nothing.
    ...spread(
      "replayS",
      times(({ replay, consolesEqual }) => consolesEqual === false ? undefined : replay),
    ),
    overBound: bounds.length,
    ...bounds.length === 0 ? {} : { boundS: Math.max(...bounds) },
    equal: {
      good: samples.filter(({ consolesEqual }) => consolesEqual === true).length,
      of: samples.filter(({ replay }) => replay !== undefined && "runS" in replay).length,
    },
    ...spread("logBytes", logs.map(({ bytes }) => bytes)),
    ...spread("zstd19Bytes", logs.map(({ zstd19Bytes }) => zstd19Bytes)),
    failures: samples.flatMap(({ plain, record, replay }) => [
      ...failureText("plain", plain),
      ...failureText("record", record),
      ...replay === undefined || "boundS" in replay ? [] : failureText("replay", replay),
    ]),
  };
}

function failureText(what: string, run: StockRun | ReplayTime): string[] {
  return "failure" in run ? [`${what}: ${run.failure}`] : [];
}

/** `{[name]: spread}`, or nothing of no values. */
function spread<Name extends string>(
  name: Name,
  values: readonly number[],
): { [K in Name]?: Spread } {
  return (values.length === 0 ? {} : { [name]: spreadOf(values) }) as { [K in Name]?: Spread };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
