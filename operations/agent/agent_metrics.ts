/** Takes what an agent's runs have counted over into its metrics and its health; called once a second. */
import { RUN_PHASES, type RunPhase } from "../../lib/telemetry/definitions.ts";
import { passed } from "../../lib/cli/verification.ts";
import type { ReplayResult } from "../../lib/protocol/control.ts";
import type { Health } from "../../lib/telemetry/health.ts";
import type { AgentMetrics } from "../../lib/telemetry/metrics.ts";
import { showLink, showRecording, showReplay } from "../../lib/telemetry/role_values.ts";
import { checksFromWire } from "../remote_replay.ts";
import type { Agent } from "./agent.ts";

/** What the phases of a run on a host are called in metrics. */
const PHASES: Readonly<Record<string, RunPhase>> = {
  prepared: "preparing",
  quiet: "quiescing",
  sealed: "sealing",
};

export class AgentMetricsView {
  /** Runs that have been shown, until they have ended. */
  readonly #shown = new Set<string>();
  readonly #diverged = new Set<string>();

  constructor(
    private readonly agent: Agent,
    private readonly metrics: AgentMetrics,
    private readonly health: Health,
  ) {}

  show(): void {
    const { metrics, agent } = this;
    const phases: RunPhase[] = [];
    const there = new Set<string>();
    for (const [run, recording] of agent.recordings) {
      if (recording.phase === "concluded") continue;
      phases.push(phaseOf(recording.phase));
      there.add(run);
      const values = recording.values();
      if (values !== undefined) showRecording(metrics, run, values);
    }
    for (const [run, replay] of agent.replays) {
      phases.push(replay.phase === "running" ? "replaying" : "preparing");
      there.add(run);
      const { vms, result } = replay.status();
      if (result !== undefined) this.#showResult(run, result);
      showReplay(metrics, run, { vms, epochs: replay.epochs() });
      for (const link of replay.links()) {
        showLink(metrics, run, link.peer, {
          framesOut: link.framesSent,
          bytesOut: link.bytesSent,
          framesIn: link.framesReceived,
          bytesIn: link.bytesReceived,
          retransmissions: link.retransmissions,
          reconnects: link.reconnects,
          unacknowledgedBytes: link.unacknowledgedBytes,
          roundTripMs: link.roundTripMs > 0 ? link.roundTripMs : undefined,
        });
      }
    }
    for (const run of this.#shown) {
      if (there.has(run)) continue;
      metrics.removeRun(run);
      this.#diverged.delete(run);
    }
    this.#shown.clear();
    for (const run of there) this.#shown.add(run);
    metrics.setRunPhases(phases);
    if (agent.connected) this.health.clear("coordinator");
    else this.health.raise("coordinator", "The coordinator cannot be reached.");
  }

  #showResult(run: string, { vms, divergence }: ReplayResult): void {
    for (const { name, checks } of vms) {
      const labels = { run, vm: name };
      const made = checksFromWire(checks).filter((check) => !check.notReached);
      const failed = made.filter((check) => !passed(check));
      this.metrics.checksCompared.set(labels, made.length);
      this.metrics.checksFailed.set(labels, failed.length);
    }
    if (divergence !== undefined && !this.#diverged.has(run)) this.metrics.divergences.add({});
    if (divergence !== undefined) this.#diverged.add(run);
  }
}

function phaseOf(phase: string): RunPhase {
  return PHASES[phase] ?? RUN_PHASES.find((each) => each === phase) ?? "preparing";
}
