/** `clusterrr replay`: runs a recording again and compares every frame with the recorded one. */
import { object } from "@optique/core/constructs";
import { argument } from "@optique/core/primitives";
import { type Divergence, DivergenceError } from "../errors.ts";
import type { ReplayReport } from "./ports.ts";
import { formatCount, formatSeconds } from "./quantities.ts";
import {
  defineSubcommand,
  jsonFlag,
  locateRecording,
  reportingDivergence,
  sentence,
  withProgress,
} from "./subcommand.ts";
import { renderTable } from "./table.ts";
import { type Paint, paint, printJson, type Terminal } from "./terminal.ts";
import { recordingReference, traceOption } from "./values.ts";

export const replay = defineSubcommand({
  name: "replay",
  brief: "Run a recording again, exactly.",
  description: [
    "Replays every VM of a recording: the same instructions, the same interrupts, the same frames. " +
    "Every frame that a VM sends is compared with the recorded one; the first difference ends the " +
    "replay and is reported. Exit status 1 if there is one.",
  ],
  examples: ["replay trio.clusterrr", "replay before-the-fix --json"],
  parser: object({
    reference: argument(recordingReference(), {
      description: sentence("The recording: its directory, its name, or the beginning of its id."),
    }),
    trace: traceOption,
    json: jsonFlag(),
  }),
  run({ reference, trace, json }, context) {
    return reportingDivergence(context, json, async () => {
      const directory = await locateRecording(context, reference);
      const report = await withProgress(
        context,
        json,
        (progress) =>
          context.operations.replay(
            { directory, ...(trace === undefined ? {} : { trace }) },
            progress,
            context.signal,
          ),
      );
      if (json) printJson(context.terminal, report);
      else context.terminal.out(describe(report, paint(context.terminal.outColor)));
      explainDivergence(context.terminal, report.divergence);
      return report.ok ? 0 : 1;
    });
  },
});

/** The first difference in full, on standard error. */
export function explainDivergence(terminal: Terminal, divergence: Divergence | undefined): void {
  if (divergence === undefined) return;
  terminal.err(`clusterrr: ${new DivergenceError(divergence).message}\n`);
}

function describe(report: ReplayReport, style: Paint): string {
  const verdict = report.ok
    ? style.good("identical to the recording")
    : style.bad("NOT identical to the recording");
  const table = renderTable(
    [
      { title: "VM" },
      { title: "INSTRUCTIONS", align: "right" },
      { title: "FRAMES EQUAL", align: "right" },
      { title: "CONSOLE" },
      { title: "TIME", align: "right" },
      { title: "ENDED BY" },
    ],
    report.vms.map((vm) => [
      vm.name,
      formatCount(vm.instructions),
      `${formatCount(vm.framesMatched)} of ${formatCount(vm.framesRecorded)}`,
      vm.consoleEqual ? "equal" : "DIFFERENT",
      formatSeconds(vm.replayS),
      vm.endedBy,
    ]),
    style,
  );
  const cut = report.incomplete === undefined
    ? ""
    : style.warn(`The recording is cut off: ${report.incomplete}\n`);
  return `Replayed in ${formatSeconds(report.replayS)} what took ` +
    `${formatSeconds(report.recordS)} to record: ${verdict}.\n${cut}\n${table}`;
}
