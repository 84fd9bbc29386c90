/** `clusterrr unpack`: a recording's directory out of a packed one. */
import { object } from "@optique/core/constructs";
import { argument, option } from "@optique/core/primitives";
import { path } from "@optique/run/valueparser";
import type { UnpackReport } from "./ports.ts";
import { formatBytes, formatSeconds } from "./quantities.ts";
import { defineSubcommand, jsonFlag, sentence, withProgress } from "./subcommand.ts";
import { plural } from "./table.ts";
import { printJson } from "./terminal.ts";

export const unpack = defineSubcommand({
  name: "unpack",
  brief: "Make a recording's directory of a packed one.",
  description: [
    "Reads what `clusterrr pack` wrote and checks every file on the way. The directory appears when all " +
    "of it is there; where something is damaged, nothing is left.",
  ],
  examples: ["unpack trio.tar.zst --out trio.clusterrr"],
  parser: object({
    file: argument(path({ metavar: "FILE", type: "file", mustExist: true }), {
      description: sentence("The packed recording."),
    }),
    out: option("--out", path({ metavar: "DIR" }), {
      description: sentence("The directory to make. It must not exist."),
    }),
    json: jsonFlag(),
  }),
  async run({ file, out, json }, context) {
    const report = await withProgress(
      context,
      json,
      (progress) => context.operations.unpack({ file, out }, progress, context.signal),
    );
    if (json) printJson(context.terminal, report);
    else context.terminal.out(describe(report));
    return 0;
  },
});

function describe(report: UnpackReport): string {
  const { name, id, directory, files, bytes, images, snapshot, unpackS } = report;
  const along = [
    ...(images > 0 ? [plural(images, "image")] : []),
    ...(snapshot ? ["the snapshot"] : []),
  ];
  return `${name} (${id.slice(0, 8)}): ${plural(files, "file")}, ${formatBytes(bytes)}` +
    (along.length === 0 ? "" : `, with ${along.join(" and ")}`) +
    ` unpacked in ${formatSeconds(unpackS)}: ${directory}\n`;
}
