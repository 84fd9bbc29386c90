import assert from "node:assert/strict";
import { plotsOf } from "./plots.ts";
import { renderMarkdown } from "./report.ts";
import { recording, replay, results, stock } from "./results_fixture.ts";
import { failureOf, summarize } from "./summary.ts";

const timed = (replayS: number) => ({ replayS, use: { cpuS: 1, rssBytesMax: 1 } });

const GOOD = results(
  [
    recording("trio", 10, [replay(6), replay(8)]),
    recording("trio", 20, [replay(11), replay(12)], { replayTime: timed(8) }),
    recording("trio", 40, [replay(30)], { load: "full", replayTime: timed(30) }),
  ],
  [stock("trio")],
);

/** The row of the table below `title` that begins with `first`. */
function rowOf(markdown: string, title: string, first: string): string[] {
  const section = markdown.split(`## ${title}\n`)[1]!.split("\n## ")[0]!;
  const line = section.split("\n").find((line) => line.startsWith(`| ${first} |`));
  assert.ok(line !== undefined, `${title}: ${first}`);
  return line.split("|").slice(1, -1).map((cell) => cell.trim());
}

Deno.test("figures are medians with their spread, ratios those of the timed replay to its recording", () => {
  const [trio] = summarize(GOOD);
  const [idle, full] = trio!.loads;
  assert.deepEqual(idle!.recordS, { median: 15, min: 10, max: 20 });
  assert.deepEqual(idle!.replayS, { median: 6.5, min: 5, max: 8 });
  assert.deepEqual(idle!.verifyS, { median: 9.5, min: 6, max: 12 });
  assert.deepEqual(idle!.ratio, { median: 0.45, min: 0.4, max: 0.5 });
  assert.deepEqual(idle!.identical, { good: 4, of: 4 });
  assert.deepEqual(full!.ratio, { median: 0.75, min: 0.75, max: 0.75 });
  assert.equal(failureOf(trio!), undefined);
});

Deno.test("the report sets ours beside stock QEMU's", () => {
  const markdown = renderMarkdown(GOOD, ["times.svg"]);
  assert.deepEqual(rowOf(markdown, "Times", "trio"), [
    ...["trio", "8.0", "9.0", "15.0 (10.0–20.0)", "1.88", "1.67", "30.0"],
    ...["6.5 (5.0–8.0)", "0.45 (0.40–0.50)", "0.22", "9.5 (6.0–12.0)"],
  ]);
  // Stock QEMU ran without load: it is not compared with runs under load.
  assert.deepEqual(rowOf(markdown, "Times", "trio, busy").slice(1, 4), ["–", "–", "40.0"]);
  assert.deepEqual(rowOf(markdown, "Sizes", "trio"), [
    ...["trio", "10.0 MB", "800 kB", "480 kB", "1/20.8", "1/1.7", "9.00 MB"],
  ]);
  assert.deepEqual(rowOf(markdown, "Success", "trio").slice(2), [
    ...["idle", "2 of 2", "4 of 4", "0", "0"],
  ]);
  assert.equal(markdown.includes("What went wrong"), false);
  assert.ok(markdown.includes("![times](times.svg)"));
});

Deno.test("a replay that differs fails the example, names its recording, and its time does not count", () => {
  const bad = results([
    recording("trio", 10, [replay(6), replay(1, "VM left, frame 7")], { kept: "/out/trio-idle-1" }),
  ]);
  const [trio] = summarize(bad);
  assert.deepEqual(trio!.loads[0]!.verifyS, { median: 6, min: 6, max: 6 });
  assert.deepEqual(trio!.loads[0]!.identical, { good: 1, of: 2 });
  assert.match(failureOf(trio!)!, /VM left, frame 7.*kept in \/out\/trio-idle-1/);
  assert.match(
    renderMarkdown(bad, []),
    /## What went wrong\n- trio, idle: verification: VM left, frame 7/,
  );
});

