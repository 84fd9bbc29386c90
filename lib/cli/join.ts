/** `clusterrr join`: gets an operator's certificate. */
import { object } from "@optique/core/constructs";
import { argument, option } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import { UsageError } from "../errors.ts";
import { clusterAddress, clusterOptions } from "./cluster_options.ts";
import { defineSubcommand, sentence } from "./subcommand.ts";
import { nextLine, type Terminal } from "./terminal.ts";
import { label } from "./values.ts";

export const join = defineSubcommand({
  name: "join",
  brief: "Become an operator, or a host, of a coordinator.",
  description: [
    "Makes a key here and gets a certificate for it, with a token of `clusterrr hosts invite`, which says whether it is " +
    "for an operator or for a host. An agent can also join when it starts: clusterrr agent --join TOKEN.",
  ],
  examples: [
    "join - --name bob --coordinator 10.0.0.1:7400",
    "join - --name alpha --identity /var/lib/clusterrr/agent/identity",
  ],
  parser: object({
    token: argument(string({ metavar: "TOKEN" }), {
      description: sentence(
        "The token; - reads it from standard input, where nobody else sees it.",
      ),
    }),
    name: option("--name", label("name"), {
      description: sentence("Your name, the one that was invited."),
    }),
    cluster: clusterOptions,
  }),
  async run({ token, name, cluster }, { operations, terminal, signal }) {
    const { coordinator, identity } = clusterAddress(cluster);
    const read = token === "-" ? await firstLine(terminal, signal) : token;
    const role = await operations.cluster.join(
      { coordinator, token: read, name, identity },
      signal,
    );
    terminal.out(`Joined as ${role} ${name}; key and certificate are in ${identity}.\n`);
    return 0;
  },
});

async function firstLine(terminal: Terminal, signal: AbortSignal): Promise<string> {
  const line = await nextLine(terminal, signal);
  if (line !== undefined) return line.trim();
  throw new UsageError("There is no token on standard input.");
}
