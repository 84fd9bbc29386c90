import assert from "node:assert/strict";
import type { TunnelCounters } from "../../lib/roles/ports.ts";
import { logOf, startLogs } from "../../lib/telemetry/log.ts";
import { logTunnelLosses } from "./tunnel_losses.ts";

/** What is logged at the end of a recording with these counters, without the fields that all lines have. */
function logged(counters: Partial<TunnelCounters>): Record<string, unknown>[] {
  const none = { out: 0n, in: 0n, foreign: 0n, failedOut: 0n, failedIn: 0n };
  let text = "";
  const stop = startLogs("trace", { err: (more) => text += more, errLive: false, errColor: false });
  try {
    logTunnelLosses(logOf("agent"), { ...none, ...counters }, 4789);
  } finally {
    stop();
  }
  return text.split("\n").filter((line) => line !== "").map((line) => {
    const { time: _, area: __, ...record } = JSON.parse(line);
    return record;
  });
}

Deno.test("tunnel losses: nothing is said where all went well, or nothing was sent", () => {
  assert.deepEqual(logged({}), []);
  assert.deepEqual(logged({ out: 10n, in: 1n, foreign: 3n }), []);
  assert.deepEqual(logged({ in: 10n }), []);
});

Deno.test("tunnel losses: frames that were dropped are counted", () => {
  assert.deepEqual(logged({ out: 10n, in: 9n, failedIn: 2n }), [{
    level: "warning",
    message: "frames between hosts were lost: 0 could not be sent, 2 not be taken in",
    failedOut: 0,
    failedIn: 2,
  }]);
  assert.equal(logged({ out: 10n, in: 9n, failedOut: 1n }).length, 1);
});

Deno.test("tunnel losses: where nothing comes in, a firewall may be in the way", () => {
  assert.deepEqual(logged({ out: 10n }), [{
    level: "warning",
    message: "10 frames went to other hosts and none came from there: a firewall may drop UDP 4789",
    out: 10,
    port: 4789,
  }]);
});
