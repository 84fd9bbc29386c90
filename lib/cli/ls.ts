/** `clusterrr ls`: the catalog of recordings. */
import { object } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { multiple, optional, withDefault } from "@optique/core/modifiers";
import { argument, flag, option } from "@optique/core/primitives";
import { path } from "@optique/run/valueparser";
import type { Catalog, RescanReport } from "../catalog/catalog.ts";
import type { CatalogEntry } from "../catalog/entry.ts";
import { UsageError } from "../errors.ts";
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
    "directory is gone.",
  ],
  examples: ["ls", "ls --tag ci --json", "ls --rescan /srv/recordings"],
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
    json: jsonFlag("Print a JSON array."),
  }),
  async run({ rescan, roots, tag, json }, { terminal, ...context }) {
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
