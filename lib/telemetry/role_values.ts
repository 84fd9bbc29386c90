/**
 * Takes what the roles have counted over into the metrics of an agent. Called now and then (once a second
 * is plenty), never from the data path.
 */
import type { VmProgress } from "../roles/recording_agent.ts";
import type { RecorderCounters } from "../roles/ports.ts";
import type { VmNumber } from "../units.ts";
import type { AgentMetrics } from "./metrics.ts";

/** What a recording has counted on this host. */
export interface RecordingValues {
  /** `RecordingAgent.progress()`. */
  readonly vms: readonly VmProgress[];
  /** `HybridLogWriter.storedBytes` of each VM. */
  readonly storedBytes: ReadonlyMap<VmNumber, number>;
  /** `RecorderPort.counters()`. */
  readonly recorder: RecorderCounters;
  /** `RecordingAgent.skippedDeliveries`. */
  readonly skippedDeliveries: number;
}

export function showRecording(metrics: AgentMetrics, run: string, values: RecordingValues): void {
  for (const vm of values.vms) {
    const labels = { run, vm: vm.name };
    metrics.framesSent.set(labels, vm.framesSent);
    metrics.framesReceived.set({ ...labels, kind: "internal" }, vm.framesInternal);
    metrics.framesReceived.set({ ...labels, kind: "external" }, vm.framesExternal);
    metrics.framesReceived.set({ ...labels, kind: "unmatched" }, vm.framesUnmatched);
    metrics.instructions.set(labels, vm.icount);
    metrics.rrLogBytes.set(labels, vm.rrLogBytes);
    metrics.storedBytes.set(labels, values.storedBytes.get(vm.number) ?? 0);
    metrics.checksTaken.set(labels, vm.checks);
  }
  metrics.framesDelivered.set({ run }, values.recorder.delivered);
  metrics.recorderLost.set({ run, event: "send" }, values.recorder.lostSends);
  metrics.recorderLost.set({ run, event: "receive" }, values.recorder.lostReceives);
  metrics.tapDropped.set({ run }, values.skippedDeliveries);
  const { tunnel } = values.recorder;
  if (tunnel === undefined) return;
  metrics.tunnelFrames.set({ run, direction: "out" }, tunnel.out);
  metrics.tunnelFrames.set({ run, direction: "in" }, tunnel.in);
  metrics.tunnelForeign.set({ run }, tunnel.foreign);
  metrics.tunnelFailed.set({ run, direction: "out" }, tunnel.failedOut);
  metrics.tunnelFailed.set({ run, direction: "in" }, tunnel.failedIn);
}

/** How far a replay has come on this host. */
export interface ReplayValues {
  /** `ReplayingAgent.progress()`. */
  readonly vms: readonly {
    readonly name: string;
    readonly percent: number;
    readonly framesMatched: number;
  }[];
  /** The epoch of each VM of the run that has not ended, those of other hosts too, by name. */
  readonly epochs: ReadonlyMap<string, number>;
}

export function showReplay(metrics: AgentMetrics, run: string, values: ReplayValues): void {
  const epochs = [...values.epochs.values()];
  const fastest = Math.max(...epochs);
  if (epochs.length > 0) {
    metrics.replayWindow.set({ run, bound: "slowest" }, Math.min(...epochs));
    metrics.replayWindow.set({ run, bound: "fastest" }, fastest);
  }
  for (const { name, percent, framesMatched } of values.vms) {
    const labels = { run, vm: name };
    metrics.replayFrames.set(labels, framesMatched);
    metrics.replayProgress.set(labels, percent / 100);
    const epoch = values.epochs.get(name);
    metrics.replayLag.set(labels, epoch === undefined ? 0 : fastest - epoch);
  }
}

/** What a link to another agent has counted. */
export interface LinkValues {
  readonly framesOut: number;
  readonly bytesOut: number;
  readonly framesIn: number;
  readonly bytesIn: number;
  readonly retransmissions: number;
  readonly reconnects: number;
  readonly unacknowledgedBytes: number;
  /** `undefined` while no ping has been answered. */
  readonly roundTripMs: number | undefined;
}

/** @param host the peer */
export function showLink(metrics: AgentMetrics, run: string, host: string, link: LinkValues): void {
  const labels = { run, host };
  metrics.linkFrames.set({ ...labels, direction: "out" }, link.framesOut);
  metrics.linkFrames.set({ ...labels, direction: "in" }, link.framesIn);
  metrics.linkBytes.set({ ...labels, direction: "out" }, link.bytesOut);
  metrics.linkBytes.set({ ...labels, direction: "in" }, link.bytesIn);
  metrics.linkRetransmissions.set(labels, link.retransmissions);
  metrics.linkReconnects.set(labels, link.reconnects);
  metrics.linkUnacknowledged.set(labels, link.unacknowledgedBytes);
  if (link.roundTripMs !== undefined) metrics.linkRoundTrip.set(labels, link.roundTripMs / 1000);
}
