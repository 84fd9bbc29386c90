/** `clusterrr clean`: removes what runs that were killed left on this host. */
import { object } from "@optique/core/constructs";
import { defineSubcommand, jsonFlag } from "./subcommand.ts";
import { printJson } from "./terminal.ts";

export const clean = defineSubcommand({
  name: "clean",
  brief: "Remove what killed runs left behind.",
  description: [
    "Removes what runs left that did not get to remove it themselves: processes, run directories, scratch, network " +
    "namespaces, links, firewall tables, eBPF pins and half-made snapshots. Recordings and runs under " +
    "way stay untouched.",
  ],
  examples: ["clean", "clean --json"],
  parser: object({ json: jsonFlag("Print what was removed as a JSON array.") }),
  async run({ json }, { operations, terminal }) {
    const removed = await operations.clean();
    if (json) printJson(terminal, removed);
    else if (removed.length === 0) terminal.out("Nothing to clean.\n");
    else terminal.out(removed.map((line) => `removed ${line}\n`).join(""));
    return 0;
  },
});
