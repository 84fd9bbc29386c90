/** `clusterrr replay`: runs a recording again and compares every frame with the recorded one. */
import { object } from "@optique/core/constructs";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, flag, option } from "@optique/core/primitives";
import { type Divergence, DivergenceError, UsageError } from "../errors.ts";
import { withCluster } from "./cluster_options.ts";
import { placementOf, replayClusterOptions, requireCoordinatorFor } from "./placement_options.ts";
import type { ReplayReport } from "./ports.ts";
import { formatBytes, formatCount, formatSeconds } from "./quantities.ts";
import {
  type Context,
  defineSubcommand,
  type ExitStatus,
  jsonFlag,
  locateRecording,
  reportingDivergence,
  sentence,
  withProgress,
} from "./subcommand.ts";
import { renderTable } from "./table.ts";
import { type Paint, paint, printJson, type Terminal } from "./terminal.ts";
import { runSession } from "./session_prompt.ts";
import {
  RECORDING_REFERENCE,
  recordingReference,
  seekTarget,
  traceOption,
  vmNames,
  windowLength,
} from "./values.ts";

export const replay = defineSubcommand({
  name: "replay",
  brief: "Run a recording again, exactly.",
  description: [
    "Replays every VM of a recording: the same instructions, the same interrupts, the same frames. " +
    "Every frame that a VM sends is compared with the recorded one; the first difference ends the " +
    "replay and is reported. Exit status 1 if there is one.",
  ],
  examples: [
    "replay trio.clusterrr",
    "replay before-the-fix --json",
    "replay trio.clusterrr --to 42            # checkpoint 42; commands at a prompt",
    "replay trio.clusterrr --to 12.5s --hold & until clusterrr state --json; do sleep 1; done",
    "replay trio.clusterrr --to 123456789@left",
    "replay trio.clusterrr --gdb left,right",
    "replay trio --coordinator 10.0.0.1:7400 --on alpha,beta",
  ],
  parser: object({
    reference: argument(recordingReference(), {
      description: sentence(RECORDING_REFERENCE),
    }),
    to: optional(option("--to", seekTarget(), {
      description: sentence(
        "Stop every VM at a checkpoint (42), at an instruction of a VM (1234567@left) or at the last checkpoint " +
          "up to a time of the recording (12.5s), and wait for commands: at a prompt, or one a line from standard " +
          "input.",
      ),
    })),
    hold: withDefault(
      flag("--hold", {
        description: sentence(
          "With --to or --gdb: take no commands from standard input, but from `clusterrr state` and the like, " +
            "until one of them is quit.",
        ),
      }),
      false,
    ),
    gdb: optional(option("--gdb", vmNames(), {
      description: sentence(
        "Give these VMs a gdb socket each, and print the command; they stand at --to, or at the start. " +
          "Reverse execution works too.",
      ),
    })),
    windowEpochs: optional(option("--window", windowLength(), {
      description: sentence(
        "How many checkpoints a VM may be ahead of the slowest; `off`: any number, but not with --coordinator. Default 16.",
      ),
    })),
    trace: traceOption,
    hosts: replayClusterOptions,
    json: jsonFlag(),
  }),
  run({ reference, to, hold, gdb, windowEpochs, trace, hosts, json }, context) {
    const stops = to !== undefined || gdb !== undefined;
    requireCoordinatorFor(hosts);
    const onHosts = hosts.cluster.coordinator !== undefined;
    if (onHosts && (stops || trace !== undefined)) {
      throw new UsageError(
        "--to, --gdb and --trace are for a recording on this host: `clusterrr collect` brings it here.",
      );
    }
    if (onHosts && windowEpochs === Infinity) {
      throw new UsageError("--window off is for a replay on this host: name a number.");
    }
    if (hold && !stops) throw new UsageError("--hold goes with --to or --gdb.");
    if (stops && trace !== undefined) {
      throw new UsageError("--trace is for a whole replay, without --to and --gdb.");
    }
    const window = windowEpochs === undefined ? {} : { windowEpochs };
    return reportingDivergence(context, json, async () => {
      if (onHosts) {
        const report = await withCluster(
          context,
          hosts.cluster,
          (client) =>
            withProgress(context, json, (progress) =>
              client.replay(
                { recording: reference, ...placementOf(hosts), ...window },
                progress,
                context.signal,
              )),
        );
        return tell(report, json, context);
      }
      const directory = await locateRecording(context, reference);
      if (stops) {
        const options = { directory, ...(to && { target: to }), ...(gdb && { gdb }), ...window };
        return await runSession(context, options, { hold, json });
      }
      const report = await withProgress(
        context,
        json,
        (progress) =>
          context.operations.replay(
            { directory, ...window, ...(trace === undefined ? {} : { trace }) },
            progress,
            context.signal,
          ),
      );
      return tell(report, json, context);
    });
  },
});

function tell(report: ReplayReport, json: boolean, { terminal }: Context): ExitStatus {
  if (json) printJson(terminal, report);
  else terminal.out(describe(report, paint(terminal.outColor)));
  explainDivergence(terminal, report.divergence);
  return report.ok ? 0 : 1;
}

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
  const held = `Held for VMs that were behind: at most ${formatBytes(report.queueBytesMax)}.\n`;
  return `Replayed in ${formatSeconds(report.replayS)} what took ` +
    `${formatSeconds(report.recordS)} to record: ${verdict}.\n${cut}\n${table}${held}`;
}
