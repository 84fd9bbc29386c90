/** `clusterrr ls`: the catalog of recordings. */
import { object } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { multiple, optional, withDefault } from "@optique/core/modifiers";
import { argument, flag, option } from "@optique/core/primitives";
import { path } from "@optique/run/valueparser";
import type { Catalog, RescanReport } from "../catalog/catalog.ts";
import type { CatalogEntry } from "../catalog/entry.ts";
import { UsageError } from "../errors.ts";
import type { RecordingEntry } from "../protocol/control.ts";
import { clusterOptions, withCluster } from "./cluster_options.ts";
import { formatBytes, formatTime } from "./quantities.ts";
import { defineSubcommand, jsonFlag, sentence, withCatalog } from "./subcommand.ts";
import { plural, renderTable } from "./table.ts";
import { paint, printJson, type Terminal } from "./terminal.ts";
import { label } from "./values.ts";

const ID_CHARACTERS = 8;

export const ls = defineSubcommand({
  name: "ls",
  brief: "List the recordings.",
  description: [
    "Lists the recordings in the catalog, the newest first. With --rescan it first looks for " +
    "recordings in and below each ROOT (default: the current directory), and forgets those whose " +
    "directory is gone. With --coordinator it lists those on the coordinator's hosts.",
  ],
  examples: [
    "ls",
    "ls --tag ci --json",
    "ls --rescan /srv/recordings",
    "ls --coordinator 10.0.0.1:7400",
  ],
  parser: object({
    rescan: withDefault(
      flag("--rescan", { description: sentence("Bring the catalog up to date with the disk.") }),
      false,
    ),
    roots: multiple(argument(path({ metavar: "ROOT", type: "directory" }), {
      description: message`With ${{ type: "optionName", optionName: "--rescan" }}: where to look.`,
    })),
    tag: optional(option("--tag", label("tag"), {
      description: sentence("Only recordings with this tag."),
    })),
    cluster: clusterOptions,
    json: jsonFlag("Print a JSON array."),
  }),
  async run({ rescan, roots, tag, cluster, json }, { terminal, ...context }) {
    if (cluster.coordinator !== undefined) {
      if (rescan || roots.length > 0 || tag !== undefined) {
        throw new UsageError("ROOT, --rescan and --tag are for this host.");
      }
      const recordings = await withCluster(
        { terminal, ...context },
        cluster,
        (client) => client.recordings(),
      );
      if (json) printJson(terminal, recordings);
      else terminal.out(describeOnHosts(terminal, recordings));
      return 0;
    }
    if (roots.length > 0 && !rescan) {
      throw new UsageError(`"${roots[0]}": directories to search need --rescan`);
    }
    const entries = await withCatalog({ terminal, ...context }, async (catalog: Catalog) => {
      if (rescan) {
        explain(terminal, await catalog.rescan(roots.length > 0 ? roots : ["."]));
      }
      return await catalog.list(tag === undefined ? {} : { tag });
    });
    if (json) printJson(terminal, entries.map(({ renamed: _, ...entry }) => entry));
    else terminal.out(describe(terminal, entries, tag));
    return 0;
  },
});

function describeOnHosts(terminal: Terminal, recordings: readonly RecordingEntry[]): string {
  if (recordings.length === 0) {
    return "The hosts have no recordings yet. Make one: clusterrr record SPEC --coordinator HOST:PORT\n";
  }
  const style = paint(terminal.outColor);
  return renderTable(
    [
      { title: "ID" },
      { title: "NAME" },
      { title: "CREATED" },
      { title: "VMS", align: "right" },
      { title: "STATE" },
      { title: "HOSTS" },
    ],
    recordings.map((each) => [
      each.id.slice(0, ID_CHARACTERS),
      each.name,
      formatTime(each.createdAt),
      String(each.placement.reduce((sum, { vms }) => sum + vms.length, 0)),
      each.complete ? "complete" : "cut off",
      each.placement.map(({ host }) => host).join(","),
    ]),
    style,
  );
}

function explain(terminal: Terminal, report: RescanReport): void {
  for (const { path, reason } of report.unreadable) {
    terminal.err(`clusterrr: skipped ${path}: ${reason}\n`);
  }
  for (const entry of report.dropped) {
    terminal.err(`forgot ${entry.name}: ${entry.path} is gone\n`);
  }
  for (const entry of report.added) terminal.err(`found ${entry.name}: ${entry.path}\n`);
}

function describe(
  terminal: Terminal,
  entries: readonly CatalogEntry[],
  tag: string | undefined,
): string {
  if (entries.length === 0) {
    return tag === undefined
      ? "No recordings yet. Make one: clusterrr record SPEC --out DIR\n"
      : `No recordings with the tag ${tag}.\n`;
  }
  const style = paint(terminal.outColor);
  const here = Deno.hostname();
  const table = renderTable(
    [
      { title: "ID" },
      { title: "NAME" },
      { title: "CREATED" },
      { title: "VMS", align: "right" },
      { title: "SIZE", align: "right" },
      { title: "STATE" },
      { title: "TAGS" },
      { title: "DIRECTORY" },
    ],
    entries.map((entry) => [
      entry.id.slice(0, ID_CHARACTERS),
      entry.name,
      formatTime(entry.createdAt),
      String(entry.vms.length),
      formatBytes(entry.storedBytes),
      entry.complete ? "complete" : "cut off",
      entry.tags.join(","),
      entry.host === here ? entry.path : `${entry.host}:${entry.path}`,
    ]),
    style,
    (text, row, column) =>
      column === 1
        ? style.bold(text)
        : column === 5 && !entries[row]!.complete
        ? style.warn(text)
        : text,
  );
  const bytes = entries.reduce((sum, entry) => sum + entry.storedBytes, 0);
  return `${table}${style.dim(`${plural(entries.length, "recording")}, ${formatBytes(bytes)}`)}\n`;
}
