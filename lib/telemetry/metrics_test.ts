import assert from "node:assert/strict";
import { AGENT_METRICS, COMMON_METRICS, COORDINATOR_METRICS } from "./definitions.ts";
import type { MetricDefinition } from "./definitions.ts";
import { createAgentMetrics, createCoordinatorMetrics, SERIES_MAX } from "./metrics.ts";
import { showLink, showRecording, showReplay } from "./role_values.ts";

/** The values in an exposition, by series; comments away. */
function valuesOf(text: string): Record<string, number> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(lines.map((line) => {
    const at = line.lastIndexOf(" ");
    return [line.slice(0, at), Number(line.slice(at + 1))];
  }));
}

const RECORDING = {
  vms: [{
    number: 1,
    name: "left",
    icount: 5_000_000_000,
    rrLogBytes: 4_000_000,
    framesSent: 120,
    framesInternal: 70,
    framesExternal: 8,
    framesUnmatched: 2,
    checks: 3,
    ended: "no",
  }],
  storedBytes: new Map([[1, 165_000]]),
  recorder: { sent: 120n, delivered: 81n, lostSends: 1n, lostReceives: 4n },
  skippedDeliveries: 1,
} as const;

Deno.test("metrics: a recording's counters come out, are overwritten, and go with the run", async () => {
  const metrics = createAgentMetrics("1.2.3");
  const before = await metrics.text();
  showRecording(metrics, "r1", RECORDING);
  showRecording(metrics, "r2", RECORDING);
  showRecording(metrics, "r1", { ...RECORDING, skippedDeliveries: 9 });
  const values = valuesOf(await metrics.text());
  assert.equal(values['clusterrr_frames_sent_total{run="r1",vm="left"}'], 120);
  assert.equal(values['clusterrr_guest_instructions_total{run="r1",vm="left"}'], 5e9);
  const received = 'clusterrr_frames_received_total{run="r1",vm="left",kind=';
  assert.equal(values[`${received}"internal"}`], 70);
  assert.equal(values[`${received}"external"}`], 8);
  assert.equal(values[`${received}"unmatched"}`], 2);
  assert.equal(values['clusterrr_stored_bytes_total{run="r1",vm="left"}'], 165_000);
  assert.equal(values['clusterrr_recorder_events_lost_total{run="r1",event="receive"}'], 4);
  assert.equal(values['clusterrr_tap_frames_dropped_total{run="r1"}'], 9);
  assert.equal(values['clusterrr_tap_frames_dropped_total{run="r2"}'], 1);

  metrics.removeRun("r1");
  const left = await metrics.text();
  assert(!left.includes('run="r1"') && left.includes('run="r2"'));
  metrics.removeRun("r2");
  const process = (text: string) => text.replaceAll(/^process_.*$/gm, "");
  assert.equal(process(await metrics.text()), process(before));
});

Deno.test("metrics: frames between hosts, and those that were dropped", async () => {
  const metrics = createAgentMetrics("1");
  showRecording(metrics, "alone", RECORDING);
  const tunnel = { out: 90n, in: 60n, foreign: 5n, failedOut: 2n, failedIn: 3n };
  showRecording(metrics, "r", { ...RECORDING, recorder: { ...RECORDING.recorder, tunnel } });
  const values = valuesOf(await metrics.text());
  const shown = Object.entries(values).filter(([series]) => series.includes("_tunnel_"));
  assert.deepEqual(Object.fromEntries(shown), {
    'clusterrr_tunnel_frames_total{run="r",direction="out"}': 90,
    'clusterrr_tunnel_frames_total{run="r",direction="in"}': 60,
    'clusterrr_tunnel_foreign_frames_dropped_total{run="r"}': 5,
    'clusterrr_tunnel_failed_frames_dropped_total{run="r",direction="out"}': 2,
    'clusterrr_tunnel_failed_frames_dropped_total{run="r",direction="in"}': 3,
  });
});

