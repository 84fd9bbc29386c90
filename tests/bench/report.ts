/** The results of a benchmark as rows: ours beside the other, the target beside the ratio. */
import { renderTable } from "../../lib/cli/table.ts";
import { formatBytes, formatCount } from "../../lib/cli/quantities.ts";
import type { Paint } from "../../lib/cli/terminal.ts";
import type { RecordReport, VerifyReport } from "../../lib/cli/ports.ts";
import type { CodecRun } from "./codec.ts";
import type { Results, Round, StockRuns } from "./measures.ts";
import { OTHER_PROFILES, type OtherProfile, STOCK_REPLAY_RATIO_MAX } from "./peers.ts";
import { compare, type Comparison, type Spread, spreadOf } from "./statistics.ts";

export type Verdict = "PASS" | "FAIL" | "OPEN" | "";

/** One line of the report. Texts are ready to print; a row without a target has no verdict. */
export interface Row {
  readonly name: string;
  readonly ours: string;
  readonly other: string;
  readonly ratio: string;
  /** The smallest and the largest ratio of a single round. */
  readonly rounds: string;
  readonly target: string;
  /** `OPEN`: what was measured decides nothing. */
  readonly verdict: Verdict;
}

/** All rows, in the order of the targets. */
export function rowsOf(results: Results): Row[] {
  const { rounds } = results;
  const of = (pick: (round: Round) => number) => rounds.map(pick);
  const recordS = of((round) => round.record.report.recordS);
  const replayS = of((round) => round.replay.report.replayS);
  const stored = of((round) => storedOf(round.record.report));
  const stock = rounds.map((round) => round.stock);
  const plainS = of((round) => round.plain.runS);
  const rows = [
    time("record / no record-replay", recordS, plainS, 1.10),
    time("  the whole command", of((r) => r.record.wholeS), of((r) => r.plain.wholeS)),
    time("  stock record / no record-replay", stock.map(({ record }) => record.runS), plainS),
    size("stored / stock QEMU's logs", stored, stock.map(({ logBytes }) => logBytes)),
    size(
      "  / rr logs of the same runs",
      stored,
      of((r) => sumOf(r.record.report, (vm) => vm.bytes.rrLog)),
    ),
    time("replay / record", replayS, recordS, 0.7),
    time("  the whole commands", of((r) => r.replay.wholeS), of((r) => r.record.wholeS)),
    stockReplayRow("replay / stock QEMU's replay", replayS, stock, STOCK_REPLAY_RATIO_MAX),
    ...OTHER_PROFILES.flatMap((profile) => otherProfileRows(rounds, profile)),
    ...codecRows(results),
    ...frameRows(rounds),
    identicalRow("replays identical", rounds.map((round) => round.replay.report.ok)),
  ];
  if (results.verify !== undefined) {
    rows.push(verifyRow("verified, machine idle", results.verify.idle));
    rows.push(verifyRow("verified, every core busy", results.verify.busy));
  }
  return rows;
}

/** A row without numbers to compare. */
export function plainRow(name: string, ours: string, target = "", verdict: Verdict = ""): Row {
  return { name, ours, other: "", ratio: "", rounds: "", target, verdict };
}

/** A time of ours against another one of the same rounds. */
export function time(
  name: string,
  ours: readonly number[],
  other: readonly number[],
  max?: number,
): Row {
  const c = compare(ours, other);
  return {
    name,
    ours: spreadText(c.ours, formatTime),
    other: spreadText(c.other, formatTime),
    ratio: c.ratio.toFixed(2),
    rounds: roundsText(c),
    target: max === undefined ? "" : `≤ ${max.toFixed(2)}`,
    verdict: max === undefined ? "" : verdictOf(c.ratio <= max),
  };
}

const SMALLER_TIMES = 15;

/** Sizes read better as "so many times smaller"; only the row against stock QEMU has a target. */
function size(name: string, ours: readonly number[], other: readonly number[]): Row {
  const c = compare(ours, other);
  const judged = !name.startsWith(" ");
  return {
    name,
    ours: spreadText(c.ours, formatBytes),
    other: spreadText(c.other, formatBytes),
    ratio: `1/${(1 / c.ratio).toFixed(1)}`,
    rounds: c.rounds.min === c.rounds.max
      ? ""
      : `1/${(1 / c.rounds.min).toFixed(1)}–1/${(1 / c.rounds.max).toFixed(1)}`,
    target: judged ? `≤ 1/${SMALLER_TIMES}` : "",
    verdict: judged ? verdictOf(c.ratio <= 1 / SMALLER_TIMES) : "",
  };
}

/** Stock QEMU's replay may not come to its end: then its time is a lower bound, or worth nothing. */
function stockReplayRow(
  name: string,
  replayS: readonly number[],
  runs: readonly StockRuns[],
  max?: number,
): Row {
  const failed = runs.filter(({ replay, equal }) => replay.overBound.length === 0 && !equal).length;
  const row = time(name, replayS, runs.map(({ replay }) => replay.runS), max);
  if (failed > 0) {
    const other = `failed in ${failed} of ${runs.length}`;
    return { ...row, other, ratio: "", rounds: "", verdict: row.verdict && "OPEN" };
  }
  if (runs.every(({ replay }) => replay.overBound.length === 0)) return row;
  return {
    ...row,
    other: `> ${row.other}`,
    ratio: `< ${row.ratio}`,
    verdict: row.verdict === "FAIL" ? "OPEN" : row.verdict,
  };
}

