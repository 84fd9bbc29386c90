/** `clusterrr diff`: names the first place at which two runs of a cluster differ. */
import { object } from "@optique/core/constructs";
import { withDefault } from "@optique/core/modifiers";
import { argument, flag, option } from "@optique/core/primitives";
import { integer } from "@optique/core/valueparser";
import type { Difference, DiffReport, Observed, RunIdentity, VmDiff } from "../diff/observation.ts";
import type { RunPlace } from "../diff/runs.ts";
import { hexDump } from "../roles/hex_dump.ts";
import { formatCount } from "./quantities.ts";
import {
  defineSubcommand,
  jsonFlag,
  locateRecording,
  sentence,
  withProgress,
} from "./subcommand.ts";
import type { Context } from "./subcommand.ts";
import { plural, renderTable } from "./table.ts";
import { type Paint, paint, printJson } from "./terminal.ts";
import { recordingReference } from "./values.ts";

const CONTEXT_DEFAULT = 5;
const CONTEXT_MAX = 1000;
/** A cell of the table of differences; the details below it are whole. */
const CELL_CHARACTERS = 34;

const runArgument = (name: "A" | "B") =>
  argument({ ...recordingReference(), metavar: name }, {
    description: sentence("A recording (its directory, name or id) or the trace of a replay."),
  });

export const diff = defineSubcommand({
  name: "diff",
  brief: "Find the first difference between two runs.",
  description: [
    "Compares two recordings, the traces of two replays (`replay --trace`), or a trace with a " +
    "recording, VM by VM: events, instruction counts, received and sent frames, checks, ends, " +
    "consoles. Names the VM, epoch, event and instruction that differ first in the cluster, and the " +
    "first difference of every VM.",
    "Two recordings differ in their very first event, a reading of the host's clock. " +
    "With --guest-only, the first difference is one that a guest can notice. " +
    "Exit status 1 if anything differs.",
  ],
  examples: [
    "diff passing.clusterrr failing.clusterrr --guest-only",
    "diff monday.trace tuesday.trace --json",
    "diff trio.clusterrr trio.trace --context 20",
  ],
  parser: object({
    a: runArgument("A"),
    b: runArgument("B"),
    guestOnly: withDefault(
      flag("--guest-only", {
        description: sentence(
          "Leave out what only QEMU notices: host clocks and checkpoints of its main loop.",
        ),
      }),
      false,
    ),
    context: withDefault(
      option("--context", integer({ min: 0, max: CONTEXT_MAX, metavar: "N" }), {
        description: sentence(
          `Show N events before each difference. Default ${CONTEXT_DEFAULT}.`,
        ),
      }),
      CONTEXT_DEFAULT,
    ),
    json: jsonFlag(),
  }),
  async run({ a, b, guestOnly, context: contextEvents, json }, context) {
    const options = {
      a: await locateRun(context, a),
      b: await locateRun(context, b),
      guestOnly,
      context: contextEvents,
    };
    const report = await withProgress(
      context,
      json,
      (progress) => context.operations.diff(options, progress, context.signal),
    );
    if (json) printJson(context.terminal, report);
    else context.terminal.out(describe(report, paint(context.terminal.outColor)));
    for (const problem of report.vms.flatMap(({ damage }) => damage)) {
      context.terminal.err(`clusterrr: ${problem}\n`);
    }
    return report.identical ? 0 : 1;
  },
});

/** A file is a trace; anything else is a recording. */
async function locateRun(context: Context, target: string): Promise<RunPlace> {
  const info = await Deno.stat(target).catch(() => undefined);
  return info?.isFile
    ? { kind: "trace", path: target }
    : { kind: "recording", path: await locateRecording(context, target) };
}

function describe(report: DiffReport, style: Paint): string {
  const differing = report.vms.filter(({ difference }) => difference !== undefined);
  const parts = [
    `A  ${identity(report.a)}\nB  ${identity(report.b)}\n`,
    verdict(report, style),
    ...report.setup.map((line) => style.warn(`Not the same: ${line}.\n`)),
    ...report.notCompared.map((line) => `Not compared: ${line}.\n`),
    ...report.vms.flatMap((vm) => cutOffs(vm, style)),
    "\n",
    equalTable(report, style),
  ];
  if (differing.length > 0) {
    const first = differing.filter(({ vm }) => vm === report.first?.vm);
    const others = differing.filter(({ vm }) => vm !== report.first?.vm);
    parts.push("\n", differenceTable([...first, ...others], style));
    for (const vm of [...first, ...others]) parts.push("\n", details(vm, style));
  }
  return parts.join("");
}