Deno.test("metrics: the lag of a replay counts VMs of other hosts, too", async () => {
  const metrics = createAgentMetrics("1");
  const vms = [
    { name: "a", percent: 50, framesMatched: 7 },
    { name: "b", percent: 100, framesMatched: 9 }, // has ended
  ];
  showReplay(metrics, "r", { vms, epochs: new Map([["a", 3], ["elsewhere", 8]]) });
  const values = valuesOf(await metrics.text());
  assert.equal(values['clusterrr_replay_lag_epochs{run="r",vm="a"}'], 5);
  assert.equal(values['clusterrr_replay_lag_epochs{run="r",vm="b"}'], 0);
  assert.equal(values['clusterrr_replay_lag_epochs{run="r",vm="elsewhere"}'], undefined);
  assert.equal(values['clusterrr_replay_window_epoch{run="r",bound="slowest"}'], 3);
  assert.equal(values['clusterrr_replay_window_epoch{run="r",bound="fastest"}'], 8);
  assert.equal(values['clusterrr_replay_progress_ratio{run="r",vm="a"}'], 0.5);
  showReplay(metrics, "r", { vms, epochs: new Map() }); // every VM has ended
  assert.equal(valuesOf(await metrics.text())['clusterrr_replay_lag_epochs{run="r",vm="a"}'], 0);
});

Deno.test("metrics: a link's counters, with a removed host's series gone", async () => {
  const metrics = createAgentMetrics("1");
  const link = {
    framesOut: 10,
    bytesOut: 1000,
    framesIn: 4,
    bytesIn: 400,
    retransmissions: 2,
    reconnects: 1,
    unacknowledgedBytes: 300,
  };
  showLink(metrics, "r", "b", { ...link, roundTripMs: undefined });
  showLink(metrics, "r", "c", { ...link, roundTripMs: 0.5 });
  const values = valuesOf(await metrics.text());
  assert.equal(values['clusterrr_link_bytes_total{run="r",host="b",direction="out"}'], 1000);
  assert.equal(values['clusterrr_link_retransmissions_total{run="r",host="b"}'], 2);
  assert.equal(values['clusterrr_link_round_trip_seconds{run="r",host="b"}'], undefined);
  assert.equal(values['clusterrr_link_round_trip_seconds{run="r",host="c"}'], 0.0005);
  metrics.removeHost("b");
  const text = await metrics.text();
  assert(!text.includes('host="b"') && text.includes('host="c"'));
});

Deno.test("metrics: a coordinator's runs, hosts, ticks and errors", async () => {
  const metrics = createCoordinatorMetrics("1.2.3");
  metrics.setRunPhases(["running", "running", "sealing"]);
  metrics.setRunPhases(["running", "replaying"]);
  metrics.hostsConnected.set({}, 3);
  metrics.hostUp.set({ host: "a" }, 1);
  metrics.connectionsRefused.add({});
  metrics.connectionsRefused.add({});
  metrics.runsEnded.add({ outcome: "failed" });
  metrics.epochsTicked.set({ run: "r" }, 12);
  for (const seconds of [0.0005, 0.003, 9]) metrics.tickDuration.observe({}, seconds);
  const values = valuesOf(await metrics.text());
  assert.equal(values['clusterrr_build_info{version="1.2.3",role="coordinator"}'], 1);
  assert.equal(values['clusterrr_runs{phase="running"}'], 1);
  assert.equal(values['clusterrr_runs{phase="sealing"}'], 0);
  assert.equal(values["clusterrr_hosts_connected"], 3);
  assert.equal(values["clusterrr_connections_refused_total"], 2);
  assert.equal(values['clusterrr_runs_ended_total{outcome="failed"}'], 1);
  assert.equal(values['clusterrr_runs_ended_total{outcome="aborted"}'], 0);
  assert.equal(values['clusterrr_epochs_ticked_total{run="r"}'], 12);
  assert.equal(values['clusterrr_tick_duration_seconds_bucket{le="0.005"}'], 2);
  assert.equal(values["clusterrr_tick_duration_seconds_count"], 3);
  assert(values["process_resident_memory_bytes"]! > 1e6);
  assert(values["process_cpu_seconds_total"]! > 0);
  assert(Math.abs(values["process_start_time_seconds"]! - Date.now() / 1000) < 3600);
});

