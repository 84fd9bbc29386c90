/**
 * `deno task lab`: records and replays the examples again and again, idle and under full load, beside
 * stock QEMU, and reports what came of it. Needs root.
 *
 * ```
 * examples ─▶ images ─▶ record, replay … ─▶ results.json ─▶ report.md, *.svg
 *                 └──▶ stock QEMU ─────────────▲
 * ```
 * Exit status 1 where a recording failed or a replay was not identical: its recording is kept.
 */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "../../build/build.ts";
import { run } from "../../host/command.ts";
import { plural } from "../../lib/cli/table.ts";
import { ClusterrrError, InterruptedError, UsageError } from "../../lib/errors.ts";
import { requireRoot } from "../../operations/machine.ts";
import { Commands } from "../bench/commands.ts";
import { findExamples } from "./examples.ts";
import { measure } from "./laboratory.ts";
import { type Options, parseOptions, USAGE } from "./options.ts";
import { plotsOf } from "./plots.ts";
import { renderMarkdown } from "./report.ts";
import { mergeResults, readResults, type Results, writeResults } from "./samples.ts";
import { failureOf, summarize } from "./summary.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
/** Where end-to-end tests have the built file too. */
const BUILT = `${ROOT}dist/tested/clusterrr`;
const OUT = `${ROOT}dist/lab`;
/** Of the short form, where no other is named: each run replaces the one before. */
const SHORT_OUT = `${ROOT}dist/lab-short`;

/** Measures, and writes results and report below `options.out`. Partial ones, where it is interrupted. */
async function runLab(options: Options, signal: AbortSignal): Promise<Results> {
  requireRoot("The laboratory");
  const examples = findExamples(options.examples);
  await using cleanup = new AsyncDisposableStack();
  const scratch = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "clusterrr-lab-" });
  cleanup.defer(() => Deno.remove(scratch, { recursive: true }));
  say("building clusterrr");
  await build({ out: BUILT, packing: "self-extracting" });
  // A copy: the tests of this checkout may build again meanwhile.
  const program = `${scratch}/clusterrr`;
  await Deno.copyFile(BUILT, program);
  const commands = new Commands(scratch, signal, [], [program]);
  await run(["env", `CLUSTERRR_CACHE=${scratch}/cache`, program, "--version"]); // unpacks it
  await Deno.mkdir(`${options.out}/recordings`, { recursive: true });
  const { recordings, replays, loads, stockRounds, replayBoundS, out, short } = options;
  const alsoFull = short
    ? (examples.find(({ name }) => name === "trio") ?? examples[0])?.name
    : undefined;
  return await measure(
    {
      ...{ examples, recordings, replays, loads, stockRounds, replayBoundS },
      ...alsoFull === undefined ? {} : { alsoFull },
    },
    { out, scratch, commands, say, signal },
  );
}

/** Writes report and plots of `results` into the folder `out`. */
function writeReport(out: string, results: Results): void {
  const plots = plotsOf(summarize(results));
  for (const [name, plot] of plots) Deno.writeTextFileSync(`${out}/${name}`, plot);
  Deno.writeTextFileSync(`${out}/report.md`, renderMarkdown(results, plots.keys()));
}

/** A line for each example and the sum of them; false where one failed. */
function judge(results: Results): boolean {
  const failures = summarize(results).map((summary) => {
    const failure = failureOf(summary);
    const replays = summary.loads.reduce((sum, { identical }) => sum + identical.good, 0);
    console.log(
      failure === undefined
        ? `PASS lab ${summary.example}: ${plural(replays, "replay")} identical`
        : `FAIL lab ${summary.example}: ${failure}`,
    );
    return failure;
  });
  const failed = failures.filter((failure) => failure !== undefined).length;
  console.log(`lab: ${failures.length - failed} passed, ${failed} failed`);
  return failed === 0;
}

function refuseOldResults(out: string): void {
  if (!existsSync(`${out}/results.json`)) return;
  throw new UsageError(`${out} has results already: name another --out, or remove it.`);
}

async function main(options: Options, signal: AbortSignal): Promise<boolean> {
  const { out, reports } = options;
  if (reports.length > 0) {
    const written = resolve(out, "results.json");
    if (!reports.some((path) => resolve(path) === written)) refuseOldResults(out);
    const merged = mergeResults(reports.map(readResults));
    await Deno.mkdir(out, { recursive: true });
    writeResults(`${out}/results.json`, merged);
    writeReport(out, merged);
    return judge(merged);
  }
  if (out === SHORT_OUT) await Deno.remove(out, { recursive: true }).catch(() => {});
  refuseOldResults(out);
  try {
    await runLab(options, signal);
  } finally {
    // What was measured before an interruption is worth a report.
    const results = await Deno.stat(`${out}/results.json`).then(
      () => readResults(`${out}/results.json`),
      () => undefined,
    );
    if (results !== undefined && results.recordings.length + results.stock.length > 0) {
      writeReport(out, results);
      say(`report: ${out}/report.md`);
    }
    await Deno.remove(`${out}/recordings`).catch(() => {}); // only where nothing is kept in it
  }
  return judge(readResults(`${out}/results.json`));
}

function say(line: string): void {
  console.error(line);
}

if (import.meta.main) {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => {
      if (controller.signal.aborted) Deno.exit(1);
      say("Ending the run that is under way; once more ends at once.");
      controller.abort(new InterruptedError("Interrupted: the results so far are kept."));
    });
  }
  try {
    const options = parseOptions(Deno.args, { long: OUT, short: SHORT_OUT });
    if (options.help) console.log(USAGE);
    else Deno.exit(await main(options, controller.signal) ? 0 : 1);
  } catch (cause) {
    // What was interrupted fails in many ways.
    const error = controller.signal.aborted ? controller.signal.reason : cause;
    const usage = error instanceof UsageError ? `\n${USAGE}` : "";
    say(
      error instanceof ClusterrrError
        ? `lab: ${error.message}\n${usage}`
        : `lab: ${(error as Error).stack}`,
    );
    Deno.exit(error instanceof ClusterrrError ? error.exitStatus : 1);
  }
}