/** Against stock QEMU with another profile, of the rounds in which it got through: ours has its part in these. */
function otherProfileRows(rounds: readonly Round[], profile: OtherProfile): Row[] {
  const { name, brief, replayRatioMax } = profile;
  const pairs = rounds.flatMap(({ record, replay, stockOther }) => {
    const stock = stockOther[name];
    return stock === undefined ? [] : [{ record: record.report, replay: replay.report, stock }];
  });
  if (pairs.length === 0) return [];
  const stock = pairs.map(({ stock }) => stock);
  const replay = stockReplayRow(
    "  replay / replay",
    pairs.map(({ replay }) => replay.replayS),
    stock,
    replayRatioMax,
  );
  const lost = rounds.length - pairs.length;
  return [
    plainRow(
      `against stock QEMU ${brief}`,
      lost === 0 ? "" : `failed in ${lost} of ${rounds.length}`,
    ),
    time(
      "  record / record",
      pairs.map(({ record }) => record.recordS),
      stock.map(({ record }) => record.runS),
    ),
    size(
      "  stored / logs",
      pairs.map(({ record }) => storedOf(record)),
      stock.map(({ logBytes }) => logBytes),
    ),
    lost === 0 ? replay : { ...replay, verdict: replay.verdict && "OPEN" },
  ];
}

const CODEC_MB_PER_S = 100;

function codecRows({ codec: { bare, hashed } }: Results): Row[] {
  const rateOf = (runs: readonly CodecRun[]) =>
    spreadOf(runs.map((run) => run.logBytes / 1e6 / run.seconds));
  const rateText = (runs: readonly CodecRun[]) =>
    `${spreadText(rateOf(runs), (n) => n.toFixed(0))} MB/s`;
  const log = formatBytes(Math.max(...bare.map((run) => run.logBytes)));
  return [
    plainRow(
      `rr decode + hybrid encode of ${log}`,
      rateText(bare),
      `≥ ${CODEC_MB_PER_S} MB/s`,
      verdictOf(rateOf(bare).median >= CODEC_MB_PER_S),
    ),
    plainRow("  peak memory: start, a quarter, end", memoryText(bare)),
    plainRow("  with the hash of every frame", rateText(hashed)),
    plainRow("  peak memory: start, a quarter, end", memoryText(hashed)),
  ];
}

function memoryText(runs: readonly CodecRun[]): string {
  return (["start", "quarter", "end"] as const)
    .map((when) => formatBytes(Math.max(...runs.map((run) => run.rssBytes[when])))).join(", ");
}

function frameRows(rounds: readonly Round[]): Row[] {
  const sum = (pick: (vm: RecordReport["vms"][number]) => number | null) =>
    rounds.reduce((total, round) => total + sumOf(round.record.report, pick), 0);
  const internal = sum((vm) => vm.frames.internal);
  const external = sum((vm) => vm.frames.external);
  const unmatched = sum((vm) => vm.frames.stored) - external;
  const all = formatCount(internal + unmatched);
  return [
    plainRow(
      "internal frames stored as references",
      `${formatCount(internal)} of ${all}`,
      "all",
      verdictOf(unmatched === 0 && internal > 0),
    ),
    plainRow("  external frames, stored whole", formatCount(external)),
  ];
}

function verifyRow(name: string, report: VerifyReport): Row {
  return identicalRow(name, report.perRun.map((run) => run.ok));
}

function identicalRow(name: string, runs: readonly boolean[]): Row {
  const good = runs.filter((ok) => ok).length;
  return plainRow(name, `${good} of ${runs.length}`, "all", verdictOf(good === runs.length));
}

/** Of a target. */
export function verdictOf(good: boolean): Verdict {
  return good ? "PASS" : "FAIL";
}

function storedOf(report: RecordReport): number {
  return sumOf(report, (vm) => vm.bytes.stored);
}

function sumOf(
  report: RecordReport,
  pick: (vm: RecordReport["vms"][number]) => number | null,
): number {
  return report.vms.reduce((sum, vm) => sum + (pick(vm) ?? NaN), 0);
}

/** `6.20 s`. */
export function formatTime(seconds: number): string {
  return `${seconds.toFixed(2)} s`;
}

/** `6.2 s (6.1 s–6.9 s)`; of one round the value alone. */
export function spreadText({ median, min, max }: Spread, format: (n: number) => string): string {
  return min === max ? format(median) : `${format(median)} (${format(min)}–${format(max)})`;
}

function roundsText({ rounds }: Comparison): string {
  return rounds.min === rounds.max ? "" : `${rounds.min.toFixed(2)}–${rounds.max.toFixed(2)}`;
}

/** The rows as a table for people. */
export function renderReport(rows: readonly Row[], style: Paint): string {
  return renderTable(
    [
      { title: "MEASURE" },
      { title: "OURS" },
      { title: "AGAINST" },
      { title: "RATIO", align: "right" },
      { title: "ROUNDS", align: "right" },
      { title: "TARGET", align: "right" },
      { title: "" },
    ],
    rows.map(({ name, ours, other, ratio, rounds, target, verdict }) => [
      name,
      ours,
      other,
      ratio,
      rounds,
      target,
      verdict,
    ]),
    style,
    (text, row) => {
      switch (rows[row]!.verdict) {
        case "PASS":
          return text.replace(/PASS$/, style.good("PASS"));
        case "FAIL":
          return text.replace(/FAIL$/, style.bad("FAIL"));
        case "OPEN":
          return text.replace(/OPEN$/, style.warn("OPEN"));
        case "":
          return text;
      }
    },
  );
}
