/** The laboratory's pictures: times, sizes, success, and what a replay takes of its recording's time. */
import { formatBytes } from "../../lib/cli/quantities.ts";
import type { Spread } from "../bench/statistics.ts";
import { isGood } from "./trial.ts";
import { type ExampleSummary, REPLAY_RATIO_AIM, timedReplayOf } from "./summary.ts";
import {
  circle,
  type ColorClass,
  legend,
  line,
  linearTicks,
  logTicks,
  MARGIN,
  rect,
  svgDocument,
  text,
} from "./svg.ts";

const WIDTH = 860;
/** Where the plot begins, right of the names; space for values on its right. */
const LEFT = 160;
const RIGHT = 110;
const TOP = 64;
const BOTTOM = 40;
const GROUP_GAP = 14;

/** A value that is drawn: where it lies, in which colour, what is written beside it. */
interface Mark {
  readonly color: ColorClass;
  readonly name: string;
  readonly value: Spread;
  readonly label: string;
}

/** Every picture by the name of its file. */
export function plotsOf(summaries: readonly ExampleSummary[]): Map<string, string> {
  const plots = [
    ["times.svg", plotTimes(summaries)],
    ["ratio.svg", plotRatios(summaries)],
    ["sizes.svg", plotSizes(summaries)],
    ["success.svg", plotSuccess(summaries)],
  ] as const;
  return new Map(plots.flatMap(([name, plot]) => plot === undefined ? [] : [[name, plot]]));
}

const TIMES: readonly (readonly [ColorClass, string])[] = [
  ["plain", "no record/replay"],
  ["stockRecord", "stock QEMU, record"],
  ["record", "clusterrr, record"],
  ["stockReplay", "stock QEMU, replay"],
  ["replay", "clusterrr, replay"],
];

/** Bars of times; whiskers reach from the shortest to the longest. */
function plotTimes(summaries: readonly ExampleSummary[]): string | undefined {
  const groups = summaries.map(({ example, loads, stock }) => {
    const idle = loads.find(({ load }) => load === "idle");
    const over = stock?.boundS === undefined ? undefined : {
      spread: { median: stock.boundS, min: stock.boundS, max: stock.boundS },
      label: `> ${stock.boundS} s, not ended`,
    };
    const values = [
      stock?.plainS,
      stock?.recordS,
      idle?.recordS,
      stock?.replayS ?? over?.spread,
      idle?.replayS,
    ];
    const marks = TIMES.flatMap(([color, name], i): Mark[] => {
      const value = values[i];
      if (value === undefined) return [];
      const isBound = color === "stockReplay" && stock?.replayS === undefined;
      return [{ color, name, value, label: isBound ? over!.label : seconds(value.median) }];
    });
    return { example, marks };
  }).filter(({ marks }) => marks.length > 0);
  if (groups.length === 0) return undefined;
  const max = Math.max(...groups.flatMap(({ marks }) => marks.map(({ value }) => value.max)));
  const ticks = linearTicks(max);
  const scale = (value: number) => LEFT + value / ticks.at(-1)! * (WIDTH - LEFT - RIGHT);
  return grouped("Time without load (medians; seconds)", groups, TIMES, {
    ticks: ticks.map((tick) => [scale(tick), `${tick}`]),
    draw: ({ color, name, value, label }, y) => [
      rect(LEFT, y, Math.max(1, scale(value.median) - LEFT), BAR, color, `${name}: ${label}`),
      ...value.min === value.max ? [] : [
        line(scale(value.min), y + BAR / 2, scale(value.max), y + BAR / 2, "text", { width: 1.2 }),
      ],
      text(scale(value.max) + 6, y + BAR - 2, label, { color: "muted", size: 11 }),
    ],
  });
}

const SIZES: readonly (readonly [ColorClass, string])[] = [
  ["stockRecord", "stock QEMU's logs"],
  ["stockReplay", "the same under zstd -19"],
  ["record", "clusterrr, stored"],
];

/** Points on a logarithmic axis. */
function plotSizes(summaries: readonly ExampleSummary[]): string | undefined {
  const groups = summaries.map(({ example, bytes, stock }) => {
    const values = [stock?.logBytes, stock?.zstd19Bytes, bytes?.stored];
    const marks = SIZES.flatMap(([color, name], i): Mark[] => {
      const value = values[i];
      return value === undefined || value.min <= 0
        ? []
        : [{ color, name, value, label: formatBytes(Math.round(value.median)) }];
    });
    return { example, marks };
  }).filter(({ marks }) => marks.length > 0);
  if (groups.length === 0) return undefined;
  const all = groups.flatMap(({ marks }) => marks.map(({ value }) => value));
  const ticks = logTicks(
    Math.min(...all.map(({ min }) => min)),
    Math.max(...all.map(({ max }) => max)),
  );
  const [first, last] = [Math.log10(ticks[0]!), Math.log10(ticks.at(-1)!)];
  const scale = (value: number) =>
    LEFT + (Math.log10(value) - first) / (last - first) * (WIDTH - LEFT - RIGHT);
  return grouped("Size of the logs of a recording (medians; logarithmic)", groups, SIZES, {
    ticks: ticks.map((tick) => [scale(tick), formatBytes(tick).replace(/\.0+ /, " ")]),
    draw: ({ color, name, value, label }, y) => [
      line(LEFT, y + BAR / 2, scale(value.median), y + BAR / 2, "grid", { width: 2 }),
      ...value.min === value.max ? [] : [
        line(scale(value.min), y + BAR / 2, scale(value.max), y + BAR / 2, color, { width: 3 }),
      ],
      circle(scale(value.median), y + BAR / 2, 5, color, { hint: `${name}: ${label}` }),
      text(scale(value.max) + 10, y + BAR - 2, label, { color: "muted", size: 11 }),
    ],
  });
}

