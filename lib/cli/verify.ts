/** `clusterrr verify`: proves that a recording replays exactly, as often as asked. */
import { object } from "@optique/core/constructs";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, flag, option } from "@optique/core/primitives";
import { integer } from "@optique/core/valueparser";
import { INDEX_DEFAULTS } from "./index.ts";
import { UsageError } from "../errors.ts";
import { withCluster } from "./cluster_options.ts";
import { placementOf, replayClusterOptions, requireCoordinatorFor } from "./placement_options.ts";
import type { VerifyReport } from "./ports.ts";
import { formatCount, formatSeconds } from "./quantities.ts";
import { explainDivergence } from "./replay.ts";
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
import { plural, renderTable } from "./table.ts";
import { type Paint, paint, printJson } from "./terminal.ts";
import { RECORDING_REFERENCE, recordingReference, traceOption } from "./values.ts";
import { passed } from "./verification.ts";

export const verify = defineSubcommand({
  name: "verify",
  brief: "Prove that a recording replays exactly.",
  description: [
    "Replays a recording and compares everything that can be compared: every frame bit for bit, " +
    "the console output, and at each recorded check the instruction count, all CPU registers and " +
    "a digest of RAM. Exit status 1 if anything differs.",
  ],
  examples: [
    "verify trio.clusterrr",
    "verify before-the-fix --runs 10 --json",
    "verify trio --parallel",
  ],
  parser: object({
    reference: argument(recordingReference(), {
      description: sentence(RECORDING_REFERENCE),
    }),
    runs: withDefault(
      option("--runs", integer({ min: 1, max: 10_000, metavar: "N" }), {
        description: sentence("How many replays. Default 1."),
      }),
      1,
    ),
    parallel: withDefault(
      flag("--parallel", {
        description: sentence(
          "Replay the parts between snapshots (clusterrr index) at the same time, and prove that " +
            "each ends in the state in which the next begins.",
        ),
      }),
      false,
    ),
    jobs: optional(option("--jobs", integer({ min: 1, max: 256, metavar: "N" }), {
      description: sentence(
        "With --parallel: how many parts at once. Default: the number of cores.",
      ),
    })),
    trace: traceOption,
    hosts: replayClusterOptions,
    json: jsonFlag("Print one JSON object, with every run in `perRun`."),
  }),
  run({ reference, runs, parallel, jobs, trace, hosts, json }, context) {
    requireCoordinatorFor(hosts);
    const onHosts = hosts.cluster.coordinator !== undefined;
    if (onHosts && (parallel || trace !== undefined)) {
      throw new UsageError("--parallel and --trace do not go with --coordinator.");
    }
    if (jobs !== undefined && !parallel) throw new UsageError("--jobs goes with --parallel.");
    if (parallel && trace !== undefined) {
      throw new UsageError("--trace is for whole replays, without --parallel.");
    }
    const atOnce = jobs ?? navigator.hardwareConcurrency;
    const slices = parallel ? { parallel: { jobs: atOnce, ...INDEX_DEFAULTS } } : {};
    return reportingDivergence(context, json, async () => {
      if (onHosts) {
        const report = await withCluster(
          context,
          hosts.cluster,
          (client) =>
            withProgress(context, json, (progress) =>
              client.verify(
                { recording: reference, runs, ...placementOf(hosts) },
                progress,
                context.signal,
              )),
        );
        return tell(report, json, context);
      }
      const directory = await locateRecording(context, reference);
      const report = await withProgress(
        context,
        json,
        (progress) =>
          context.operations.verify(
            { directory, runs, ...slices, ...(trace === undefined ? {} : { trace }) },
            progress,
            context.signal,
          ),
      );
      return tell(report, json, context);
    });
  },
});

function tell(report: VerifyReport, json: boolean, { terminal }: Context): ExitStatus {
  if (json) printJson(terminal, report);
  else terminal.out(describe(report, paint(terminal.outColor)));
  explainDivergence(terminal, report.perRun.find((run) => run.divergence)?.divergence);
  return report.ok ? 0 : 1;
}

function describe(report: VerifyReport, style: Paint): string {
  const good = report.perRun.filter((run) => run.ok).length;
  const { parts } = report.perRun[0] ?? {}; // all runs are cut at the same snapshots
  const inParts = parts === undefined ? "" : ` in ${plural(parts, "part")}`;
  const verdict = report.ok
    ? style.good(`OK: ${plural(report.runs, "replay")}${inParts}, all identical to the recording.`)
    : style.bad(
      `FAILED: ${good} of ${plural(report.runs, "replay")}${inParts} identical to the recording.`,
    );
  const cells = report.vms.map((vm) => {
    const failed = vm.checks.filter((check) => !passed(check));
    return [
      vm.name,
      vm.frames.matched === vm.frames.recorded ? "equal" : "DIFFERENT",
      `${formatCount(vm.frames.matched)} of ${formatCount(vm.frames.recorded)}`,
      vm.checks.length === 0
        ? "none"
        : `${vm.checks.length - failed.length} of ${vm.checks.length} equal`,
      vm.console ? "equal" : "DIFFERENT",
      formatSeconds(vm.recordS),
      formatSeconds(vm.replayS),
    ];
  });
  const table = renderTable(
    [
      { title: "VM" },
      { title: "FRAMES" },
      { title: "MATCHED", align: "right" },
      { title: "CHECKS", align: "right" },
      { title: "CONSOLE" },
      { title: "RECORDED", align: "right" },
      { title: "REPLAYED", align: "right" },
    ],
    cells,
    style,
  );
  const cut = report.incomplete === undefined
    ? ""
    : style.warn(`The recording is cut off: ${report.incomplete}\n`);
  return `${table}\n${failedChecks(report)}${cut}${verdict}\n`;
}

/** One line for each check that failed: where, and what differed, or that it was not reached. */
function failedChecks(report: VerifyReport): string {
  const lines: string[] = [];
  for (const vm of report.vms) {
    for (const check of vm.checks.filter((c) => !passed(c))) {
      const what = [
        check.icount ? [] : ["instruction count"],
        check.registers ? [] : ["registers"],
        check.ram ? [] : ["RAM"],
      ].flat();
      const found = check.notReached ? "not reached" : `${what.join(", ")} differ`;
      lines.push(`${vm.name} at instruction ${formatCount(check.at)}: ${found}\n`);
    }
  }
  return lines.join("");
}
