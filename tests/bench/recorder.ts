/**
 * `deno task bench:recorder`: how many frames a second pass between two taps of a run's bridge, unwatched, with our
 * recorder, with tcpdump and with dumpcap. Interleaved, several rounds, each on a network of its own.
 * Needs root, gcc, tcpdump and dumpcap (Debian: tcpdump, tshark).
 *
 *     deno task bench:recorder [--rounds 5] [--ms 2000] [--json FILE]
 *
 * Exit status 1 where something breaks or our recorder lost an event; never for being slow.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { run } from "../../host/command.ts";
import { formatCount } from "../../lib/cli/quantities.ts";
import { renderTable } from "../../lib/cli/table.ts";
import { PLAIN } from "../../lib/cli/terminal.ts";
import { ClusterrrError, messageOf, UsageError } from "../../lib/errors.ts";
import { freshRun } from "../../net/tap_fixture.ts";
import { createNetwork, type NetworkPlan } from "../../net/topology.ts";
import { describeHost } from "../../operations/host.ts";
import { requireRoot } from "../../operations/machine.ts";
import {
  type Observed,
  observed,
  type ObserverName,
  OBSERVERS,
  RECEIVER,
  SENDER,
} from "./recorder_observers.ts";
import { compare, median, spreadOf } from "./statistics.ts";

const SOURCE = fileURLToPath(new URL("recorder_load.c", import.meta.url));
/** The shortest frame, without checksum, and the longest of an MTU of 1500. */
const FRAME_BYTES = [60, 1514] as const;

/** What `recorder_load.c` prints. */
export interface LoadRun {
  readonly seconds: number;
  /** Frames that had reached the receiver when the time was over. */
  readonly inTime: number;
  readonly sent: number;
  readonly received: number;
  readonly writerCpuS: number;
  readonly readerCpuS: number;
}

/** One measurement. */
export interface Sample {
  readonly observer: ObserverName;
  readonly bytes: number;
  readonly load: LoadRun;
  readonly observed?: Observed;
}

/** One measurement on a network of its own. */
async function measureOnce(
  observer: ObserverName,
  bytes: number,
  ms: number,
  loader: string,
): Promise<Sample> {
  const plan: NetworkPlan = {
    run: freshRun(),
    vms: [{ number: SENDER, name: "sender" }, { number: RECEIVER, name: "receiver" }],
  };
  const network = await createNetwork(plan);
  try {
    const argv = [...network.enter, loader, network.tapOf(SENDER), network.tapOf(RECEIVER)];
    const { result, ...rest } = await observed(observer, network, plan, async () => {
      const text = await run([...argv, `${bytes}`, `${ms}`], { timeoutMs: ms + 20_000 });
      return JSON.parse(text) as LoadRun;
    });
    return { observer, bytes, load: result, ...rest };
  } finally {
    await network.remove();
  }
}

/** The samples as a table of `bytes`-byte frames; medians over the rounds, which must be complete. */
export function tableOf(samples: readonly Sample[], bytes: number): string {
  const of = (name: ObserverName) =>
    samples.filter((sample) => sample.observer === name && sample.bytes === bytes);
  const rate = ({ load }: Sample) => load.inTime / load.seconds;
  const senderNs = ({ load }: Sample) => load.writerCpuS / load.sent * 1e9;
  const unwatched = of("no recorder");
  const rows = OBSERVERS.map((name) => {
    const rounds = of(name);
    const rates = spreadOf(rounds.map(rate));
    const ratio = compare(rounds.map(rate), unwatched.map(rate)).rounds;
    const seen = rounds.flatMap(({ observed }) => observed ?? []);
    const lost = seen.reduce((sum, { lost }) => sum + lost, 0);
    const all = seen.reduce((sum, { frames, lost }) => sum + frames + lost, 0);
    const cpuNs = rounds.map(({ load, observed }) => (observed?.cpuS ?? 0) / load.sent * 1e9);
    return [
      ...[name, formatCount(Math.round(rates.median))],
      `${formatCount(Math.round(rates.min))}–${formatCount(Math.round(rates.max))}`,
      ...[ratio.median.toFixed(2), `${ratio.min.toFixed(2)}–${ratio.max.toFixed(2)}`],
      median(rounds.map(senderNs)).toFixed(0),
      name === "no recorder" ? "" : median(cpuNs).toFixed(0),
      name === "no recorder" ? "" : lostText(lost, all),
    ];
  });
  return renderTable(
    [
      { title: `${bytes} BYTES` },
      { title: "FRAMES/S", align: "right" },
      { title: "ROUNDS", align: "right" },
      { title: "RATIO", align: "right" },
      { title: "ROUNDS", align: "right" },
      { title: "SENDER'S CPU NS/FRAME", align: "right" },
      { title: "OBSERVER'S", align: "right" },
      { title: "LOST", align: "right" },
    ],
    rows,
    PLAIN,
  );
}

