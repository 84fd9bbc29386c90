/** The laboratory's report, as Markdown, from the samples alone. */
import { formatBytes, formatCount } from "../../lib/cli/quantities.ts";
import type { Spread } from "../bench/statistics.ts";
import type { Piece, Results } from "./samples.ts";
import {
  type ExampleSummary,
  type LoadSummary,
  type Rate,
  REPLAY_RATIO_AIM,
  type StockSummary,
  summarize,
} from "./summary.ts";

/** What stands in a cell where nothing was measured. */
const NONE = "–";

/** The whole report. @param plots names of the pictures that lie beside it */
export function renderMarkdown(results: Results, plots: Iterable<string>): string {
  const summaries = summarize(results);
  return [
    "# Laboratory",
    ...results.pieces.map(pieceLine),
    ...mixedExamples(results),
    "",
    "Times are seconds, medians with the shortest and the longest. *Busy*: a loop on every core all the time, recording and replay alike. " +
    "*Replay* compares the frames; *verify* is a replay that is stopped at each check besides. Identical, by verify: every frame, every check of instruction count, registers and RAM, and every console.",
    "",
    "## Success",
    table(
      [
        "example",
        "VMs",
        "load",
        "guests did their work",
        "replays identical",
        "lost events",
        "dropped frames",
      ],
      summaries.flatMap(successRows),
    ),
    "## Times",
    table(
      [
        ...["example", "no rr", "stock record", "**record**", "/ no rr", "/ stock record"],
        ...["stock replay", "**replay**", `replay / record (aim ≤ ${REPLAY_RATIO_AIM})`],
        ...["/ stock replay", "verify"],
      ],
      summaries.flatMap(timeRows),
    ),
    "## Sizes",
    table(
      [
        ...["example", "stock logs", "under zstd -19", "**stored**", "of the stock logs"],
        ...["of those under zstd -19", "QEMU's log in the same recordings"],
      ],
      summaries.flatMap(sizeRows),
    ),
    "## Frames of a recording",
    table(
      ["example", "load", "sent", "internal", "external", "internal, stored whole"],
      summaries.flatMap(frameRows),
    ),
    "## clusterrr's own process",
    table(
      [
        ...["example", "load", "recording: CPU s", "of one core", "peak memory"],
        ...["replay: CPU s", "of one core", "peak memory"],
      ],
      summaries.flatMap(useRows),
    ),
    ...problems(summaries),
    ...[...plots].map((name) => `![${name.replace(/\.svg$/, "")}](${name})\n`),
  ].join("\n");
}

function pieceLine(piece: Piece): string {
  const { options: o } = piece;
  return `- ${
    piece.startedAt.slice(0, 16).replace("T", " ")
  } UTC: ${piece.cores} × ${piece.cpu}, ` +
    `${
      formatBytes(piece.memoryBytes)
    }, Linux ${piece.kernel}, QEMU ${piece.qemu}, Deno ${piece.deno}, ` +
    `zstd ${piece.zstd}, clusterrr ${piece.commit}; ${o.examples.join(", ")}: ` +
    `${o.recordings} × ${o.replays}, load ${o.loads.join(" and ")}, ` +
    `${o.stockRounds} rounds of stock QEMU; load average ${piece.loadBefore.toFixed(1)} before`;
}

/** Examples whose figures under one load are of several pieces that are not alike. */
function mixedExamples({ pieces, recordings, stock }: Results): string[] {
  const kinds = new Map<string, Set<string>>();
  const idle = stock.map(({ example, piece }) => ({ example, piece, load: "idle" as const }));
  for (const { example, piece, load } of [...recordings, ...idle]) {
    const row = `${example} ${load}`;
    const { cpu, cores, kernel, qemu, commit } = pieces[piece]!;
    const kind = JSON.stringify([cpu, cores, kernel, qemu, commit]);
    kinds.set(row, (kinds.get(row) ?? new Set()).add(kind));
  }
  const mixed = [...kinds].filter(([, { size }]) => size > 1).map(([row]) => row).sort();
  return mixed.length === 0 ? [] : [
    "",
    `The runs of ${
      mixed.join(", ")
    } are of different machines or versions: medians over them say little.`,
  ];
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (row: readonly string[]) => `| ${row.join(" | ")} |`;
  const rule = titles.map((_, i) => i === 0 ? "---" : "---:");
  return [cells(titles), cells(rule), ...rows.map(cells), ""].join("\n");
}

function successRows(summary: ExampleSummary): string[][] {
  const vms = summary.vms === undefined ? NONE : `${summary.vms}`;
  return summary.loads.map((load) => [
    ...[summary.example, vms, loadText(load)],
    rateText(load.worked) + (summary.mayFail ? " (may fail)" : ""),
    rateText(load.identical),
    ...[formatCount(load.lostEvents), formatCount(load.droppedFrames)],
  ]);
}

