import assert from "node:assert/strict";
import type { HostsReplay, HostsRound } from "./hosts.ts";
import { agentsRows, hostsRows, linkRows } from "./many_hosts_report.ts";
import type { Row } from "./report.ts";
import type { AgentsRun } from "./simulated_agents.ts";

function round(manyS: number, oneS: number, ok = true): HostsRound {
  const record = (recordS: number) => ({
    wholeS: recordS + 1,
    use: { cpuS: 1, rssBytesMax: 100e6 },
    report: {
      id: "0123456789abcdef",
      name: "trio",
      cluster: "trio",
      createdAt: "2026-01-01T00:00:00.000Z",
      endedBy: "poweroff" as const,
      complete: true,
      recordS,
      placement: [],
      vms: [],
    },
  });
  const replay = (replayS: number, ok = true): HostsReplay => ({
    ok,
    replayS,
    wholeS: replayS + 1,
    agentsCpuS: 1,
  });
  return {
    recordMany: record(11),
    recordOne: record(10),
    replayMany: replay(ok ? manyS : NaN, ok),
    replayOne: replay(oneS),
    replayPlain: replay(oneS),
  };
}

function run(agents: number, changed: Partial<AgentsRun> = {}): AgentsRun {
  return {
    agents,
    joinS: 1,
    joinCpuMs: 10 * agents,
    registerS: 1,
    registerCpuMs: 5 * agents,
    registerRetries: 0,
    idleS: 10,
    idleCpuMs: agents,
    rssBytesBefore: 100e6,
    rssBytes: 100e6 + 100e3 * agents,
    recordings: 1,
    startS: 1,
    startCpuMs: 3 * agents,
    recordS: 3,
    recordCpuMs: 9 * agents,
    rssBytesRecording: 200e6,
    ticks: 12 * agents,
    ...changed,
  };
}

function rowNamed(rows: readonly Row[], text: string): Row {
  const found = rows.find(({ name }) => name.includes(text));
  assert.ok(found, `a row about "${text}"`);
  return found;
}

Deno.test("three hosts may take 1.3 times as long as one", () => {
  const verdict = (manyS: number) => rowNamed(hostsRows(3, [round(manyS, 10)]), "replay over");
  assert.deepEqual([verdict(13).ratio, verdict(13).verdict], ["1.30", "PASS"]);
  assert.deepEqual([verdict(13.1).ratio, verdict(13.1).verdict], ["1.31", "FAIL"]);
});

Deno.test("a replay that differs is counted, and its round's times are not", () => {
  const rows = hostsRows(3, [round(12, 10), round(40, 10, false), round(12, 10)]);
  assert.equal(rowNamed(rows, "replay over").ratio, "1.20");
  const identical = rowNamed(rows, "identical");
  assert.deepEqual([identical.ours, identical.verdict], ["8 of 9", "FAIL"]);
});

Deno.test("without a good round there is no ratio, and it fails", () => {
  const rows = hostsRows(3, [round(12, 10, false)]);
  assert.ok(rows.every(({ name }) => !name.startsWith("replay over")));
  assert.equal(rowNamed(rows, "identical").verdict, "FAIL");
});

Deno.test("a link is judged by what it adds at the median", () => {
  const link = [...Array(90).fill(0.5), ...Array(10).fill(20)];
  const row = rowNamed(linkRows({ link, queue: Array(100).fill(0.001) }), "median");
  assert.deepEqual([row.ratio, row.verdict], ["+0.50 ms", "PASS"]);
  const slow = rowNamed(linkRows({ link: [0.6, 0.6], queue: [0.01, 0.01] }), "median");
  assert.equal(slow.verdict, "FAIL");
  assert.equal(rowNamed(linkRows({ link, queue: link }), "99th").ours, "20.00 ms");
});

Deno.test("each agent must cost the same among many", () => {
  const rows = agentsRows([run(1000), run(10), run(100)]);
  const judged = rows.filter(({ verdict }) => verdict !== "");
  assert.equal(judged.length, 6);
  assert.ok(judged.every(({ ratio, verdict }) => ratio === "1.00" && verdict === "PASS"));
});

Deno.test("what grows with the number of agents fails", () => {
  const rows = agentsRows([run(100), run(1000, { idleCpuMs: 10_000 })]);
  const row = rowNamed(rows, "heartbeats: CPU");
  assert.deepEqual([row.ratio, row.verdict], ["10.00", "FAIL"]);
  assert.equal(rowNamed(rows, "of 100, memory").verdict, "PASS");
});

Deno.test("few agents alone judge nothing", () => {
  assert.ok(agentsRows([run(10), run(30)]).every(({ verdict }) => verdict === ""));
  assert.deepEqual(agentsRows([]), []);
});
