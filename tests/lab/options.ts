/** What `deno task lab` is told. */
import { parseArgs } from "node:util";
import { messageOf, UsageError } from "../../lib/errors.ts";
import type { Load } from "./samples.ts";

export const USAGE = `Usage: deno task lab [EXAMPLE…] [OPTION…]

EXAMPLE             folders of examples/; default: all with a cluster.yaml
--recordings N      recordings of each example under each load. Default 3
--replays N         replays of each recording that compare everything, beside one that is timed. Default 3
--load LIST         idle, full (a busy loop on every core), or both. Default idle,full
--stock-rounds N    rounds under stock QEMU: plain, recording, replay. Default 1
--replay-bound S    seconds after which stock QEMU's replay is given up. Default 180
--out DIR           where results, report, plots and recordings that failed go; must have no results
                    yet. Default dist/lab; with --short dist/lab-short, which is replaced
--short             what CI runs: one recording and one such replay, no stock QEMU; the trio, or the first
                    example where the trio is not among them, once more under full load
--report FILE       no run: makes the report of results again; of several, merged, if given again
`;

/** The options, checked. */
export interface Options {
  readonly examples: readonly string[];
  readonly recordings: number;
  readonly replays: number;
  readonly loads: readonly Load[];
  readonly stockRounds: number;
  readonly replayBoundS: number;
  readonly out: string;
  readonly short: boolean;
  /** Files of results; a run where there is none. */
  readonly reports: readonly string[];
  readonly help: boolean;
}

/** @throws {UsageError} */
export function parseOptions(
  args: readonly string[],
  outDefault: { readonly long: string; readonly short: string },
): Options {
  const { values, positionals } = parseOrExplain(args);
  const { short } = values;
  const number = (
    name: "recordings" | "replays" | "stock-rounds" | "replay-bound",
    normal: number,
  ) => wholeNumber(`--${name}`, values[name] ?? `${normal}`);
  const options: Options = {
    examples: positionals,
    recordings: number("recordings", short ? 1 : 3),
    replays: number("replays", short ? 1 : 3),
    loads: loadsOf(values.load ?? (short ? "idle" : "idle,full")),
    stockRounds: number("stock-rounds", short ? 0 : 1),
    replayBoundS: number("replay-bound", 180),
    out: values.out ?? (short ? outDefault.short : outDefault.long),
    short,
    reports: values.report,
    help: values.help,
  };
  if (options.reports.length > 0 && (positionals.length > 0 || short)) {
    throw new UsageError("--report runs nothing: leave out examples and --short.");
  }
  return options;
}

function parseOrExplain(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        recordings: { type: "string" },
        replays: { type: "string" },
        load: { type: "string" },
        "stock-rounds": { type: "string" },
        "replay-bound": { type: "string" },
        out: { type: "string" },
        short: { type: "boolean", default: false },
        report: { type: "string", multiple: true, default: [] },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (cause) {
    throw new UsageError(messageOf(cause), { cause });
  }
}

function wholeNumber(option: string, text: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new UsageError(`${option} must be a whole number from 0 to 9999, not "${text}".`);
}

function loadsOf(text: string): Load[] {
  return [...new Set(text.split(","))].map((name) => {
    if (name === "idle" || name === "full") return name;
    throw new UsageError(`--load is idle, full, or idle,full, not "${text}".`);
  });
}
