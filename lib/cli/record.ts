/** `clusterrr record`: records a cluster from power-on or a snapshot, then adds it to the catalog. */
import { object } from "@optique/core/constructs";
import { multiple, optional, withDefault } from "@optique/core/modifiers";
import { argument, flag, option } from "@optique/core/primitives";
import { integer, string } from "@optique/core/valueparser";
import { path } from "@optique/run/valueparser";
import { resolve } from "node:path";
import { ClusterrrError, messageOf, UsageError } from "../errors.ts";
import { requireUnused } from "../recording/recording_directory.ts";
import { clusterOptions, type ClusterOptionValues, withCluster } from "./cluster_options.ts";
import type { ClusterClient, ClusterRecordReport } from "./cluster_ports.ts";
import { type FailureHunt, huntFailure, type HuntReport } from "./failure_hunt.ts";
import type { RecordingEnd, RecordOptions, RecordReport } from "./ports.ts";
import { formatSeconds } from "./quantities.ts";
import {
  type Context,
  defineSubcommand,
  type ExitStatus,
  jsonFlag,
  sentence,
  withCatalog,
  withProgress,
} from "./subcommand.ts";
import { plural } from "./table.ts";
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
    "given time is over, or you press Ctrl-C or close the terminal. Each of these is a good end.",
    "The recording is a new directory. It is added to the catalog, so that the other commands find " +
    "it by name as well.",
    "With --from the VMs start from a snapshot that `clusterrr boot` saved. The recording refers to " +
    "the snapshot, which a replay needs.",
    "With --coordinator the VMs run on the hosts of a coordinator, which places those that name no host; --from and " +
    "the search for a failure do not go with it.",
    "With --on-failure or --on-guest-failure (or both: either is enough) the recording is kept only if " +
    "the run failed, and deleted otherwise. CMD is a shell command with the recording's directory in " +
    "CLUSTERRR_RECORDING and each VM's console in CLUSTERRR_CONSOLE_<VM>, the name in capitals with _ for - " +
    "(CLUSTERRR_CONSOLE_WEB_1 of web-1); the run failed if it ends with another status than 0. --until-failure repeats that until a run failed: the exit status is " +
    "then 0, and 1 if none of --max-runs did. A run that Ctrl-C ends then is judged by --on-guest-failure alone.",
  ],
  examples: [
    "record examples/trio/cluster.yaml --out trio.clusterrr",
    "record cluster.yaml --out run1 --for 30s --name before-the-fix --tag ci",
    "record cluster.yaml --out run2 --digest-every 0",
    "record --from ready --out run3 --for 30s",
    "record cluster.yaml --coordinator 10.0.0.1:7400 --out run4",
    "record --from ready --out failed --until-failure --max-runs 100 --on-guest-failure",
    "record --from ready --out failed --on-failure '! grep -q ERROR $CLUSTERRR_CONSOLE_WEB'",
  ],
  parser: object({
    spec: optional(argument(path({ metavar: "SPEC", type: "file" }), {
      description: sentence("The cluster file (YAML). With --from it may be left out."),
    })),
    from: optional(option("--from", label("name"), {
      description: sentence("Start from this snapshot instead of power-on."),
    })),
    out: optional(option("--out", path({ metavar: "DIR", type: "directory" }), {
      description: sentence(
        "The directory to make for the recording. With --coordinator it may be left out: the parts then stay " +
          "on their hosts.",
      ),
    })),
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
    onFailure: optional(option("--on-failure", string({ metavar: "CMD" }), {
      description: sentence("Keep the recording only if this command says that the run failed."),
    })),
    onGuestFailure: withDefault(
      flag("--on-guest-failure", {
        description: sentence(
          "Keep the recording only if a console shows status=N (not 0), a line that begins with " +
            "FAIL, or a kernel panic.",
        ),
      }),
      false,
    ),
    untilFailure: withDefault(
      flag("--until-failure", { description: sentence("Repeat until a run failed.") }),
      false,
    ),
    maxRuns: optional(option("--max-runs", integer({ metavar: "N", min: 1 }), {
      description: sentence("With --until-failure: give up after so many runs. Default: never."),
    })),
    cluster: clusterOptions,
    name: optional(option("--name", label("name"), {
      description: sentence("A name for the recording. Default: the cluster's."),
    })),
    tags: multiple(option("--tag", label("tag"), {
      description: sentence("A tag for the catalog; may be given several times."),
    })),
    json: jsonFlag(),
  }),
  async run(options, context) {
    const { json, tags, spec, from, out, digestEveryMs, epochMs, forMs, name } = options;
    if (spec === undefined && from === undefined) {
      throw usage("Say what to record: a cluster file (SPEC), a snapshot (--from NAME), or both.");
    }
    const hunt = huntOf(options);
    if (options.cluster.coordinator !== undefined) {
      if (from !== undefined || hunt !== undefined) {
        throw usage("--from and the search for a failure do not go with --coordinator.");
      }
      return await recordOnHosts(spec!, options, context);
    }
    if (out === undefined) throw usage("Say where: --out DIR.");
    const wanted: RecordOptions = {
      out,
      digestEveryMs,
      epochMs,
      ...(spec === undefined ? {} : { spec }),
      ...(from === undefined ? {} : { from }),
      ...(forMs === undefined ? {} : { forMs }),
      ...(name === undefined ? {} : { name }),
    };
    if (hunt !== undefined) {
      const found = await huntFailure(wanted, hunt, context, json);
      if (found.recording !== null) await addToCatalog(context, found.recording, tags);
      return reportHunt(found, options.untilFailure, json, context);
    }
    const report = await withProgress(
      context,
      json,
      (progress) => context.operations.record(wanted, progress, context.signal),
    );
    await addToCatalog(context, report, tags);
    if (json) printJson(context.terminal, report);
    else context.terminal.out(describe(report, context));
    return statusOf(report, context);
  },
});

