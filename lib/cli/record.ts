/** `clusterrr record`: boots a cluster and records it, then adds the recording to the catalog. */
import { object } from "@optique/core/constructs";
import { multiple, optional, withDefault } from "@optique/core/modifiers";
import { argument, option } from "@optique/core/primitives";
import { path } from "@optique/run/valueparser";
import { messageOf } from "../errors.ts";
import type { RecordingEnd, RecordOptions, RecordReport } from "./ports.ts";
import { formatSeconds } from "./quantities.ts";
import {
  type Context,
  defineSubcommand,
  jsonFlag,
  sentence,
  withCatalog,
  withProgress,
} from "./subcommand.ts";
import { paint, printJson } from "./terminal.ts";
import { totalsTable } from "./totals.ts";
import { duration, label } from "./values.ts";

const DIGEST_EVERY_MS = 5_000;
const EPOCH_MS = 250;

/** How a recording ended, for people. */
export const ENDINGS: Readonly<Record<RecordingEnd, string>> = {
  poweroff: "every VM powered off",
  duration: "the time was over",
  interrupt: "it was interrupted",
  failure: "it failed",
};

export const record = defineSubcommand({
  name: "record",
  brief: "Record a cluster while it runs.",
  description: [
    "Boots every VM of the cluster file at once and records until they have all powered off, the " +
    "given time is over, or you press Ctrl-C. Each of these is a good end.",
    "The recording is a new directory. It is added to the catalog, so that the other commands find " +
    "it by name as well.",
  ],
  examples: [
    "record examples/trio/cluster.yaml --out trio.clusterrr",
    "record cluster.yaml --out run1 --for 30s --name before-the-fix --tag ci",
    "record cluster.yaml --out run2 --digest-every 0",
  ],
  parser: object({
    spec: argument(path({ metavar: "SPEC", type: "file" }), {
      description: sentence("The cluster file (YAML)."),
    }),
    out: option("--out", path({ metavar: "DIR", type: "directory" }), {
      description: sentence("The directory to make for the recording."),
    }),
    forMs: optional(option("--for", duration(), {
      description: sentence("End the recording after this time, e.g. 90s or 5m."),
    })),
    digestEveryMs: withDefault(
      option("--digest-every", duration({ zero: true }), {
        description: sentence(
          "Time between checks of registers and RAM that a replay compares; 0 for none. Default 5s.",
        ),
      }),
      DIGEST_EVERY_MS,
    ),
    epochMs: withDefault(
      option("--epoch", duration({ zero: true }), {
        description: sentence(
          "Time between checkpoints, at which a replay can stop the whole cluster; 0 for none. " +
            "Default 250ms.",
        ),
      }),
      EPOCH_MS,
    ),
    name: optional(option("--name", label("name"), {
      description: sentence("A name for the recording. Default: the cluster's."),
    })),
    tags: multiple(option("--tag", label("tag"), {
      description: sentence("A tag for the catalog; may be given several times."),
    })),
    json: jsonFlag(),
  }),
  async run(options, context) {
    const { json, tags, forMs, name, ...rest } = options;
    const wanted: RecordOptions = {
      ...rest,
      ...(forMs === undefined ? {} : { forMs }),
      ...(name === undefined ? {} : { name }),
    };
    const report = await withProgress(
      context,
      json,
      (progress) => context.operations.record(wanted, progress, context.signal),
    );
    await addToCatalog(context, report, tags);
    if (json) printJson(context.terminal, report);
    else context.terminal.out(describe(report, context));
    if (report.endedBy !== "failure") return 0;
    context.terminal.err(
      `clusterrr: the recording failed: ${report.message ?? "no reason given"}\n`,
    );
    return 1;
  },
});

/** A catalog that cannot be written must not turn a good recording into a failure. */
async function addToCatalog(
  context: Context,
  report: RecordReport,
  tags: readonly string[],
): Promise<void> {
  try {
    await withCatalog(context, (catalog) => catalog.add(report.directory, { tags }));
  } catch (error) {
    context.terminal.err(
      `clusterrr: the recording is fine, but not in the catalog: ${messageOf(error)}\n` +
        `Later: clusterrr add ${report.directory}\n`,
    );
  }
}

function describe(report: RecordReport, context: Context): string {
  const style = paint(context.terminal.outColor);
  const cut = report.complete ? "" : style.warn(" Not every log was closed: it is cut off.");
  return `${style.bold(report.name)} (${report.id.slice(0, 8)}): recorded ` +
    `${formatSeconds(report.recordS)}, until ${ENDINGS[report.endedBy]}.${cut}\n\n` +
    totalsTable(report.vms, style) +
    `\nReplay it:  clusterrr replay ${report.directory}\n`;
}
