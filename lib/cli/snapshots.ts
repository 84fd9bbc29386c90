/** `clusterrr snapshots`: what `clusterrr boot` has saved, and its removal. */
import { object } from "@optique/core/constructs";
import { optional } from "@optique/core/modifiers";
import { argument, command } from "@optique/core/primitives";
import { formatBytes, formatTime } from "./quantities.ts";
import { defineSubcommand, jsonFlag, sentence } from "./subcommand.ts";
import { plural, renderTable } from "./table.ts";
import { paint, printJson, type Terminal } from "./terminal.ts";
import { label } from "./values.ts";
import type { SnapshotEntry } from "../snapshot/store.ts";

export const snapshots = defineSubcommand({
  name: "snapshots",
  brief: "List the saved snapshots, or remove one.",
  description: [
    "Lists what `clusterrr boot` has saved. `snapshots rm NAME` deletes a snapshot; recordings that " +
    "started from it cannot be replayed any more, unless they carry a copy (`pack --images`, DIR/snapshot).",
  ],
  examples: ["snapshots", "snapshots --json", "snapshots rm ready"],
  parser: object({
    remove: optional(command(
      "rm",
      object({
        name: argument(label("name"), { description: sentence("The snapshot's name.") }),
      }),
      { brief: sentence("Delete a snapshot.") },
    )),
    json: jsonFlag(),
  }),
  async run({ remove, json }, { operations, terminal }) {
    if (remove !== undefined) {
      operations.removeSnapshot(remove.name);
      if (json) printJson(terminal, { deleted: remove.name });
      else terminal.out(`Deleted snapshot ${remove.name}.\n`);
      return 0;
    }
    const entries = await operations.snapshots();
    if (json) printJson(terminal, entries);
    else terminal.out(describe(entries, terminal));
    return 0;
  },
});

function describe(entries: readonly SnapshotEntry[], terminal: Terminal): string {
  if (entries.length === 0) {
    return "No snapshots yet. Make one: clusterrr boot SPEC --save NAME\n";
  }
  const style = paint(terminal.outColor);
  const columns = [
    { title: "NAME" },
    { title: "SAVED" },
    { title: "SIZE", align: "right" as const },
    { title: "VMS" },
    { title: "SHA-256" },
  ];
  const rows = entries.map((entry) => [
    entry.name,
    entry.savedAt === undefined ? "" : formatTime(entry.savedAt),
    formatBytes(entry.bytes),
    entry.vms?.join(",") ?? "",
    entry.sha256?.slice(0, 16) ?? `damaged: ${entry.problem!.split("\n")[0]}`,
  ]);
  const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  const total = `${plural(entries.length, "snapshot")}, ${formatBytes(bytes)}`;
  return `${renderTable(columns, rows, style)}${style.dim(total)}\n`;
}
