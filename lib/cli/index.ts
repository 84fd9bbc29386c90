/** `clusterrr index`: snapshots beside a recording, so that going to a checkpoint takes no full replay. */
import { object } from "@optique/core/constructs";
import { withDefault } from "@optique/core/modifiers";
import { argument, option } from "@optique/core/primitives";
import { integer } from "@optique/core/valueparser";
import type { IndexReport } from "./ports.ts";
import { formatBytes, formatSeconds } from "./quantities.ts";
import {
  defineSubcommand,
  jsonFlag,
  locateRecording,
  reportingDivergence,
  sentence,
  withProgress,
} from "./subcommand.ts";
import { plural } from "./table.ts";
import { printJson } from "./terminal.ts";
import { recordingReference, size } from "./values.ts";

/** Snapshots at every so many checkpoints, and what they may take. */
export const INDEX_DEFAULTS = { every: 20, bytesMax: 4 * 2 ** 30 } as const;

export const index = defineSubcommand({
  name: "index",
  brief: "Keep snapshots, so that seeking in a recording is quick.",
  description: [
    "Replays a recording once and saves the whole cluster at every Nth checkpoint, in the directory " +
    "index/ of the recording. Going to any point then costs the way from the snapshot before it, and " +
    "`verify --parallel` can work on several parts at once.",
    "It is a cache: deleting index/ loses nothing. Above the given size, snapshots are thinned out.",
  ],
  examples: ["index trio.clusterrr", "index trio.clusterrr --every 4 --max-size 10G"],
  parser: object({
    reference: argument(recordingReference(), {
      description: sentence("The recording: its directory, its name, or the beginning of its id."),
    }),
    every: withDefault(
      option("--every", integer({ min: 1, max: 2 ** 23, metavar: "N" }), {
        description: sentence(`Every Nth checkpoint. Default ${INDEX_DEFAULTS.every}.`),
      }),
      INDEX_DEFAULTS.every,
    ),
    bytesMax: withDefault(
      option("--max-size", size(), {
        description: sentence("The most that all snapshots may take. Default 4G."),
      }),
      INDEX_DEFAULTS.bytesMax,
    ),
    json: jsonFlag(),
  }),
  run({ reference, every, bytesMax, json }, context) {
    return reportingDivergence(context, json, async () => {
      const directory = await locateRecording(context, reference);
      const report = await withProgress(
        context,
        json,
        (progress) =>
          context.operations.index({ directory, every, bytesMax }, progress, context.signal),
      );
      if (json) printJson(context.terminal, report);
      else context.terminal.out(describe(report));
      return 0;
    });
  },
});

function describe(report: IndexReport): string {
  const { taken, checkpoints, bytes, indexS, lastCheckpoint } = report;
  const which = checkpoints.map(({ epoch }) => epoch).join(", ");
  return `${plural(taken, "snapshot")} taken in ${formatSeconds(indexS)}; ` +
    `${plural(checkpoints.length, "snapshot")} now, ${formatBytes(bytes)}` +
    (which === "" ? "" : `, at the checkpoints ${which}`) +
    `. The last checkpoint is ${lastCheckpoint}.\n`;
}
