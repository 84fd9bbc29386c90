/**
 * What is measured, and in which order: rounds that interleave ours with stock QEMU's, so that a
 * machine that grows slower or busier meanwhile does so to both; then the codec; then verification,
 * half of it with every core kept busy.
 */
import { fileURLToPath } from "node:url";
import { run } from "../../host/command.ts";
import type { RecordReport, ReplayReport, VerifyReport } from "../../lib/cli/ports.ts";
import { messageOf } from "../../lib/errors.ts";
import { withBusyCores } from "./busy_cores.ts";
import { type CodecRun } from "./codec.ts";
import { Commands, type Timed } from "./commands.ts";
import {
  OTHER_PROFILES,
  type OtherProfile,
  type PeerCluster,
  type PeerRun,
  recordStock,
  replayStock,
  runPlain,
  stockLog,
  withProfile,
} from "./peers.ts";

const CODEC = fileURLToPath(new URL("codec.ts", import.meta.url));
/** Rr log bytes that the codec gets. */
const CODEC_BYTES = 200e6;

/** How much is measured. */
export interface Plan {
  /** The cluster file. */
  readonly spec: string;
  readonly runs: number;
  /** Replays compared with the recording, an even number: half of them with every core kept busy. */
  readonly verifyRuns: number;
  /** After this, stock QEMU's replay is given up. */
  readonly replayBoundS: number;
}

/** Everything once. */
export interface Round {
  readonly plain: PeerRun;
  readonly record: Timed<RecordReport>;
  readonly replay: Timed<ReplayReport>;
  readonly stock: StockRuns;
  /** Of the other profiles, those with which stock QEMU got through. */
  readonly stockOther: Readonly<Partial<Record<OtherProfile["name"], StockRuns>>>;
}

/** A recording by stock QEMU and its replay. */
export interface StockRuns {
  readonly record: PeerRun;
  /** Bytes of all VMs' rr files. */
  readonly logBytes: number;
  readonly replay: PeerRun;
  /** Whether the replay came to its end and printed what the recording did. */
  readonly equal: boolean;
}

/** What a benchmark came to. */
export interface Results {
  readonly rounds: readonly Round[];
  /** One run each a round. */
  readonly codec: { readonly bare: readonly CodecRun[]; readonly hashed: readonly CodecRun[] };
  readonly verify?: { readonly idle: VerifyReport; readonly busy: VerifyReport };
}

type Say = (line: string) => void;

/**
 * Measures `plan` with files below `scratch`.
 * @throws {ClusterrrError} where a run breaks; the reason of `signal`
 */
export async function measure(
  plan: Plan,
  cluster: PeerCluster,
  scratch: string,
  say: Say,
  signal: AbortSignal,
): Promise<Results> {
  const commands = new Commands(scratch, signal);
  const rounds: Round[] = [];
  for (let i = 0; i < plan.runs; i++) {
    say(`round ${i + 1} of ${plan.runs}`);
    rounds.push(await measureRound(i, plan, cluster, commands, scratch, say, signal));
  }
  const codec = { bare: [] as CodecRun[], hashed: [] as CodecRun[] };
  for (let i = 0; i < plan.runs; i++) {
    for (const kind of ["bare", "hashed"] as const) {
      const run = await measureCodec(kind, plan, cluster, scratch);
      codec[kind].push(run);
      say(`  codec, ${kind.padEnd(8)} ${seconds(run.seconds)}`);
      signal.throwIfAborted();
    }
  }
  if (plan.verifyRuns === 0) return { rounds, codec };
  const recording = recordingOf(scratch, plan.runs - 1);
  const half = plan.verifyRuns / 2;
  say(`verify: ${half} replays with nothing else of ours running`);
  const idle = (await commands.verify(recording, half)).report;
  say(`verify: ${half} replays with every core kept busy`);
  const busy = await withBusyCores(async () => (await commands.verify(recording, half)).report);
  return { rounds, codec, verify: { idle, busy } };
}

