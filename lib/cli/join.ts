/** `clusterrr join`: gets an operator's certificate. */
import { object } from "@optique/core/constructs";
import { argument, option } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import { clusterAddress, clusterOptions } from "./cluster_options.ts";
import { defineSubcommand, sentence } from "./subcommand.ts";
import { label } from "./values.ts";

export const join = defineSubcommand({
  name: "join",
  brief: "Become an operator of a coordinator.",
  description: [
    "Makes a key here and gets a certificate for it, with a token of `clusterrr hosts invite NAME --operator`. " +
    "Agents join by themselves: clusterrr agent --join TOKEN.",
  ],
  examples: ["join clrr1.… --name bob --coordinator 10.0.0.1:7400"],
  parser: object({
    token: argument(string({ metavar: "TOKEN" }), { description: sentence("The token.") }),
    name: option("--name", label("name"), {
      description: sentence("Your name, the one that was invited."),
    }),
    cluster: clusterOptions,
  }),
  async run({ token, name, cluster }, { operations, terminal, signal }) {
    const { coordinator, identity } = clusterAddress(cluster);
    await operations.cluster.join({ coordinator, token, name, identity }, signal);
    terminal.out(`You are operator ${name}; key and certificate are in ${identity}.\n`);
    return 0;
  },
});
