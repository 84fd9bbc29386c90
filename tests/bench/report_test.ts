import assert from "node:assert/strict";
import type { RecordReport, ReplayReport, VerifyReport } from "../../lib/cli/ports.ts";
import { paint } from "../../lib/cli/terminal.ts";
import type { CodecRun } from "./codec.ts";
import type { Results, Round, StockRuns } from "./measures.ts";
import type { OtherProfile, PeerRun } from "./peers.ts";
import { renderReport, type Row, rowsOf } from "./report.ts";

function peerRun(runS: number, overBound: string[] = []): PeerRun {
  return { runS, wholeS: runS + 1, overBound, consoles: new Map() };
}

/** A recording of two VMs; `unmatched` frames of one of them were stored whole. */
function recordReport(recordS: number, stored: number, unmatched: number): RecordReport {
  const vm = (name: string, whole: number) => ({
    name,
    instructions: 1e9,
    bytes: { rrLog: 10e6, hybrid: 1e6, stored: stored / 2 },
    frames: { internal: 1000, external: 5, stored: 5 + whole, sent: 1000 },
    checks: 2,
  });
  return {
    id: "00",
    name: "duo",
    directory: "/none",
    endedBy: "poweroff",
    complete: true,
    recordS,
    vms: [vm("a", 0), vm("b", unmatched)],
  };
}

interface Numbers {
  readonly plainS?: number;
  readonly recordS?: number;
  readonly replayS?: number;
  readonly stockReplay?: PeerRun;
  readonly stockEqual?: boolean;
  readonly storedBytes?: number;
  readonly unmatched?: number;
  readonly replayed?: boolean;
}

const use = { cpuS: 1, rssBytesMax: 100e6 };

/** A round in which every target is met, but for what `numbers` say. */
function round(numbers: Numbers = {}): Round {
  const { plainS = 10, recordS = 10.5, replayS = 5, storedBytes = 1e6 } = numbers;
  const replay: ReplayReport = {
    ok: numbers.replayed ?? true,
    vms: [],
    replayS,
    recordS,
    queueBytesMax: 0,
  };
  return {
    plain: peerRun(plainS),
    record: { report: recordReport(recordS, storedBytes, numbers.unmatched ?? 0), wholeS: 12, use },
    replay: { report: replay, wholeS: 6, use },
    stock: {
      record: peerRun(10),
      logBytes: 20e6,
      replay: numbers.stockReplay ?? peerRun(25),
      equal: numbers.stockEqual ?? true,
    },
    stockOther: {},
  };
}

function codecRun(seconds: number): CodecRun {
  const rssBytes = { start: 60e6, quarter: 90e6, end: 91e6 };
  return { seconds, logBytes: 200e6, storedBytes: 5e6, events: 1, frames: 1, rssBytes };
}

function results(rounds: readonly Round[], codecS = 1): Results {
  return { rounds, codec: { bare: [codecRun(codecS)], hashed: [codecRun(3)] } };
}

function rowNamed(rows: readonly Row[], name: string): Row {
  const row = rows.find((each) => each.name.trim().startsWith(name));
  assert.ok(row, `no row ${name} among: ${rows.map((each) => each.name).join("; ")}`);
  return row;
}

function verdicts(rows: readonly Row[]): string[] {
  return rows.flatMap(({ verdict }) => verdict === "" ? [] : [verdict]);
}

Deno.test("targets that are met pass", () => {
  const rows = rowsOf(results([round(), round(), round()]));
  assert.deepEqual(new Set(verdicts(rows)), new Set(["PASS"]));
});

const MISSED: readonly [name: string, rounds: Results][] = [
  ["record / no record-replay", results([round({ recordS: 11.01 })])],
  ["stored / stock", results([round({ storedBytes: 1.34e6 })])],
  ["replay / record", results([round({ replayS: 7.4 })])],
  ["replay / stock", results([round({ replayS: 7.6, recordS: 20 })])],
  ["rr decode", results([round()], 2.01)],
  ["internal frames", results([round({ unmatched: 1 })])],
  ["replays identical", results([round(), round({ replayed: false })])],
];
for (const [name, missed] of MISSED) {
  Deno.test(`a target that is just missed fails: ${name}`, () => {
    assert.equal(rowNamed(rowsOf(missed), name).verdict, "FAIL");
  });
}

