/** `clusterrr agent`: the process around an agent. */
import { existsSync } from "node:fs";
import { serveTelemetry } from "../host/telemetry_server.ts";
import { parseAddress } from "../host/tls/connector.ts";
import { joinCoordinator } from "../host/tls/join.ts";
import { ignoreSigpipe } from "../host/libc.ts";
import type { AgentRunOptions } from "../lib/cli/cluster_ports.ts";
import { processTerminal } from "../lib/cli/terminal.ts";
import { ClusterrrError } from "../lib/errors.ts";
import { Health } from "../lib/telemetry/health.ts";
import { conceal, logLevelFrom, logOf, startLogs } from "../lib/telemetry/log.ts";
import { createAgentMetrics } from "../lib/telemetry/metrics.ts";
import { Agent } from "./agent/agent.ts";
import { AgentMetricsView } from "./agent/agent_metrics.ts";
import { AgentState } from "./agent/agent_state.ts";
import { aborted } from "./coordinator.ts";
import { requireRoot } from "./machine.ts";
import config from "../deno.json" with { type: "json" };

const SHOW_EVERY_MS = 1_000;
/** Without a coordinator for so long, recordings are ended from here. */
const LOST_AFTER_MS = 60_000;

/** Runs until `signal`; then ends what runs here, in order. */
export async function runAgent(
  options: AgentRunOptions,
  ready: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  requireRoot("An agent");
  ignoreSigpipe();
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(startLogs(logLevelFrom(options.logLevel), processTerminal()));
  const state = new AgentState(options.state);
  const log = logOf("agent");
  if (options.token !== undefined && !hasIdentity(state)) await join(options, state, signal);
  const agent = await Agent.start({
    coordinator: options.coordinator,
    state: options.state,
    link: parseAddress(options.link),
    lostAfterMs: options.lostAfterMs ?? LOST_AFTER_MS,
    version: config.version,
  });
  cleanup.defer(() => agent.stop());
  const health = new Health("agent", config.version);
  const metrics = createAgentMetrics(config.version);
  if (options.metrics !== undefined) {
    const server = serveTelemetry(options.metrics, health, metrics);
    cleanup.defer(() => server.close());
    log.info("health and metrics on {url}", { url: server.url });
  }
  const view = new AgentMetricsView(agent, metrics, health);
  const shown = setInterval(() => view.show(), SHOW_EVERY_MS);
  cleanup.defer(() => clearInterval(shown));
  ready(`host ${agent.name}: links on ${agent.link.host}:${agent.link.port}`);
  log.info("host {host} is there", { host: agent.name, port: agent.link.port });
  await aborted(signal);
  log.info("ending: recordings are sealed first");
}

async function join(
  options: AgentRunOptions,
  state: AgentState,
  signal: AbortSignal,
): Promise<void> {
  const { token, name } = options;
  if (name === undefined) {
    throw new ClusterrrError("Which host is this? Give --name, the name that the token is for.");
  }
  conceal(token!);
  await joinCoordinator({
    address: options.coordinator,
    token: token!,
    name,
    directory: state.identity,
    signal,
  });
  logOf("agent").info("joined as host {host}", { host: name });
}

function hasIdentity(state: AgentState): boolean {
  return existsSync(`${state.identity}/certificate.pem`);
}