function lostText(lost: number, all: number): string {
  return lost === 0 ? "0" : `${formatCount(lost)} (${(100 * lost / all).toFixed(1)} %)`;
}

/**
 * What our recorder missed: events that it lost, and frames that were received and that it does not have.
 * The load's first frames, by which it waits for the bridge, are more than it counts.
 */
export function missedByOurs(samples: readonly Sample[]): number {
  return samples.filter(({ observer }) => observer === "clusterrr").reduce(
    (sum, { load, observed }) =>
      sum + observed!.lost + Math.max(0, load.received - observed!.frames),
    0,
  );
}

async function main(args: string[]): Promise<number> {
  const { rounds, ms, json } = optionsOf(args);
  requireRoot("The recorder benchmark");
  await using cleanup = new AsyncDisposableStack();
  const scratch = await Deno.makeTempDir({ prefix: "clusterrr-bench-" });
  cleanup.defer(() => Deno.remove(scratch, { recursive: true }));
  const loader = `${scratch}/recorder_load`;
  await run(["gcc", "-O2", "-pthread", "-o", loader, SOURCE], {
    advice: "The recorder benchmark needs gcc: apt install gcc libc6-dev.",
  });
  const loadBefore = Deno.loadavg()[0]!;
  const samples: Sample[] = [];
  for (let round = 0; round < rounds; round++) {
    console.error(`round ${round + 1} of ${rounds}`);
    for (const bytes of FRAME_BYTES) {
      // Whoever goes first meets another machine than whoever goes last: take turns.
      for (let i = 0; i < OBSERVERS.length; i++) {
        const observer = OBSERVERS[(i + round) % OBSERVERS.length]!;
        samples.push(await measureOnce(observer, bytes, ms, loader));
      }
    }
  }
  const host = describeHost();
  console.log(
    `Frames between two taps of a bridge: medians of ${rounds} rounds of ${ms / 1000} s.\n` +
      `Linux ${host.kernel}, ${host.cores} × ${host.cpu}, load ${loadBefore.toFixed(1)} before.\n`,
  );
  for (const bytes of FRAME_BYTES) console.log(tableOf(samples, bytes));
  const lostByTaps = samples.reduce((sum, { load }) => sum + load.sent - load.received, 0);
  console.log(`Frames that did not reach the receiver, of all runs: ${formatCount(lostByTaps)}.`);
  if (json !== undefined) {
    await Deno.writeTextFile(json, JSON.stringify({ host, loadBefore, samples }, null, 1) + "\n");
  }
  const missed = missedByOurs(samples);
  if (missed > 0) console.error(`clusterrr's recorder lost ${formatCount(missed)} events.`);
  return missed > 0 ? 1 : 0;
}

/** @throws {UsageError} */
function optionsOf(args: string[]): { rounds: number; ms: number; json: string | undefined } {
  try {
    const { values } = parseArgs({
      args,
      options: {
        rounds: { type: "string", default: "5" },
        ms: { type: "string", default: "2000" },
        json: { type: "string" },
      },
    });
    const [rounds, ms] = [Number(values.rounds), Number(values.ms)];
    if (!Number.isInteger(rounds) || rounds < 1) throw new Error("--rounds: a number from 1 on");
    if (!Number.isInteger(ms) || ms < 100) throw new Error("--ms: a number from 100 on");
    return { rounds, ms, json: values.json };
  } catch (cause) {
    throw new UsageError(messageOf(cause), { cause });
  }
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    if (!(error instanceof ClusterrrError)) throw error;
    console.error(`bench:recorder: ${error.message}`);
    Deno.exit(error.exitStatus);
  }
}