/** Records on the hosts of a coordinator; with `out`, the parts are then collected. */
async function recordOnHosts(
  spec: string,
  { cluster, out, json, tags, digestEveryMs, epochMs, forMs, name }: {
    readonly cluster: ClusterOptionValues;
    readonly out: string | undefined;
    readonly json: boolean;
    readonly tags: readonly string[];
    readonly digestEveryMs: number;
    readonly epochMs: number;
    readonly forMs: number | undefined;
    readonly name: string | undefined;
  },
  context: Context,
): Promise<ExitStatus> {
  const { terminal, signal } = context;
  if (out === undefined && tags.length > 0) {
    throw usage("--tag is for the catalog of this host: with --coordinator it needs --out DIR.");
  }
  if (out !== undefined) requireUnused(resolve(out));
  const options = {
    spec,
    digestEveryMs,
    epochMs,
    ...(forMs === undefined ? {} : { forMs }),
    ...(name === undefined ? {} : { name }),
  };
  return await withCluster(context, cluster, async (client): Promise<ExitStatus> => {
    const recorded = await withProgress(
      context,
      json,
      (progress) => client.record(options, progress, signal),
    );
    const status = statusOf(recorded, context);
    let directory: string | undefined;
    if (out !== undefined) {
      directory = await collectTo(out, recorded, client, cluster, json, context);
      await addToCatalog(context, { directory }, tags);
    }
    if (json) {
      printJson(terminal, { ...recorded, ...(directory === undefined ? {} : { directory }) });
    } else terminal.out(describeOnHosts(recorded, directory, cluster, context));
    return status;
  });
}

/**
 * Collects what has just been recorded.
 * @returns the directory
 * @throws {ClusterrrError} naming the recording, which is still on its hosts
 */
async function collectTo(
  out: string,
  { name, id }: ClusterRecordReport,
  client: ClusterClient,
  { coordinator }: ClusterOptionValues,
  json: boolean,
  context: Context,
): Promise<string> {
  // Ctrl-C has ended the recording; what is there is still wanted.
  const never = new AbortController().signal;
  try {
    const { directory } = await withProgress(
      context,
      json,
      (progress) => client.collect(id, out, true, progress, never),
    );
    return directory;
  } catch (cause) {
    throw new ClusterrrError(
      `Recording ${name} (${id}) is on its hosts, but could not be collected: ${
        messageOf(cause)
      }\n` +
        `Later: clusterrr collect ${id} --out ${out} --coordinator ${coordinator}`,
      { cause },
    );
  }
}

function describeOnHosts(
  recorded: ClusterRecordReport,
  directory: string | undefined,
  { coordinator }: ClusterOptionValues,
  context: Context,
): string {
  const style = paint(context.terminal.outColor);
  const cut = recorded.complete ? "" : style.warn(" Not every log was closed: it is cut off.");
  const again = directory === undefined
    ? `${recorded.name} --coordinator ${coordinator}`
    : directory;
  return `${style.bold(recorded.name)} (${recorded.id.slice(0, 8)}): recorded ` +
    `${formatSeconds(recorded.recordS)} on ${
      recorded.placement.map(({ host }) => host).join(", ")
    }, until ${ENDINGS[recorded.endedBy]}.${cut}\n\n` +
    totalsTable(recorded.vms, style) +
    `\nReplay it:  clusterrr replay ${again}\n`;
}

function statusOf(
  report: Pick<RecordReport, "endedBy" | "message">,
  { terminal }: Context,
): ExitStatus {
  if (report.endedBy !== "failure") return 0;
  terminal.err(`clusterrr: the recording failed: ${report.message ?? "no reason given"}\n`);
  return 1;
}

function usage(message: string): UsageError {
  return new UsageError(`${message}\nSee: clusterrr record --help`);
}

/** What the flags say of a failure that is sought; `undefined` where none is. */
function huntOf(options: {
  readonly onFailure: string | undefined;
  readonly onGuestFailure: boolean;
  readonly untilFailure: boolean;
  readonly maxRuns: number | undefined;
}): FailureHunt | undefined {
  const { onFailure, onGuestFailure, untilFailure, maxRuns } = options;
  if (maxRuns !== undefined && !untilFailure) throw usage("--max-runs needs --until-failure");
  if (onFailure === undefined && !onGuestFailure) {
    if (!untilFailure) return undefined;
    throw usage("--until-failure: say what a failure is, with --on-failure or --on-guest-failure");
  }
  return {
    criteria: {
      guests: onGuestFailure,
      ...(onFailure === undefined ? {} : { command: onFailure }),
    },
    runsMax: untilFailure ? maxRuns ?? Infinity : 1,
  };
}

/** With `--until-failure`, not to find one is a failure. */
function reportHunt(
  report: HuntReport,
  untilFailure: boolean,
  json: boolean,
  context: Context,
): ExitStatus {
  const { recording, runs } = report;
  if (json) printJson(context.terminal, report);
  else if (recording !== null) context.terminal.out(describe(recording, context));
  else if (!untilFailure) context.terminal.out("The run passed; its recording was deleted.\n");
  if (recording !== null) return statusOf(recording, context);
  if (!untilFailure) return 0;
  context.terminal.err(
    `clusterrr: none of ${plural(runs.length, "run")} failed; nothing is kept\n`,
  );
  return 1;
}

/** A catalog that cannot be written must not turn a good recording into a failure. */
async function addToCatalog(
  context: Context,
  report: Pick<RecordReport, "directory">,
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
