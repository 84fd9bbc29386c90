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
import { processTerminal } from "./lib/cli/terminal.ts";
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

/** Aborts at the first signal; a second one ends the process at once. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) {
      Deno.stderr.writeSync(
        new TextEncoder().encode("clusterrr: ended at once; `clusterrr clean` removes the rest\n"),
      );
      Deno.exit(1);
    }
    controller.abort(new InterruptedError("interrupted"));
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, onSignal);
  return controller.signal;
}

/** Does what the command line says and returns the exit status. */
async function main(): Promise<number> {
  restoreEnvironment();
  const terminal = processTerminal();
  const [first, ...rest] = Deno.args;
  if (first === "--version" && rest.length === 0) {
    terminal.out(await describeProgram(import.meta.dirname));
    return 0;
  }
  return await runProgram(Deno.args, {
    version: config.version,
    operations,
    terminal,
    signal: abortOnSignals(),
    openCatalog: () => openCatalog(),
  });
}

if (import.meta.main) Deno.exit(await main());
