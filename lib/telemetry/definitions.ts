/**
 * Every metric of both roles: name, type, labels, meaning. `METRICS.md` is the same for a reader, and a
 * test holds the two together. Names follow Prometheus: counters end in `_total`, units are base units.
 *
 * A label's values are either listed here, or `"named"`: names that clusterrr gave or checked (runs, VMs,
 * hosts), of which there are as many as there are at the moment, because whoever removes a run or a host
 * removes its series. Nothing that a peer says freely becomes a label.
 */

/** What a label may be: names, or one of a list. */
export type LabelKind = "named" | readonly string[];
export type LabelKinds = Readonly<Record<string, LabelKind>>;

/** The labels of one series. */
export type LabelsOf<L extends LabelKinds> = {
  readonly [K in keyof L]: L[K] extends readonly (infer Value)[] ? Value : string;
};

export interface MetricDefinition<
  T extends MetricType = MetricType,
  L extends LabelKinds = LabelKinds,
> {
  readonly type: T;
  readonly name: string;
  readonly help: string;
  readonly labels: L;
  /** Upper bounds of a histogram. */
  readonly buckets?: readonly number[];
}
export type MetricType = "counter" | "gauge" | "histogram";

function counter<const L extends LabelKinds = Record<never, never>>(
  name: `${string}_total`,
  help: string,
  labels: L = {} as L,
): MetricDefinition<"counter", L> {
  return { type: "counter", name, help, labels };
}

function gauge<const L extends LabelKinds = Record<never, never>>(
  name: string,
  help: string,
  labels: L = {} as L,
): MetricDefinition<"gauge", L> {
  return { type: "gauge", name, help, labels };
}

function histogram<const L extends LabelKinds = Record<never, never>>(
  name: string,
  help: string,
  buckets: readonly number[],
  labels: L = {} as L,
): MetricDefinition<"histogram", L> {
  return { type: "histogram", name, help, labels, buckets };
}

export const ROLES = ["coordinator", "agent"] as const;
export type Role = typeof ROLES[number];

/** What a run can be doing. */
export const RUN_PHASES = [
  "preparing",
  "armed",
  "running",
  "quiescing",
  "sealing",
  "replaying",
  "aborting",
] as const;
export type RunPhase = typeof RUN_PHASES[number];

/** How a run ended. */
export const RUN_OUTCOMES = ["completed", "failed", "aborted"] as const;

const run = { run: "named" } as const;
const vm = { run: "named", vm: "named" } as const;
const peer = { run: "named", host: "named" } as const;
const ways = ["in", "out"] as const;

/** What both roles have. */
export const COMMON_METRICS = {
  buildInfo: gauge("clusterrr_build_info", "1; the labels say what runs", {
    version: "named",
    role: ROLES,
  }),
  runs: gauge("clusterrr_runs", "Runs that this process takes part in", { phase: RUN_PHASES }),
  seriesRefused: counter(
    "clusterrr_metric_series_refused_total",
    "Values not shown because their metric has too many series already",
  ),
  processCpu: counter("process_cpu_seconds_total", "CPU time of this process, without its QEMUs"),
  processMemory: gauge(
    "process_resident_memory_bytes",
    "Resident memory of this process, without its QEMUs",
  ),
  processStart: gauge("process_start_time_seconds", "When this process started, Unix time"),
} as const;