function identity({ kind, path, name, id }: RunIdentity): string {
  return kind === "recording"
    ? `recording ${name} (${id.slice(0, 8)}), ${path}`
    : `trace of a replay of ${name} (${id.slice(0, 8)}), ${path}`;
}

function verdict({ identical, first, vms }: DiffReport, style: Paint): string {
  if (identical) return style.good(`IDENTICAL: ${plural(vms.length, "VM")}.\n`);
  if (first === undefined) return style.bad("DAMAGED, and equal as far as it can be read.\n");
  const { vm, difference: { epoch, icount, what } } = first;
  return style.bad("DIFFERENT") +
    `, first in VM ${style.bold(vm)}, epoch ${epoch}, instruction ${
      formatCount(icount)
    }: ${what}.\n`;
}

function cutOffs({ vm, cutOff, equal }: VmDiff, style: Paint): string[] {
  const lines = [["A", cutOff.a], ["B", cutOff.b]].flatMap(([side, reason]) =>
    reason === undefined ? [] : [style.warn(`${vm} in ${side} ends early: ${reason}.\n`)]
  );
  if (equal.unproven > 0) {
    const frames = plural(equal.unproven, "received frame");
    lines.push(
      style.warn(`${vm}: ${frames} taken as equal by name: the sender's log ends early.\n`),
    );
  }
  return lines;
}

function equalTable({ vms, a, b }: DiffReport, style: Paint): string {
  const traced = a.kind === "trace" || b.kind === "trace";
  return renderTable(
    [
      { title: "EQUAL IN" },
      ...["INSTRUCTIONS", "EVENTS", "RECEIVED", "SENT", "CHECKS"].map((title) => ({
        title,
        align: "right" as const,
      })),
      { title: "CONSOLE" },
      { title: "THEN" },
    ],
    vms.map(({ vm, equal, console, difference }) => [
      vm,
      formatCount(equal.instructions),
      ...(traced ? ["-", "-"] : [equal.events, equal.received].map(formatCount)),
      ...[equal.sent, equal.checks].map(formatCount),
      console.at === undefined ? console.result : `different in line ${console.at.line}`,
      difference === undefined ? "the end" : "different",
    ]),
    style,
  );
}

function differenceTable(vms: readonly VmDiff[], style: Paint): string {
  return renderTable(
    [
      { title: "VM" },
      { title: "EPOCH", align: "right" },
      { title: "INSTRUCTION", align: "right" },
      { title: "EVENT" },
      { title: "A" },
      { title: "B" },
    ],
    vms.map(({ vm, difference }) => {
      const { epoch, icount, kind, a, b } = difference!;
      return [vm, String(epoch), formatCount(icount), kind, cell(a, icount), cell(b, icount)];
    }),
    style,
  );
}

function cell(observed: Observed, icount: number): string {
  const later = observed.icount === icount ? "" : `at ${formatCount(observed.icount)}: `;
  const text = `${later}${observed.kind} ${observed.text.split("\n")[0]}`.trimEnd();
  return text.length <= CELL_CHARACTERS ? text : `${text.slice(0, CELL_CHARACTERS - 1)}…`;
}

/** What came before, and what each side has then. */
function details({ vm, difference }: VmDiff, style: Paint): string {
  const { what, a, b, context } = difference!;
  const columns = Math.max(
    ...[a, b, ...context].map(({ icount }) => formatCount(icount).length),
  );
  const line = (mark: string, observed: Observed) => {
    const [text, ...more] = observed.text.split("\n");
    const place = formatCount(observed.icount).padStart(columns);
    const start = `${mark} ${place}  ${observed.kind}`;
    return `${start}${text === "" ? "" : `  ${text}`}\n` +
      more.map((rest) => `${" ".repeat(columns + 4)}${rest}\n`).join("");
  };
  const dump = (side: Observed, other: Observed) => {
    if (side.bytes === undefined) return "";
    const bytes = Uint8Array.fromHex(side.bytes);
    const others = other.bytes === undefined ? undefined : Uint8Array.fromHex(other.bytes);
    return hexDump(bytes, others) + "\n"; // without others, no row is marked as different
  };
  return `${style.bold(vm)}: ${what}${certainty(difference!)}\n` +
    context.map((observed) => line(" ", observed)).join("") +
    line("A", a) + dump(a, b) + line("B", b) + dump(b, a);
}

function certainty({ kind }: Difference): string {
  return kind === "send" ? " (instruction counts of sends are those of their records)" : "";
}