Deno.test("medians decide, and the rounds' own ratios are shown beside them", () => {
  const rounds = [round(), round({ recordS: 30 }), round({ recordS: 10 })];
  const row = rowNamed(rowsOf(results(rounds)), "record / no record-replay");
  assert.equal(row.ours, "10.50 s (10.00 s–30.00 s)");
  assert.equal(row.other, "10.00 s");
  assert.equal(row.ratio, "1.05");
  assert.equal(row.rounds, "1.00–3.00");
  assert.equal(row.verdict, "PASS");
});

Deno.test("sizes are shown as so many times smaller", () => {
  const row = rowNamed(rowsOf(results([round(), round({ storedBytes: 2e6 })])), "stored / stock");
  assert.equal(row.ratio, "1/13.3");
  assert.equal(row.rounds, "1/20.0–1/10.0");
  assert.equal(row.verdict, "FAIL");
});

Deno.test("a stock replay given up gives a bound: enough to pass, never to fail", () => {
  const givenUp = (replayS: number) => {
    const one = round({
      replayS,
      recordS: 100,
      stockReplay: peerRun(60, ["a"]),
      stockEqual: false,
    });
    return rowNamed(rowsOf(results([one])), "replay / stock");
  };
  const passed = givenUp(5);
  assert.deepEqual([passed.other, passed.ratio, passed.verdict], ["> 60.00 s", "< 0.08", "PASS"]);
  assert.equal(givenUp(30).verdict, "OPEN");
});

Deno.test("a stock replay that failed decides nothing", () => {
  const row = rowNamed(rowsOf(results([round({ stockEqual: false })])), "replay / stock");
  assert.equal(row.other, "failed in 1 of 1");
  assert.equal(row.verdict, "OPEN");
});

Deno.test("with another profile, stock QEMU is compared with; the target is that of the four arguments", () => {
  const other = { record: peerRun(42), logBytes: 100e6, replay: peerRun(50), equal: true };
  const named = (name: OtherProfile["name"], runs: StockRuns, row: string) =>
    rowNamed(rowsOf(results([{ ...round(), stockOther: { [name]: runs } }])), row);
  for (const [name, verdict] of [["four", "PASS"], ["bare", ""]] as const) {
    const row = named(name, other, "replay / replay");
    assert.deepEqual([row.ratio, row.verdict], ["0.10", verdict]);
  }
  assert.equal(named("bare", other, "record / record").ratio, "0.25");
  assert.equal(named("bare", other, "stored / logs").ratio, "1/100.0");
  const failed = named("four", { ...other, equal: false }, "replay / replay");
  assert.deepEqual([failed.other, failed.ratio, failed.verdict], ["failed in 1 of 1", "", "OPEN"]);
  const lost = rowsOf(results([round(), { ...round(), stockOther: { four: other } }]));
  assert.equal(rowNamed(lost, "replay / replay").verdict, "OPEN");
  assert.equal(rowNamed(lost, "against stock QEMU").ours, "failed in 1 of 2");
});

Deno.test("what a recording does not know is not taken for zero", () => {
  const one = round();
  const unknown = one.record.report.vms.map((vm) => ({
    ...vm,
    frames: { ...vm.frames, stored: null },
  }));
  const record = { ...one.record, report: { ...one.record.report, vms: unknown } };
  const row = rowNamed(rowsOf(results([{ ...one, record }])), "internal frames");
  assert.equal(row.verdict, "FAIL");
});

Deno.test("verifications are counted, idle and busy apart", () => {
  const report = (...good: boolean[]): VerifyReport => ({
    ok: good.every((ok) => ok),
    runs: good.length,
    vms: [],
    perRun: good.map((ok) => ({ ok, replayS: 5, recordS: 10, vms: [] })),
  });
  const verify = { idle: report(true, true), busy: report(true, false) };
  const rows = rowsOf({ ...results([round()]), verify });
  const idle = rowNamed(rows, "verified, machine idle");
  const busy = rowNamed(rows, "verified, every core busy");
  assert.deepEqual([idle.ours, idle.verdict], ["2 of 2", "PASS"]);
  assert.deepEqual([busy.ours, busy.verdict], ["1 of 2", "FAIL"]);
});

Deno.test("the table lines up and ends each judged line with its verdict", () => {
  const text = renderReport(rowsOf(results([round(), round({ recordS: 30 })])), paint(false));
  const lines = text.trimEnd().split("\n");
  const column = lines[0]!.indexOf("AGAINST");
  assert.ok(lines.every((line) => line.length <= column || line[column - 1] === " "));
  assert.match(lines[1]!, /^record .* ≤ 1\.10 {2}FAIL$/);
  assert.ok(lines.every((line) => !/\s$/.test(line)), "no blanks at line ends");
});
