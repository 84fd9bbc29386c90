/** `clusterrr coordinator`: the process that all hosts and operators connect to. */
import { object } from "@optique/core/constructs";
import { optional, withDefault } from "@optique/core/modifiers";
import { option } from "@optique/core/primitives";
import { integer, string } from "@optique/core/valueparser";
import { path } from "@optique/run/valueparser";
import { COORDINATOR_STATE } from "./ca.ts";
import { logLevelOption } from "./log_options.ts";
import { defineSubcommand, sentence } from "./subcommand.ts";
import { duration } from "./values.ts";

const LISTEN = "0.0.0.0:7400";

/** A loopback address for health and metrics. */
export const metricsOption = optional(option("--metrics", string({ metavar: "HOST:PORT" }), {
  description: sentence("Serve /healthz and /metrics there: a loopback address. Default: not."),
}));

export const coordinator = defineSubcommand({
  name: "coordinator",
  brief: "Coordinate recordings and replays over many hosts.",
  description: [
    "Agents and operators connect to it with certificates of `clusterrr ca init`. What it knows is in its state " +
    "directory: killed and started again, it takes up the runs that go on. Ctrl-C and SIGTERM end it; what runs " +
    "on the hosts goes on for a while without it.",
  ],
  examples: [
    "coordinator",
    "coordinator --listen 10.0.0.1:7400 --metrics 127.0.0.1:9400",
  ],
  parser: object({
    listen: withDefault(
      option("--listen", string({ metavar: "HOST:PORT" }), {
        description: sentence(`Where to listen. Default ${LISTEN}.`),
      }),
      LISTEN,
    ),
    state: withDefault(
      option("--state", path({ metavar: "DIR", type: "directory" }), {
        description: sentence(
          `Its state directory, that of \`ca init --state\`. Default ${COORDINATOR_STATE}.`,
        ),
      }),
      COORDINATOR_STATE,
    ),
    lostAfterMs: optional(option("--lost-after", duration(), {
      description: sentence("A host that is not heard of for so long is lost. Default 10s."),
    })),
    tunnelPort: optional(option("--tunnel-port", integer({ min: 1, max: 65535, metavar: "PORT" }), {
      description: sentence("The UDP port of the tunnels between hosts. Default 4789."),
    })),
    metrics: metricsOption,
    logLevel: logLevelOption,
  }),
  async run(options, { operations, terminal, signal }) {
    const { listen, state } = options;
    await operations.cluster.runCoordinator(
      { listen, state, ...given(options, "lostAfterMs", "tunnelPort", "metrics", "logLevel") },
      (line) => terminal.out(`${line}\n`),
      signal,
    );
    return 0;
  },
});

/** Those of the options that were given. */
export function given<T, K extends keyof T>(
  options: T,
  ...keys: K[]
): { [P in K]?: Exclude<T[P], undefined> } {
  return Object.fromEntries(
    keys.filter((key) => options[key] !== undefined).map((key) => [key, options[key]]),
  ) as { [P in K]?: Exclude<T[P], undefined> };
}
