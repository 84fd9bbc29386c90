/** What an agent says at the end of a recording of frames between hosts that did not arrive. */
import type { TunnelCounters } from "../../lib/roles/ports.ts";
import type { Log } from "../../lib/telemetry/log.ts";

/**
 * Warns where frames were dropped at the tunnel, and where none came in at all.
 * @param port the tunnel's UDP port
 */
export function logTunnelLosses(log: Log, tunnel: TunnelCounters, port: number): void {
  const { failedOut, failedIn } = tunnel;
  if (failedOut > 0n || failedIn > 0n) {
    log.warning(
      "frames between hosts were lost: {failedOut} could not be sent, {failedIn} not be taken in",
      { failedOut, failedIn },
    );
  }
  if (tunnel.out > 0n && tunnel.in === 0n) {
    log.warning(
      "{out} frames went to other hosts and none came from there: a firewall may drop UDP {port}",
      { out: tunnel.out, port },
    );
  }
}
