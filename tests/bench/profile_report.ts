/** The tables of `deno task profile`, in Markdown. */
import type { RecordReport } from "../../lib/cli/ports.ts";
import type { Phase } from "./profile_phases.ts";
import { median } from "./statistics.ts";

/** One variation, once. */
export interface ProfileRun {
  readonly server: readonly Phase[];
  readonly client: readonly Phase[];
  readonly report: RecordReport;
  /** Of both QEMUs. */
  readonly recordCpuS: number;
  readonly plainCpuS?: number;
  readonly replay?: {
    readonly cpuS: number;
    readonly wallS: number;
    readonly identical: boolean;
  };
}

/** How long the client sleeps, in its own time: guest/fetch.sh. */
const IDLE_S = 5;

type Cell = (runs: readonly ProfileRun[]) => string;

const COLUMNS: readonly (readonly [title: string, cell: Cell])[] = [
  ["boot, M instr.", (runs) => middle(runs, (run) => phase(run.server, "boot").instructions / 1e6)],
  ["boot events", (runs) => middle(runs, (run) => phase(run.server, "boot").events)],
  ["boot kB", (runs) => middle(runs, (run) => phase(run.server, "boot").bytes / 1e3, 1)],
  ["idle events/s", (runs) => middle(runs, (run) => phase(run.client, "idle").events / IDLE_S)],
  ["idle B/s", (runs) => middle(runs, (run) => phase(run.client, "idle").bytes / IDLE_S)],
  ["transfer events", (runs) => middle(runs, (run) => phase(run.client, "transfer").events)],
  ["rr log kB", (runs) => middle(runs, (run) => total(run, "rrLog") / 1e3)],
  ["stored kB", (runs) => middle(runs, (run) => total(run, "stored") / 1e3)],
  ["CPU s plain", (runs) => middle(runs, (run) => run.plainCpuS, 1)],
  ["recorded", (runs) => middle(runs, (run) => run.recordCpuS, 1)],
  ["replayed", (runs) => middle(runs, (run) => run.replay?.cpuS, 1)],
  ["record s", (runs) => middle(runs, (run) => run.report.recordS, 1)],
  ["replay s", (runs) => middle(runs, (run) => run.replay?.wallS, 1)],
  ["identical", identical],
];

/** The table: a row a variation. */
export function renderProfile(rows: readonly (readonly [string, readonly ProfileRun[]])[]): string {
  const lines = rows.filter(([, runs]) => runs.length > 0)
    .map(([name, runs]) => [name, ...COLUMNS.map(([, cell]) => cell(runs))]);
  const head = ["profile", ...COLUMNS.map(([title]) => title)];
  return [head, ["---", ...COLUMNS.map(() => "--:")], ...lines]
    .map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

/** Events of each phase by kind, of the last run of each variation. */
export function renderKinds(rows: readonly (readonly [string, readonly ProfileRun[]])[]): string {
  return rows.filter(([, runs]) => runs.length > 0).map(([name, runs]) => {
    const { server, client } = runs.at(-1)!;
    const phases = [phase(server, "boot"), phase(client, "idle"), phase(client, "transfer")];
    return `\n${name}\n` + phases.map(({ name, kinds }) => {
      const sorted = [...kinds].toSorted(([, a], [, b]) => b - a);
      return `  ${name}: ${sorted.map(([kind, count]) => `${kind} ${count}`).join(", ")}\n`;
    }).join("");
  }).join("");
}

function phase(phases: readonly Phase[], name: string): Phase {
  const found = phases.find((each) => each.name === name);
  if (found === undefined) throw new Error(`the guest did not come to its phase "${name}"`);
  return found;
}

function total({ report }: ProfileRun, what: "rrLog" | "stored"): number {
  return report.vms.reduce((sum, vm) => sum + (vm.bytes[what] ?? 0), 0);
}

function middle(
  runs: readonly ProfileRun[],
  value: (run: ProfileRun) => number | undefined,
  digits = 0,
): string {
  const values = runs.map(value).filter((each) => each !== undefined);
  if (values.length === 0) return "–";
  return median(values).toLocaleString("en", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

function identical(runs: readonly ProfileRun[]): string {
  const replays = runs.map((run) => run.replay).filter((each) => each !== undefined);
  if (replays.length === 0) return "–";
  return `${replays.filter((each) => each.identical).length} of ${replays.length}`;
}
