/** `clusterrr boot`: boots a cluster and saves it, for recordings that start from there. */
import { object } from "@optique/core/constructs";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, flag, option } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import { path } from "@optique/run/valueparser";
import { UsageError } from "../errors.ts";
import type { BootReport } from "./ports.ts";
import { formatBytes, formatCount, formatSeconds } from "./quantities.ts";
import { defineSubcommand, jsonFlag, sentence, withProgress } from "./subcommand.ts";
import { renderTable } from "./table.ts";
import { paint, printJson, type Terminal } from "./terminal.ts";
import { duration, label } from "./values.ts";

const TIMEOUT_MS = 10 * 60_000;

export const boot = defineSubcommand({
  name: "boot",
  brief: "Boot a cluster and save it, to record from there.",
  description: [
    "Boots every VM of the cluster file without recording, waits until the guests are ready, pauses " +
    "all at one moment and saves them, with the frames that are on their way. Say what ready means: " +
    "a text that every guest's console has shown (--until), a time (--after), or a time after the text.",
    "`record --from NAME` starts there, as often as you like. The snapshot keeps the cluster's " +
    "description; kernels and disk images have to stay where they are.",
  ],
  examples: [
    "boot cluster.yaml --save ready --until 'login:'",
    "boot cluster.yaml --save warm --until READY --after 30s --force",
  ],
  parser: object({
    spec: argument(path({ metavar: "SPEC", type: "file" }), {
      description: sentence("The cluster file (YAML)."),
    }),
    save: option("--save", label("name"), { description: sentence("The snapshot's name.") }),
    until: optional(option("--until", string({ metavar: "TEXT" }), {
      description: sentence("Ready once the console of every VM has shown this text."),
    })),
    afterMs: optional(option("--after", duration(), {
      description: sentence("Ready after this time; with --until, this long after the text."),
    })),
    timeoutMs: withDefault(
      option("--timeout", duration(), {
        description: sentence("Fail if the text takes longer than this. Default 10m."),
      }),
      TIMEOUT_MS,
    ),
    force: withDefault(
      flag("--force", { description: sentence("Replace a snapshot of that name.") }),
      false,
    ),
    json: jsonFlag(),
  }),
  async run({ json, until, afterMs, ...rest }, context) {
    if (until === undefined && afterMs === undefined) {
      throw usage("Say when the guests are ready: --until TEXT, --after DURATION, or both.");
    }
    if (until === "") throw usage("--until: every console shows an empty text at once.");
    const wanted = {
      ...rest,
      ...(until === undefined ? {} : { until }),
      ...(afterMs === undefined ? {} : { afterMs }),
    };
    const report = await withProgress(
      context,
      json,
      (progress) => context.operations.boot(wanted, progress, context.signal),
    );
    if (json) printJson(context.terminal, report);
    else context.terminal.out(describe(report, context.terminal));
    return 0;
  },
});

function usage(message: string): UsageError {
  return new UsageError(`${message}\nSee: clusterrr boot --help`);
}

function describe(report: BootReport, terminal: Terminal): string {
  const style = paint(terminal.outColor);
  const columns = [
    { title: "VM" },
    { title: "INSTRUCTIONS", align: "right" as const },
    { title: "STATE", align: "right" as const },
    { title: "FRAMES IN FLIGHT", align: "right" as const },
  ];
  const rows = report.vms.map((vm) => [
    vm.name,
    formatCount(vm.instructions),
    formatBytes(vm.stateBytes),
    formatCount(vm.framesInFlight),
  ]);
  return `${style.bold(report.name)}: saved after ${formatSeconds(report.bootS)}, ` +
    `${formatBytes(report.bytes)} in ${report.directory}.\n\n` +
    renderTable(columns, rows, style) +
    `\nRecord from it:  clusterrr record --from ${report.name} --out DIR\n`;
}
