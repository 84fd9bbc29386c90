/** `clusterrr pack`: a recording as one file to take elsewhere. */
import { object } from "@optique/core/constructs";
import { withDefault } from "@optique/core/modifiers";
import { argument, flag } from "@optique/core/primitives";
import { path } from "@optique/run/valueparser";
import type { PackReport } from "./ports.ts";
import { formatBytes, formatSeconds } from "./quantities.ts";
import {
  defineSubcommand,
  jsonFlag,
  locateRecording,
  sentence,
  withProgress,
} from "./subcommand.ts";
import { plural } from "./table.ts";
import { printJson } from "./terminal.ts";
import { recordingReference } from "./values.ts";

export const pack = defineSubcommand({
  name: "pack",
  brief: "Make one file of a recording, to take elsewhere.",
  description: [
    "Writes a recording into one file that `clusterrr unpack` makes a directory of again: a tar archive " +
    "with a list of all files and their SHA-256, so that damage on the way is found and named.",
    "With --images, kernels, initrds, disks and the snapshot that the recording starts from are taken " +
    "along, and the archive is compressed (tar --zstd). Without, a replay elsewhere needs the same images " +
    "there. index/ is left out: it is a cache.",
  ],
  examples: ["pack trio.clusterrr trio.tar", "pack trio.clusterrr trio.tar.zst --images"],
  parser: object({
    reference: argument(recordingReference(), {
      description: sentence("The recording: its directory, its name, or the beginning of its id."),
    }),
    file: argument(path({ metavar: "FILE" }), {
      description: sentence("The file to make. It must not exist."),
    }),
    images: withDefault(
      flag("--images", {
        description: sentence("Take along what the recording starts from."),
      }),
      false,
    ),
    json: jsonFlag(),
  }),
  async run({ reference, file, images, json }, context) {
    const directory = await locateRecording(context, reference);
    const report = await withProgress(
      context,
      json,
      (progress) => context.operations.pack({ directory, file, images }, progress, context.signal),
    );
    if (json) printJson(context.terminal, report);
    else context.terminal.out(describe(report));
    return 0;
  },
});

function describe(report: PackReport): string {
  const { name, id, files, contentBytes, images, snapshot, file, bytes, packS, leftOut } = report;
  const along = [
    ...(images > 0 ? [plural(images, "image")] : []),
    ...(snapshot ? ["the snapshot"] : []),
  ];
  return `${name} (${id.slice(0, 8)}): ${plural(files, "file")}, ${formatBytes(contentBytes)}` +
    (along.length === 0 ? "" : `, with ${along.join(" and ")}`) +
    ` packed in ${formatSeconds(packS)} into ${file}, ${formatBytes(bytes)}\n` +
    (leftOut.length === 0 ? "" : `left out: ${leftOut.join(", ")}\n`);
}
