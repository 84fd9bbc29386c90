/**
 * The laboratory's order: round after round over all examples, so that a machine that grows slower or busier
 * meanwhile does so to all. After each sample everything is on disk.
 */
import { fileURLToPath } from "node:url";
import { commitOf } from "../../host/commit.ts";
import { run } from "../../host/command.ts";
import { inspectQemu } from "../../hypervisor/qemu/capabilities.ts";
import { describeHost } from "../../operations/host.ts";
import type { Commands } from "../bench/commands.ts";
import { buildImages, type Example } from "./examples.ts";
import type { Options } from "./options.ts";
import {
  emptyResults,
  type Load,
  type Piece,
  type RecordingSample,
  type Results,
  type StockSample,
  writeResults,
} from "./samples.ts";
import { runStockRound } from "./stock.ts";
import { timedReplayOf } from "./summary.ts";
import { runTrial } from "./trial.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const QEMU = "qemu-system-x86_64";

/** What is to be measured. */
export interface Plan
  extends Pick<Options, "recordings" | "replays" | "loads" | "stockRounds" | "replayBoundS"> {
  readonly examples: readonly Example[];
  /** The example that is also recorded and replayed once under full load, whatever `loads` says. */
  readonly alsoFull?: string;
}

/** Where it is measured. */
export interface Place {
  /** Results and recordings that are kept. */
  readonly out: string;
  /** What is removed at the end. */
  readonly scratch: string;
  readonly commands: Commands;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/** Measures `plan` into `results.json` below `place.out`. @throws the reason of the signal */
export async function measure(plan: Plan, place: Place): Promise<Results> {
  const results = emptyResults(await describePiece(plan));
  const path = `${place.out}/results.json`;
  writeResults(path, results);
  for (const example of plan.examples) {
    const sample = await prepare(example, place);
    if (sample !== undefined) results.recordings.push(sample);
  }
  const ready = plan.examples.filter(({ name }) =>
    !results.recordings.some(({ example }) => example === name)
  );
  const rounds = Math.max(plan.recordings, plan.stockRounds);
  for (let round = 0; round < rounds; round++) {
    place.say(`round ${round + 1} of ${rounds}`);
    for (const example of ready) {
      for (const load of loadsOf(plan, example, round)) {
        results.recordings.push(await trial(example, load, round, plan, place));
        writeResults(path, results);
      }
      if (round < plan.stockRounds) {
        results.stock.push(await stockRound(example, round, plan, place));
        writeResults(path, results);
      }
    }
  }
  writeResults(path, results);
  return results;
}

/** What an example that has no images is reported as; `undefined` where it is ready. */
async function prepare(
  example: Example,
  { say, signal }: Place,
): Promise<RecordingSample | undefined> {
  say(`images of ${example.name}`);
  try {
    await buildImages(example);
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    const failure = `its images cannot be built: ${error instanceof Error ? error.message : error}`;
    say(`  ${failure}`);
    return {
      ...{ piece: 0, example: example.name, load: "idle", mayFail: example.mayFail },
      ...{ failure, unfinishedWork: [], replays: [] },
    };
  }
}

function loadsOf(plan: Plan, { name }: Example, round: number): readonly Load[] {
  if (round >= plan.recordings) return [];
  const extra = round === 0 && name === plan.alsoFull && !plan.loads.includes("full");
  return extra ? [...plan.loads, "full"] : plan.loads;
}

async function trial(
  example: Example,
  load: Load,
  round: number,
  { replays }: Plan,
  { out, commands, say, signal }: Place,
): Promise<RecordingSample> {
  const recording = `${out}/recordings/${example.name}-${load}-${round + 1}`;
  const setup = { commands, recording, replays, load, piece: 0, signal };
  const sample = await runTrial(example, setup);
  say(`  ${example.name}, ${load}: ${trialLine(sample)}`);
  return sample;
}

/** What one trial came to, in a line. */
export function trialLine(sample: RecordingSample): string {
  const { recorded, failure, unfinishedWork, replayTime, replays, kept } = sample;
  if (recorded === undefined) return `no recording: ${failure}`;
  const identical = replays.filter((replay) => replay.identical);
  const time = (replayS: number | undefined) => replayS === undefined ? "?" : replayS.toFixed(1);
  const times = replays.map(({ replayS }) => time(replayS));
  const alone = timedReplayOf(sample)[0]?.replayS;
  const problems = [
    ...unfinishedWork,
    ...replayTime !== undefined && "failure" in replayTime ? [replayTime.failure] : [],
    ...replays.flatMap(({ difference }) => difference === undefined ? [] : [difference]),
    ...kept === undefined ? [] : [`kept in ${kept}`],
  ];
  return [
    `recorded ${recorded.recordS.toFixed(1)} s, replayed ${time(alone)} s, verified ${
      times.join(", ")
    } s, ` +
    `${identical.length} of ${replays.length} identical`,
    ...problems,
  ].join("; ");
}

async function stockRound(
  example: Example,
  round: number,
  { replayBoundS }: Plan,
  { scratch, say, signal }: Place,
): Promise<StockSample> {
  const directory = `${scratch}/stock-${example.name}-${round + 1}`;
  const sample = await runStockRound(example, { piece: 0, directory, replayBoundS, signal });
  const text = (name: string, run: StockSample["replay"]) => {
    if (run === undefined) return `no ${name}`;
    if ("failure" in run) return `${name} failed: ${run.failure}`;
    return "boundS" in run
      ? `${name} not ended after ${run.boundS} s`
      : `${name} ${run.runS.toFixed(1)} s`;
  };
  say(
    `  ${example.name}, stock QEMU: ${text("plain", sample.plain)}, ` +
      `${text("record", sample.record)}, ${text("replay", sample.replay)}`,
  );
  return sample;
}

async function describePiece(plan: Plan): Promise<Piece> {
  const memory = /^MemTotal:\s+(\d+) kB$/m.exec(Deno.readTextFileSync("/proc/meminfo"));
  const zstd = /v(\d+\.\d+\.\d+)/.exec(await run(["zstd", "--version"]))?.[1];
  return {
    startedAt: new Date().toISOString(),
    ...describeHost(),
    memoryBytes: Number(memory?.[1] ?? 0) * 1024,
    qemu: (await inspectQemu(QEMU)).version,
    deno: Deno.version.deno,
    zstd: zstd ?? "unknown",
    commit: await commitOf(ROOT) ?? "unknown",
    loadBefore: Deno.loadavg()[0]!,
    options: {
      examples: plan.examples.map(({ name }) => name),
      recordings: plan.recordings,
      replays: plan.replays,
      loads: [...plan.loads],
      stockRounds: plan.stockRounds,
    },
  };
}