/** What an agent has besides. */
export const AGENT_METRICS = {
  framesSent: counter("clusterrr_frames_sent_total", "Frames that left the VM's NIC", vm),
  framesReceived: counter(
    "clusterrr_frames_received_total",
    "Frames in the VM's log: references, whole, or whole because they could not be identified",
    { ...vm, kind: ["internal", "external", "unmatched"] },
  ),
  instructions: counter("clusterrr_guest_instructions_total", "Instructions recorded", vm),
  rrLogBytes: counter("clusterrr_rr_log_bytes_total", "Bytes that QEMU logged", vm),
  storedBytes: counter("clusterrr_stored_bytes_total", "Bytes of the hybrid log on disk", vm),
  checksTaken: counter("clusterrr_checks_taken_total", "Checks recorded", vm),
  framesDelivered: counter(
    "clusterrr_recorder_frames_delivered_total",
    "Frames that the recorder saw enter a tap queue",
    run,
  ),
  recorderLost: counter(
    "clusterrr_recorder_events_lost_total",
    "Events that found the recorder's ring full; their frames are stored whole",
    { ...run, event: ["send", "receive"] },
  ),
  tapDropped: counter(
    "clusterrr_tap_frames_dropped_total",
    "Frames that a full tap queue dropped after the recorder had seen them",
    run,
  ),
  tunnelFrames: counter(
    "clusterrr_tunnel_frames_total",
    "Frames through the tunnel between hosts while recording",
    { ...run, direction: ways },
  ),
  tunnelForeign: counter(
    "clusterrr_tunnel_foreign_frames_dropped_total",
    "Frames in the tunnel that are not of this run",
    run,
  ),
  tunnelFailed: counter(
    "clusterrr_tunnel_failed_frames_dropped_total",
    "Frames to or from other hosts whose trailer could not be added or cut off: they are lost",
    { ...run, direction: ways },
  ),
  linkFrames: counter(
    "clusterrr_link_frames_total",
    "Frames over a link; of those out, the ones sent again too",
    { ...peer, direction: ways },
  ),
  linkBytes: counter("clusterrr_link_bytes_total", "Bytes of those frames", {
    ...peer,
    direction: ways,
  }),
  linkRetransmissions: counter(
    "clusterrr_link_retransmissions_total",
    "Frames sent again over a link",
    peer,
  ),
  linkReconnects: counter("clusterrr_link_reconnects_total", "Times a link was set up anew", peer),
  linkUnacknowledged: gauge(
    "clusterrr_link_unacknowledged_bytes",
    "Bytes kept until the peer acknowledges them",
    peer,
  ),
  linkRoundTrip: gauge(
    "clusterrr_link_round_trip_seconds",
    "From a ping to its answer, the last one measured",
    peer,
  ),
  replayFrames: counter(
    "clusterrr_replay_frames_total",
    "Frames sent again and equal to the recording",
    vm,
  ),
  replayProgress: gauge(
    "clusterrr_replay_progress_ratio",
    "About what part of its instructions the VM has executed, 0 to 1",
    vm,
  ),
  replayLag: gauge("clusterrr_replay_lag_epochs", "Epochs behind the fastest VM of the run", vm),
  replayWindow: gauge(
    "clusterrr_replay_window_epoch",
    "The epoch of the slowest and of the fastest VM of the run",
    { ...run, bound: ["slowest", "fastest"] },
  ),
  checksCompared: counter(
    "clusterrr_checks_compared_total",
    "Checks of the recording that a replay compared",
    vm,
  ),
  checksFailed: counter("clusterrr_checks_failed_total", "Those that differed", vm),
  divergences: counter("clusterrr_divergences_total", "Replays that ended with a divergence"),
} as const;

/** What a coordinator has besides. */
export const COORDINATOR_METRICS = {
  hostsRegistered: gauge("clusterrr_hosts_registered", "Hosts that have joined"),
  hostsConnected: gauge("clusterrr_hosts_connected", "Hosts whose agent is connected"),
  hostUp: gauge("clusterrr_host_up", "1 while the host's agent is connected, else 0", {
    host: "named",
  }),
  connectionsRefused: counter(
    "clusterrr_connections_refused_total",
    "Connections that were refused: without a valid certificate, or no clusterrr's",
  ),
  runsEnded: counter("clusterrr_runs_ended_total", "Runs that ended, and how", {
    outcome: RUN_OUTCOMES,
  }),
  epochsTicked: counter("clusterrr_epochs_ticked_total", "Epochs begun on every host", run),
  tickDuration: histogram(
    "clusterrr_tick_duration_seconds",
    "From the start of an epoch until every host has ticked",
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5],
  ),
} as const;
