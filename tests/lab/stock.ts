/** A round of the same cluster under stock QEMU: plain, recording, replay, and what its logs take. */
import { run } from "../../host/command.ts";
import { inspectQemu } from "../../hypervisor/qemu/capabilities.ts";
import { loadClusterFile } from "../../lib/cluster/cluster_file.ts";
import { messageOf } from "../../lib/errors.ts";
import {
  type PeerCluster,
  type PeerRun,
  recordStock,
  replayStock,
  runPlain,
  stockLog,
} from "../bench/peers.ts";
import type { Example } from "./examples.ts";
import { withHostScript } from "./host_script.ts";
import type { StockRun, StockSample } from "./samples.ts";

/** What zstd -19 may take for one log: it does a few MB a second. */
const COMPRESS_MS_MAX = 1_800_000;

/** What a round is given. */
export interface StockSetup {
  readonly piece: number;
  /** Where its logs go; removed at the end. */
  readonly directory: string;
  /** After this, the replay is given up. */
  readonly replayBoundS: number;
  readonly signal: AbortSignal;
}

/** Runs one round. What breaks is a result. @throws the reason of `signal` */
export async function runStockRound(example: Example, setup: StockSetup): Promise<StockSample> {
  const { piece, directory, signal } = setup;
  const base = { piece, example: example.name };
  const { spec } = await loadClusterFile(example.spec);
  if (spec.vms.some((vm) => vm.serialInput !== undefined)) {
    const failure = "the laboratory types nothing into serial consoles";
    return { ...base, plain: { failure }, record: { failure } };
  }
  const qemu = await inspectQemu(spec.qemu.program);
  const { mayFail } = example;
  const cluster: PeerCluster = { spec, qemu, mayFail, createdAt: new Date().toISOString() };
  const beside = <T>(work: () => Promise<T>) =>
    withHostScript(example, `${directory}.host.log`, work);
  Deno.mkdirSync(directory);
  try {
    const plain = await attempt(signal, () => beside(() => runPlain(cluster, signal)));
    const record = await attempt(
      signal,
      () => beside(() => recordStock(cluster, directory, signal)),
    );
    const sample = { ...base, plain: timeOf(plain), record: timeOf(record) };
    if ("failure" in record) return sample;
    const logs = await measureLogs(spec.vms.map((vm) => stockLog(directory, vm)));
    const { replayBoundS } = setup;
    const replay = await attempt(
      signal,
      () => replayStock(cluster, directory, replayBoundS, signal),
    );
    return { ...sample, logs, ...replayResult(record, replay, replayBoundS) };
  } finally {
    Deno.removeSync(directory, { recursive: true });
    await Deno.remove(`${directory}.host.log`).catch(() => {});
  }
}

type Attempt = PeerRun | { readonly failure: string };

async function attempt(signal: AbortSignal, work: () => Promise<PeerRun>): Promise<Attempt> {
  try {
    return await work();
  } catch (error) {
    signal.throwIfAborted();
    return { failure: messageOf(error) };
  }
}

function timeOf(attempt: Attempt): StockRun {
  return "failure" in attempt ? { failure: attempt.failure } : { runS: attempt.runS };
}

function replayResult(
  recorded: PeerRun,
  replayed: Attempt,
  boundS: number,
): Pick<StockSample, "replay" | "consolesEqual"> {
  if ("failure" in replayed) return { replay: replayed };
  if (replayed.overBound.length > 0) return { replay: { boundS } };
  if (replayed.crash !== undefined) return { replay: { failure: replayed.crash } };
  const consolesEqual = [...recorded.consoles]
    .every(([name, text]) => replayed.consoles.get(name) === text);
  return { replay: { runS: replayed.runS }, consolesEqual };
}

async function measureLogs(paths: readonly string[]): Promise<NonNullable<StockSample["logs"]>> {
  let [bytes, zstd19Bytes] = [0, 0];
  for (const path of paths) {
    bytes += Deno.statSync(path).size;
    const command = ["sh", "-c", 'zstd -19 -q -c "$0" | wc -c', path];
    zstd19Bytes += Number(await run(command, { timeoutMs: COMPRESS_MS_MAX }));
  }
  return { bytes, zstd19Bytes };
}
