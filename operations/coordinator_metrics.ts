/** Takes what the coordinator knows over into its metrics and its health. */
import type { Coordinator } from "../lib/coordinator/coordinator.ts";
import type { RunObserver } from "../lib/coordinator/run_observer.ts";
import { RUN_PHASES, type RunPhase } from "../lib/telemetry/definitions.ts";
import type { Health } from "../lib/telemetry/health.ts";
import type { CoordinatorMetrics } from "../lib/telemetry/metrics.ts";

/** Counts what happens when it happens. */
export function observeInto(metrics: CoordinatorMetrics): RunObserver {
  return {
    ticked(run, ms) {
      metrics.epochsTicked.add({ run });
      metrics.tickDuration.observe({}, ms / 1000);
    },
    ended(run, outcome) {
      metrics.removeRun(run);
      metrics.runsEnded.add({ outcome });
    },
    removed: (host) => metrics.removeHost(host),
  };
}

/** Shows what there is now; called once a second. */
export function showCoordinator(
  metrics: CoordinatorMetrics,
  health: Health,
  coordinator: Coordinator,
): void {
  const { hosts, runs } = coordinator.overview();
  metrics.hostsRegistered.set({}, hosts.length);
  metrics.hostsConnected.set({}, hosts.filter(({ connected }) => connected).length);
  for (const { name, connected } of hosts) metrics.hostUp.set({ host: name }, connected ? 1 : 0);
  const phaseOf = (phase: string): RunPhase =>
    RUN_PHASES.find((each) => each === phase) ?? (phase === "arming" ? "armed" : "preparing");
  metrics.setRunPhases(runs.map(({ phase }) => phaseOf(phase)));
  const away = hosts.filter(({ connected, busy }) => busy && !connected).map(({ name }) => name);
  if (away.length === 0) health.clear("hosts");
  else health.raise("hosts", `Not connected, and with a part in a run: ${away.join(", ")}`);
}
