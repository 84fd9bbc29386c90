/** `clusterrr add`: takes a recording from elsewhere into the catalog. */
import { object } from "@optique/core/constructs";
import { argument } from "@optique/core/primitives";
import { path } from "@optique/run/valueparser";
import { defineSubcommand, sentence, withCatalog } from "./subcommand.ts";

export const add = defineSubcommand({
  name: "add",
  brief: "Add a recording to the catalog.",
  description: [
    "Adds a recording that was made on another machine, or moved, to the catalog, or brings its " +
    "entry up to date. Nothing is copied.",
  ],
  examples: ["add /mnt/usb/trio.clusterrr"],
  parser: object({
    directory: argument(path({ metavar: "DIR", type: "directory" }), {
      description: sentence("The recording's directory."),
    }),
  }),
  async run({ directory }, context) {
    const entry = await withCatalog(context, (catalog) => catalog.add(directory));
    context.terminal.out(`${entry.name} (${entry.id.slice(0, 8)}): ${entry.path}\n`);
    return 0;
  },
});
