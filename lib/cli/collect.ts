/** `clusterrr collect`: brings a recording of many hosts to one place. */
import { object } from "@optique/core/constructs";
import { withDefault } from "@optique/core/modifiers";
import { argument, flag, option } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import { path } from "@optique/run/valueparser";
import { messageOf } from "../errors.ts";
import { clusterOptions, withCluster } from "./cluster_options.ts";
import { formatBytes } from "./quantities.ts";
import { defineSubcommand, jsonFlag, sentence, withCatalog, withProgress } from "./subcommand.ts";
import { paint, printJson } from "./terminal.ts";

export const collect = defineSubcommand({
  name: "collect",
  brief: "Bring a recording of many hosts to one directory.",
  description: [
    "Copies each host's part, checks it, and makes one recording of them, which replays on this host like any " +
    "other. It stays on the hosts too.",
  ],
  examples: ["collect trio --out trio.clusterrr", "collect 3f0c2a --out part --partial"],
  parser: object({
    reference: argument(string({ metavar: "RECORDING" }), {
      description: sentence("Its name (the newest of that name), or at least 4 digits of its id."),
    }),
    out: option("--out", path({ metavar: "DIR", type: "directory" }), {
      description: sentence("The directory to make."),
    }),
    partial: withDefault(
      flag("--partial", {
        description: sentence("Take what there is, also where a host cannot be reached."),
      }),
      false,
    ),
    cluster: clusterOptions,
    json: jsonFlag(),
  }),
  async run({ reference, out, partial, cluster, json }, context) {
    const { terminal, signal } = context;
    const report = await withCluster(
      context,
      cluster,
      (client) =>
        withProgress(
          context,
          json,
          (progress) => client.collect(reference, out, partial, progress, signal),
        ),
    );
    await withCatalog(context, (catalog) => catalog.add(report.directory)).catch((error) =>
      terminal.err(
        `clusterrr: the recording is fine, but not in the catalog: ${messageOf(error)}\n`,
      )
    );
    if (json) printJson(terminal, report);
    else {
      const style = paint(terminal.outColor);
      const hosts = report.hosts.map(({ host, vms }) => `  ${host}: ${vms.join(", ")}\n`).join("");
      const missing = report.missing.length === 0
        ? ""
        : style.warn(`Missing: ${report.missing.join(", ")}. It cannot be replayed to its end.\n`);
      terminal.out(
        `${style.bold(report.name)}: ${formatBytes(report.bytes)} from\n${hosts}${missing}` +
          `\nReplay it:  clusterrr replay ${report.directory}\n`,
      );
    }
    return 0;
  },
});
