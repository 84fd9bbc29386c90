/**
 * Entry point: puts the command line together with what drives this host, turns Ctrl-C and SIGTERM
 * into an abort, and ends the process with the command's exit status.
 */
import config from "./deno.json" with { type: "json" };
import { checkHost } from "./host/doctor.ts";
import { restoreEnvironment } from "./host/launch.ts";
import { tableForQemu } from "./hypervisor/rr_log/tables.ts";
import { openCatalog } from "./lib/catalog/catalog.ts";
import type { Operations } from "./lib/cli/ports.ts";
import { runProgram } from "./lib/cli/program.ts";
import { OutputClosed, processTerminal, type Terminal } from "./lib/cli/terminal.ts";
import { ClusterrrError, InterruptedError } from "./lib/errors.ts";
import { describeProgram } from "./operations/about.ts";
import { boot } from "./operations/boot.ts";
import { clean } from "./operations/clean.ts";
import { clusterOperations } from "./operations/cluster.ts";
import { diff } from "./operations/diff.ts";
import { dump } from "./operations/dump.ts";
import { index } from "./operations/index.ts";
import { judge } from "./operations/judge.ts";
import { pack } from "./operations/pack.ts";
import { record } from "./operations/record.ts";
import { replay } from "./operations/replay.ts";
import { askSession, openSession } from "./operations/sessions.ts";
import { listSnapshots, removeSnapshot } from "./operations/snapshots.ts";
import { timeline } from "./operations/timeline.ts";
import { unpack } from "./operations/unpack.ts";
import { verify } from "./operations/verify.ts";

const operations: Operations = {
  boot,
  record,
  judge,
  snapshots: listSnapshots,
  removeSnapshot,
  replay,
  verify,
  diff,
  index,
  pack,
  unpack,
  openSession,
  askSession,
  dump,
  timeline,
  clean,
  cluster: clusterOperations,
  checkHost: () => checkHost({ objectionToQemu }),
};

/** What is wrong with a QEMU of this version: nothing, if its event log is known. */
function objectionToQemu(version: string): string | undefined {
  try {
    tableForQemu(version);
    return undefined;
  } catch (error) {
    if (error instanceof ClusterrrError) return error.message;
    throw error;
  }
}

/** Aborts at the first signal, also where the terminal goes away; Ctrl-C again ends the process at once. */
function abortOnSignals(terminal: Terminal): AbortSignal {
  const controller = new AbortController();
  const abort = () => controller.abort(new InterruptedError("interrupted"));
  const onSignal = () => {
    if (controller.signal.aborted) {
      terminal.err("clusterrr: ended at once; `clusterrr clean` removes the rest\n");
      Deno.exit(1);
    }
    abort();
  };
  // With the first listener, Deno itself begins to listen to this signal, and no longer ignores it.
  const outlives = ignoresHangup();
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, onSignal);
  // A shell and the kernel may both send it: the second is no order to hurry.
  Deno.addSignalListener("SIGHUP", outlives ? () => {} : abort);
  return controller.signal;
}

/** Whether this process was started to outlive its terminal, nohup(1). */
function ignoresHangup(): boolean {
  const SIGHUP = 1n << 0n;
  const [, ignored] = /^SigIgn:\s*(\w+)$/m.exec(Deno.readTextFileSync("/proc/self/status")) ?? [];
  return (BigInt(`0x${ignored ?? 0}`) & SIGHUP) !== 0n;
}

/** Does what the command line says and returns the exit status. */
async function main(): Promise<number> {
  restoreEnvironment();
  const terminal = processTerminal();
  const [first, ...rest] = Deno.args;
  if (first === "--version" && rest.length === 0) {
    const text = await describeProgram(import.meta.dirname);
    try {
      terminal.out(text);
    } catch (error) {
      if (!(error instanceof OutputClosed)) throw error;
    }
    return 0;
  }
  return await runProgram(Deno.args, {
    version: config.version,
    operations,
    terminal,
    signal: abortOnSignals(terminal),
    openCatalog: () => openCatalog(),
  });
}

if (import.meta.main) Deno.exit(await main());
