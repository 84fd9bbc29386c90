/** `clusterrr schema`: the cluster file's JSON Schema, for editors. */
import { object } from "@optique/core/constructs";
import { clusterJsonSchema } from "../cluster/schema.ts";
import { defineSubcommand } from "./subcommand.ts";
import { printJson } from "./terminal.ts";

export const schema = defineSubcommand({
  name: "schema",
  brief: "Print the cluster file's JSON Schema.",
  description: [
    "Prints the JSON Schema of the cluster file. Editors with a YAML language server complete and " +
    "check cluster files with it: save it, and begin the file with the line " +
    "`# yaml-language-server: $schema=cluster.schema.json`.",
  ],
  examples: ["schema > cluster.schema.json"],
  parser: object({}),
  run(_options, { terminal }) {
    printJson(terminal, clusterJsonSchema());
    return Promise.resolve(0);
  },
});