Deno.test("metrics: labels that a definition does not list are refused, and too many series", async () => {
  const metrics = createAgentMetrics("1");
  const coordinator = createCoordinatorMetrics("1");
  assert.throws(
    () => coordinator.runsEnded.add({ outcome: "x" as "failed" }),
    /none of its labels/,
  );
  assert.throws(() => metrics.framesSent.set({ run: "r" } as never, 1), /vm="undefined"/);
  for (let i = 0; i < SERIES_MAX + 2; i++) metrics.framesSent.set({ run: `r${i}`, vm: "a" }, i);
  metrics.framesSent.set({ run: "r0", vm: "a" }, 77); // one that is there
  const values = valuesOf(await metrics.text());
  assert.equal(values["clusterrr_metric_series_refused_total"], 2);
  assert.equal(values['clusterrr_frames_sent_total{run="r0",vm="a"}'], 77);
  assert.equal(values[`clusterrr_frames_sent_total{run="r${SERIES_MAX}",vm="a"}`], undefined);
  metrics.removeRun("r0");
  metrics.framesSent.set({ run: "new", vm: "a" }, 5);
  assert((await metrics.text()).includes('run="new"'));
});

const DOCUMENT = await Deno.readTextFile(new URL("METRICS.md", import.meta.url));

/** The rows of the table under a heading: name, type, labels, meaning. */
function rowsUnder(heading: string): string[][] {
  const section = DOCUMENT.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  assert(section !== undefined, `METRICS.md has no "## ${heading}"`);
  return section.split("\n").filter((line) => line.startsWith("| `"))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
}

function rowOf({ name, type, labels, help }: MetricDefinition): string[] {
  const shown = Object.entries(labels).map(([label, kind]) =>
    kind === "named" ? `\`${label}\`` : `\`${label}\`: ${kind.join(", ")}`
  );
  return [`\`${name}\``, type, shown.join("; ") || "-", help];
}

for (
  const [heading, definitions] of [
    ["Both roles", COMMON_METRICS],
    ["Agent", AGENT_METRICS],
    ["Coordinator", COORDINATOR_METRICS],
  ] as const
) {
  Deno.test(`METRICS.md lists what there is: ${heading}`, () => {
    assert.deepEqual(rowsUnder(heading), Object.values(definitions).map(rowOf));
  });
}

for (
  const [heading, metrics] of [
    ["Agent", createAgentMetrics("1")],
    ["Coordinator", createCoordinatorMetrics("1")],
  ] as const
) {
  Deno.test(`METRICS.md lists what is served: ${heading}`, async () => {
    const served = [...(await metrics.text()).matchAll(/^# TYPE (\S+) (\S+)$/gm)]
      .map(([, name, type]) => `${name} ${type}`);
    const listed = [...rowsUnder("Both roles"), ...rowsUnder(heading)]
      .map(([name, type]) => `${name!.replaceAll("`", "")} ${type}`);
    assert.deepEqual(served.toSorted(), listed.toSorted());
  });
}

Deno.test("metrics: names and labels follow Prometheus' conventions", () => {
  const all = [COMMON_METRICS, AGENT_METRICS, COORDINATOR_METRICS]
    .flatMap((each) => Object.values(each) as MetricDefinition[]);
  assert.equal(new Set(all.map(({ name }) => name)).size, all.length);
  for (const { name, type, labels } of all) {
    assert.match(name, /^(clusterrr|process)_[a-z]+(_[a-z]+)*$/);
    assert.equal(name.endsWith("_total"), type === "counter", name);
    assert.doesNotMatch(name, /_(ms|milliseconds|kib|mib|percent)(_|$)/);
    for (const label of Object.keys(labels)) assert.match(label, /^[a-z]+$/);
  }
});
