/** `clusterrr stop`: ends a recording or a replay that goes on on the hosts. */
import { object } from "@optique/core/constructs";
import { argument } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import { ClusterrrError } from "../errors.ts";
import { clusterOptions, withCluster } from "./cluster_options.ts";
import { defineSubcommand, type ExitStatus, sentence } from "./subcommand.ts";

export const stop = defineSubcommand({
  name: "stop",
  brief: "End a run on the hosts, in order.",
  description: [
    "A recording is stopped on all hosts, sealed and kept, as by Ctrl-C where it was started. `clusterrr status` " +
    "shows the runs.",
  ],
  examples: ["stop 3f0c2a9b1d5e7788"],
  parser: object({
    run: argument(string({ metavar: "RUN" }), {
      description: sentence("Its id, the beginning of it, or the recording's name."),
    }),
    cluster: clusterOptions,
  }),
  async run({ run: reference, cluster }, context) {
    return await withCluster(context, cluster, async (client): Promise<ExitStatus> => {
      const { runs } = await client.status();
      const isMeant = ({ run, name }: { run: string; name: string }) =>
        name === reference || reference !== "" && run.startsWith(reference);
      const found = runs.filter(isMeant);
      if (found.length !== 1) {
        const there = runs.map(({ run, name }) => `${name} (${run})`).join(", ");
        throw new ClusterrrError(
          `${found.length === 0 ? "No run" : "More than one run"} is "${reference}". ` +
            (runs.length === 0 ? "Nothing runs." : `There are: ${there}.`),
        );
      }
      await client.stop(found[0]!.run);
      context.terminal.out(`${found[0]!.name} is being stopped.\n`);
      return 0;
    });
  },
});