function timeRows(summary: ExampleSummary): string[][] {
  const { stock } = summary;
  return summary.loads.map((load) => {
    const peers = load.load === "idle" ? stock : undefined; // stock QEMU ran without load
    return [
      `${summary.example}${load.load === "idle" ? "" : ", busy"}`,
      spreadText(peers?.plainS, seconds),
      spreadText(peers?.recordS, seconds),
      spreadText(load.recordS, seconds),
      ratio(load.recordS, peers?.plainS),
      ratio(load.recordS, peers?.recordS),
      stockReplayText(peers),
      spreadText(load.replayS, seconds),
      spreadText(load.ratio, (n) => n.toFixed(2)),
      ratio(load.replayS, peers?.replayS),
      spreadText(load.verifyS, seconds),
    ];
  });
}

function stockReplayText(stock: StockSummary | undefined): string {
  if (stock === undefined) return NONE;
  const { replayS, overBound, boundS, equal } = stock;
  const parts = [
    ...replayS === undefined ? [] : [spreadText(replayS, seconds)],
    ...overBound === 0 ? [] : [`${overBound} not ended after ${boundS} s`],
    ...equal.of === 0 || equal.good === equal.of ? [] : [`${equal.good} of ${equal.of} equal`],
  ];
  return parts.length === 0 ? NONE : parts.join("; ");
}

function sizeRows({ example, bytes, stock }: ExampleSummary): string[][] {
  if (bytes === undefined && stock?.logBytes === undefined) return [];
  return [[
    example,
    spreadText(stock?.logBytes, size),
    spreadText(stock?.zstd19Bytes, size),
    spreadText(bytes?.stored, size),
    smaller(bytes?.stored, stock?.logBytes),
    smaller(bytes?.stored, stock?.zstd19Bytes),
    spreadText(bytes?.rrLog, size),
  ]];
}

function frameRows({ example, loads }: ExampleSummary): string[][] {
  return loads.flatMap((load) => {
    const { frames } = load;
    if (frames === undefined) return [];
    const count = (n: number) => formatCount(Math.round(n));
    return [[
      ...[example, loadText(load), count(frames.sent), count(frames.internal)],
      count(frames.external),
      frames.storedWhole > 0 && frames.storedWhole < 1
        ? frames.storedWhole.toFixed(2)
        : count(frames.storedWhole),
    ]];
  });
}

function useRows({ example, loads }: ExampleSummary): string[][] {
  return loads.flatMap((load) => {
    const { use } = load;
    if (use === undefined) return [];
    return [[
      ...[example, loadText(load), spreadText(use.recordCpuS, (n) => n.toFixed(1))],
      percent(use.recordShare),
      formatBytes(use.recordRssBytes),
      spreadText(use.replayCpuS, (n) => n.toFixed(1)),
      percent(use.replayShare),
      use.replayRssBytes === undefined ? NONE : formatBytes(use.replayRssBytes),
    ]];
  });
}

function problems(summaries: readonly ExampleSummary[]): string[] {
  const lines = summaries.flatMap(({ example, problems, stock }) => [
    ...problems.map((problem) => `- ${example}, ${oneLine(problem)}`),
    ...(stock?.failures ?? []).map((failure) => `- ${example}, stock QEMU, ${oneLine(failure)}`),
  ]);
  return lines.length === 0 ? [] : ["## What went wrong", ...lines, ""];
}

function oneLine(message: string): string {
  return message.trim().replace(/\s*\n\s*/g, " / ");
}

function loadText({ load }: LoadSummary): string {
  return load === "idle" ? "idle" : "busy";
}

/** `9 of 10`. */
export function rateText({ good, of }: Rate): string {
  return `${good} of ${of}`;
}

/** `6.2 (6.1–6.9)`; of one value the value alone. */
export function spreadText(spread: Spread | undefined, format: (n: number) => string): string {
  if (spread === undefined) return NONE;
  const [median, min, max] = [spread.median, spread.min, spread.max].map(format);
  return min === max ? median! : `${median} (${min}–${max})`;
}

function ratio(ours: Spread | undefined, other: Spread | undefined): string {
  return ours === undefined || other === undefined ? NONE : (ours.median / other.median).toFixed(2);
}

/** "1/12". */
function smaller(ours: Spread | undefined, other: Spread | undefined): string {
  return ours === undefined || other === undefined || ours.median === 0
    ? NONE
    : `1/${(other.median / ours.median).toFixed(1)}`;
}

function percent(share: Spread | undefined): string {
  return share === undefined ? NONE : `${(100 * share.median).toFixed(0)} %`;
}

function seconds(value: number): string {
  return value.toFixed(1);
}

function size(bytes: number): string {
  return formatBytes(Math.round(bytes));
}