Deno.test("a timed replay that fails fails the example, and has no time", () => {
  const replayTime = { failure: "VM left, frame 7" };
  const [trio] = summarize(results([recording("trio", 10, [replay(6)], { replayTime })]));
  assert.equal(trio!.loads[0]!.replayS, undefined);
  assert.match(failureOf(trio!)!, /idle: replay: VM left, frame 7/);
});

Deno.test("guests that did not do their work fail an example, unless it may fail", () => {
  const unfinishedWork = ["VM a ended with status 1"];
  const of = (mayFail: boolean) =>
    summarize(results([recording("lock", 5, [replay(3)], { mayFail, unfinishedWork })]))[0]!;
  assert.match(failureOf(of(false))!, /status 1/);
  assert.equal(failureOf(of(true)), undefined);
  assert.deepEqual(of(true).loads[0]!.worked, { good: 0, of: 1 });
  const markdown = renderMarkdown(
    results([recording("lock", 5, [replay(3)], { mayFail: true, unfinishedWork })]),
    [],
  );
  assert.equal(rowOf(markdown, "Success", "lock")[3], "0 of 1 (may fail)");
});

Deno.test("a recording that did not come about is a failure", () => {
  const { recorded: _, ...none } = recording("trio", 1, []);
  const [trio] = summarize(results([{ ...none, failure: "QEMU of VM a\nended" }]));
  assert.match(failureOf(trio!)!, /no recording: QEMU of VM a/);
  assert.deepEqual(trio!.loads[0]!.recorded, { good: 0, of: 1 });
});

Deno.test("stock QEMU's replay that does not end is said, not averaged", () => {
  const { consolesEqual: _, ...ended } = stock("trio");
  const rounds = [ended, { ...ended, replay: { boundS: 180 } }];
  const of = (samples: typeof rounds) =>
    rowOf(
      renderMarkdown(results([recording("trio", 10, [replay(6)])], samples), []),
      "Times",
      "trio",
    );
  assert.equal(of([rounds[1]!])[6], "1 not ended after 180 s");
  assert.equal(of([rounds[1]!])[9], "–");
  assert.equal(of(rounds)[6], "30.0; 1 not ended after 180 s; 0 of 1 equal");
});

Deno.test("stock QEMU: a replay that shows something else has no time, and a failed run fails the example", () => {
  const different = { ...stock("trio"), consolesEqual: false };
  const failed = { ...stock("trio"), record: { failure: "QEMU of VM a ended" } };
  const [trio] = summarize(results([recording("trio", 10, [replay(6)])], [different, failed]));
  assert.deepEqual(trio!.stock!.replayS, { median: 30, min: 30, max: 30 });
  assert.equal(trio!.stock!.equal.good, 1);
  assert.match(failureOf(trio!)!, /^stock QEMU: record: QEMU of VM a ended$/);
});

Deno.test("pictures: one of each kind, a mark for each replay of its kind", () => {
  const plots = plotsOf(summarize(GOOD));
  assert.deepEqual([...plots.keys()], ["times.svg", "ratio.svg", "sizes.svg", "success.svg"]);
  const count = (name: string, pattern: RegExp) => [...plots.get(name)!.matchAll(pattern)].length;
  const legendCells = { good: 1, bad: 1 };
  assert.equal(count("success.svg", /<rect class="good"/g), 5 + legendCells.good);
  assert.equal(count("success.svg", /<rect class="bad"/g), legendCells.bad);
  assert.equal(count("ratio.svg", /<circle /g), 3);
  for (const plot of plots.values()) assert.equal(/NaN|Infinity|undefined/.test(plot), false);
});

Deno.test("pictures of a piece without stock QEMU and without replays", () => {
  const { replayTime: _, ...unreplayed } = recording("trio", 10, []);
  const plots = plotsOf(summarize(results([unreplayed])));
  assert.deepEqual([...plots.keys()], ["times.svg", "sizes.svg", "success.svg"]);
  for (const plot of plots.values()) assert.equal(/NaN|Infinity|undefined/.test(plot), false);
});
