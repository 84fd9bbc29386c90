/** `clusterrr show`: what a recording holds. */
import { object } from "@optique/core/constructs";
import { argument } from "@optique/core/primitives";
import type { CatalogEntry } from "../catalog/entry.ts";
import { ClusterrrError } from "../errors.ts";
import { type Manifest, readManifest } from "../recording/manifest.ts";
import { formatBytes, formatSeconds, formatTime } from "./quantities.ts";
import { ENDINGS } from "./record.ts";
import {
  type Context,
  defineSubcommand,
  jsonFlag,
  locateRecording,
  sentence,
  withCatalog,
} from "./subcommand.ts";
import { type Paint, paint, printJson } from "./terminal.ts";
import { totalsOf, totalsTable } from "./totals.ts";
import { recordingReference } from "./values.ts";

export const show = defineSubcommand({
  name: "show",
  brief: "Show what a recording holds.",
  description: [
    "Prints how a recording came about and, for each VM, instructions, frames and log sizes: the " +
    "size QEMU's own log would have had, and what is stored.",
  ],
  examples: ["show trio.clusterrr", "show before-the-fix --json"],
  parser: object({
    reference: argument(recordingReference(), {
      description: sentence("The recording: its directory, its name, or the beginning of its id."),
    }),
    json: jsonFlag(),
  }),
  async run({ reference, json }, context) {
    const directory = await locateRecording(context, reference);
    const manifest = readManifest(directory);
    const entry = await findEntry(context, directory);
    if (json) printJson(context.terminal, jsonOf(manifest, directory, entry));
    else {
      context.terminal.out(describe(manifest, directory, entry, paint(context.terminal.outColor)));
    }
    return 0;
  },
});

/** The catalog's view, where there is one: a recording can be shown without. */
async function findEntry(context: Context, directory: string): Promise<CatalogEntry | undefined> {
  try {
    return await withCatalog(context, (catalog) => catalog.find(directory));
  } catch (error) {
    if (error instanceof ClusterrrError) return undefined;
    throw error;
  }
}

/** What `--json` prints: a promise to scripts. */
function jsonOf(manifest: Manifest, directory: string, entry: CatalogEntry | undefined) {
  return {
    id: manifest.id,
    name: entry?.name ?? manifest.name,
    tags: entry?.tags ?? [],
    directory,
    createdAt: manifest.createdAt,
    toolVersion: manifest.toolVersion,
    state: manifest.state,
    complete: manifest.complete,
    endedBy: manifest.endedBy ?? null,
    message: manifest.message ?? null,
    recordS: manifest.timing.recordS,
    host: manifest.host,
    recorder: manifest.recorder ?? null,
    vms: manifest.vms.map((vm) => ({
      ...totalsOf(vm),
      qemu: vm.qemu.version,
      complete: vm.logComplete,
      endReason: vm.end?.reason ?? null,
    })),
  };
}

function describe(
  manifest: Manifest,
  directory: string,
  entry: CatalogEntry | undefined,
  style: Paint,
): string {
  const qemus = [...new Set(manifest.vms.map((vm) => vm.qemu.version))];
  const lines: [string, string][] = [
    ["directory", directory],
    ["created", formatTime(manifest.createdAt)],
    ["recorded", recorded(manifest, style)],
    ["by", `clusterrr ${manifest.toolVersion}, QEMU ${qemus.join(", ")}`],
    ["on", `${manifest.host.cpu}, ${manifest.host.cores} cores, Linux ${manifest.host.kernel}`],
  ];
  if (entry !== undefined) {
    lines.push(["on disk", formatBytes(entry.storedBytes)]);
    if (entry.tags.length > 0) lines.push(["tags", entry.tags.join(", ")]);
  }
  return `${style.bold(entry?.name ?? manifest.name)} (${manifest.id})\n` +
    lines.map(([key, value]) => `  ${style.dim(key.padEnd(9))}  ${value}\n`).join("") +
    `\n${totalsTable(manifest.vms.map(totalsOf), style)}`;
}

function recorded(manifest: Manifest, style: Paint): string {
  if (manifest.state === "recording") {
    return style.warn("cut off, or still being recorded: not all numbers are known");
  }
  const end = manifest.endedBy === undefined ? "" : `, until ${ENDINGS[manifest.endedBy]}`;
  const reason = manifest.message === undefined ? "" : ` (${manifest.message})`;
  const cut = manifest.complete ? "" : style.warn("; cut off: not every log was closed");
  return `${formatSeconds(manifest.timing.recordS)}${end}${reason}${cut}`;
}