function recordingOf(scratch: string, round: number): string {
  return `${scratch}/recording-${round}`;
}

function stockDirectoryOf(scratch: string, round: number): string {
  return `${scratch}/stock-${round}`;
}

async function measureRound(
  index: number,
  plan: Plan,
  cluster: PeerCluster,
  commands: Commands,
  scratch: string,
  say: Say,
  signal: AbortSignal,
): Promise<Round> {
  const stockOther: Partial<Record<OtherProfile["name"], StockRuns>> = {};
  const round: { -readonly [K in keyof Round]?: Round[K] } = { stockOther };
  const recording = recordingOf(scratch, index);
  const groups = [
    async () => {
      round.plain = await runPlain(cluster, signal);
      say(`  plain           ${seconds(round.plain.runS)}`);
    },
    async () => {
      round.record = await commands.record(plan.spec, recording);
      say(`  record          ${seconds(round.record.report.recordS)}`);
      round.replay = await commands.replay(recording);
      say(`  replay          ${seconds(round.replay.report.replayS)}`);
    },
    async () => {
      const directory = stockDirectoryOf(scratch, index);
      round.stock = await measureStock("stock", cluster, directory, plan, say, signal);
    },
    ...OTHER_PROFILES.map((profile) => async () => {
      const other = withProfile(cluster, profile);
      if (other === undefined) return;
      const { name } = profile;
      const directory = `${scratch}/${name}`;
      try {
        stockOther[name] = await measureStock(name, other, directory, plan, say, signal);
      } catch (error) {
        signal.throwIfAborted();
        say(`  ${name}: ${messageOf(error)}`);
      } finally {
        await Deno.remove(directory, { recursive: true }); // some 100 MB
      }
    }),
  ];
  // Whoever goes first meets another machine than whoever goes last: take turns.
  for (let i = 0; i < groups.length; i++) await groups[(index + i) % groups.length]!();
  return round as Round;
}

/** `what` stands before each time: `stock record`. */
async function measureStock(
  what: string,
  cluster: PeerCluster,
  directory: string,
  { replayBoundS }: Plan,
  say: Say,
  signal: AbortSignal,
): Promise<StockRuns> {
  Deno.mkdirSync(directory);
  const record = await recordStock(cluster, directory, signal);
  say(`  ${what} record`.padEnd(18) + seconds(record.runS));
  const logBytes = cluster.spec.vms
    .reduce((sum, vm) => sum + Deno.statSync(stockLog(directory, vm)).size, 0);
  const replay = await replayStock(cluster, directory, replayBoundS, signal);
  const { runS, overBound, crash = "" } = replay;
  const late = overBound.length > 0 ? `not ended: ${overBound.join(", ")}` : crash;
  say(`  ${what} replay`.padEnd(18) + `${seconds(runS)}  ${late}`);
  return { record, logBytes, replay, equal: consolesEqual(record, replay) };
}

function consolesEqual(recorded: PeerRun, replayed: PeerRun): boolean {
  return [...recorded.consoles].every(([name, text]) => replayed.consoles.get(name) === text);
}

async function measureCodec(
  kind: "bare" | "hashed",
  { runs }: Plan,
  { spec }: PeerCluster,
  scratch: string,
): Promise<CodecRun> {
  const logs = Array.from({ length: runs }, (_, round) => stockDirectoryOf(scratch, round))
    .flatMap((directory) => spec.vms.map((vm) => stockLog(directory, vm)));
  const directory = `${scratch}/codec`;
  const argv = [Deno.execPath(), "run", "-A", CODEC, kind, directory, `${CODEC_BYTES}`, ...logs];
  try {
    return JSON.parse(await run(argv, { timeoutMs: 120_000 }));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function seconds(value: number): string {
  return `${value.toFixed(2).padStart(7)} s`;
}