const BAR = 13;
const BAR_STEP = 16;

/** Groups of marks, a row each, under a common axis. */
function grouped(
  title: string,
  groups: readonly { readonly example: string; readonly marks: readonly Mark[] }[],
  names: readonly (readonly [ColorClass, string])[],
  { ticks, draw }: {
    readonly ticks: readonly (readonly [x: number, label: string])[];
    readonly draw: (mark: Mark, y: number) => string[];
  },
): string {
  const rows = groups.reduce((sum, { marks }) => sum + marks.length, 0);
  const height = TOP + rows * BAR_STEP + groups.length * GROUP_GAP + BOTTOM;
  const body = axis(ticks, height);
  let y = TOP;
  for (const { example, marks } of groups) {
    y += GROUP_GAP / 2;
    body.push(groupName(example, y + marks.length * BAR_STEP / 2 + 3));
    for (const mark of marks) {
      body.push(...draw(mark, y));
      y += BAR_STEP;
    }
    y += GROUP_GAP / 2;
  }
  return svgDocument(WIDTH, height, title, [...legend(MARGIN, 48, names), ...body]);
}

function axis(ticks: readonly (readonly [x: number, label: string])[], height: number): string[] {
  return ticks.flatMap(([x, label]) => [
    line(x, TOP, x, height - BOTTOM, "grid"),
    text(x, height - BOTTOM + 16, label, { color: "muted", anchor: "middle", size: 11 }),
  ]);
}

function groupName(name: string, y: number): string {
  return text(LEFT - 14, y, name, { anchor: "end", bold: true });
}

const STRIP = 22;

/** A point a replay, and the aim. */
function plotRatios(summaries: readonly ExampleSummary[]): string | undefined {
  const strips = stripsOf(summaries).filter(({ summary }) => summary.ratio !== undefined);
  if (strips.length === 0) return undefined;
  const ticks = linearTicks(Math.max(1, ...strips.map(({ summary }) => summary.ratio!.max)), 5);
  const scale = (value: number) => LEFT + value / ticks.at(-1)! * (WIDTH - LEFT - RIGHT);
  const height = TOP + strips.length * STRIP + GROUP_GAP + BOTTOM;
  const aim = scale(REPLAY_RATIO_AIM);
  const body = [
    ...legend(MARGIN, 48, [["record", "a replay without load"], [
      "stockRecord",
      "a replay, every core kept busy",
    ], ["text", "median"]]),
    ...axis(ticks.map((tick) => [scale(tick), `${tick}`]), height),
    line(aim, TOP, aim, height - BOTTOM, "bad", { width: 1.5, dashed: true }),
    text(aim + 5, TOP + 8, `aim: at most ${REPLAY_RATIO_AIM}`, { color: "muted", size: 11 }),
  ];
  for (const [i, { label, summary }] of strips.entries()) {
    const y = TOP + GROUP_GAP + i * STRIP + STRIP / 2;
    const color = summary.load === "idle" ? "record" : "stockRecord";
    body.push(groupName(label, y + 4));
    for (const { ratio } of summary.samples.flatMap(timedReplayOf)) {
      body.push(circle(scale(ratio), y, 4, color, { hint: ratio.toFixed(2), opacity: 0.6 }));
    }
    const x = scale(summary.ratio!.median);
    body.push(line(x, y - 8, x, y + 8, "text", { width: 2 }));
    body.push(text(WIDTH - RIGHT + 14, y + 4, summary.ratio!.median.toFixed(2)));
  }
  const title = "Time of a replay of the whole cluster / time of its recording";
  return svgDocument(WIDTH, height, title, body);
}

const CELL = 11;
const CELL_STEP = 13;
const RECORDING_GAP = 5;

/** A square a replay, those of a recording together; a recording that failed is a cross. */
function plotSuccess(summaries: readonly ExampleSummary[]): string | undefined {
  const strips = stripsOf(summaries);
  if (strips.length === 0) return undefined;
  const body = legend(MARGIN, 48, [["good", "a replay that was identical"], [
    "bad",
    "× one that was not, or a recording that failed",
  ]]);
  let y = TOP + 4;
  for (const { label, summary } of strips) {
    const { good, of } = summary.identical;
    body.push(groupName(label, y + CELL - 1));
    body.push(text(WIDTH - RIGHT + 14, y + CELL - 1, `${good} of ${of}`));
    let x = LEFT;
    for (const sample of summary.samples) {
      const cells = sample.replays.map(({ identical }) => identical);
      if (!isGood(sample) && cells.every((good) => good)) cells.unshift(false);
      if (x + cells.length * CELL_STEP > WIDTH - RIGHT && x > LEFT) {
        x = LEFT;
        y += CELL_STEP + 2;
      }
      for (const good of cells) {
        body.push(rect(x, y, CELL, CELL, good ? "good" : "bad"));
        if (!good) {
          body.push(
            text(x + CELL / 2, y + CELL - 1.5, "×", { color: "surface", anchor: "middle" }),
          );
        }
        x += CELL_STEP;
      }
      x += RECORDING_GAP;
    }
    y += CELL_STEP + GROUP_GAP / 2;
  }
  return svgDocument(WIDTH, y + MARGIN, "Replays identical to their recordings", body);
}

function stripsOf(summaries: readonly ExampleSummary[]) {
  return summaries.flatMap(({ example, loads }) =>
    loads.map((summary) => ({
      label: summary.load === "idle" ? example : `${example}, busy`,
      summary,
    }))
  );
}

function seconds(value: number): string {
  return `${value.toFixed(1)} s`;
}
