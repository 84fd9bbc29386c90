/** `clusterrr agent`: the process on each host that records and replays. */
import { object } from "@optique/core/constructs";
import { optional, withDefault } from "@optique/core/modifiers";
import { option } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import { path } from "@optique/run/valueparser";
import { clusterAddress, coordinatorOption } from "./cluster_options.ts";
import { given, metricsOption } from "./coordinator.ts";
import { logLevelOption } from "./log_options.ts";
import { defineSubcommand, sentence } from "./subcommand.ts";
import { duration, label } from "./values.ts";

const STATE = "/var/lib/clusterrr/agent";

export const agent = defineSubcommand({
  name: "agent",
  brief: "Record and replay on this host, for a coordinator.",
  description: [
    "Connects to the coordinator and does what it says. The first time it needs a token of `clusterrr hosts " +
    "invite NAME`; it makes its key itself, and keeps it.",
    "Other hosts connect to --link, an IPv4 address of this host: for the frames of replays, for recordings, and, " +
    "by UDP, for the network between VMs of different hosts while they are recorded.",
    "Ctrl-C and SIGTERM end it; a recording is then sealed and kept.",
  ],
  examples: [
    "agent --coordinator 10.0.0.1:7400 --link 10.0.0.2:7401 --name alpha --join clrr1.…",
    "agent --coordinator 10.0.0.1:7400 --link 10.0.0.2:7401 --metrics 127.0.0.1:9401",
  ],
  parser: object({
    coordinator: coordinatorOption,
    link: option("--link", string({ metavar: "IPV4:PORT" }), {
      description: sentence(
        "Where other hosts reach this one: its address, and a port that is free.",
      ),
    }),
    name: optional(option("--name", label("name"), {
      description: sentence("With --join: this host's name, the one that was invited."),
    })),
    token: optional(option("--join", string({ metavar: "TOKEN" }), {
      description: sentence("Join with this token, unless that was done before."),
    })),
    state: withDefault(
      option("--state", path({ metavar: "DIR", type: "directory" }), {
        description: sentence(`Its key, its parts of recordings, images. Default ${STATE}.`),
      }),
      STATE,
    ),
    lostAfterMs: optional(option("--lost-after", duration(), {
      description: sentence(
        "End recordings when the coordinator has been away for so long; they are kept. Default 60s.",
      ),
    })),
    metrics: metricsOption,
    logLevel: logLevelOption,
  }),
  async run(options, { operations, terminal, signal }) {
    const { coordinator } = clusterAddress({
      coordinator: options.coordinator,
      identity: undefined,
    });
    await operations.cluster.runAgent(
      {
        coordinator,
        link: options.link,
        state: options.state,
        ...given(options, "name", "token", "lostAfterMs", "metrics", "logLevel"),
      },
      (line) => terminal.out(`${line}\n`),
      signal,
    );
    return 0;
  },
});
