/** What a coordinator costs, by the number of its agents: a new coordinator for each, a real process. */
import { fileURLToPath } from "node:url";
import { run } from "../../host/command.ts";
import { makeAuthority, startCoordinator } from "./installation.ts";
import type { AgentsRun } from "./simulated_agents.ts";

const PROGRAM = fileURLToPath(new URL("simulated_agents.ts", import.meta.url));
const BOUND_MS = 400_000;
/** A connection is a descriptor at each end, and either process has more than those. */
const DESCRIPTORS = 8192;
const PORT = 17400;

/** Measures each of `counts`, the small numbers first, with files below `scratch`. */
export async function measureAgents(
  counts: readonly number[],
  scratch: string,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<AgentsRun[]> {
  const runs: AgentsRun[] = [];
  for (const [i, count] of counts.entries()) {
    signal.throwIfAborted();
    const directory = `${scratch}/agents-${i}`;
    await Deno.mkdir(directory);
    await makeAuthority(`${directory}/coordinator`, `${directory}/operator`);
    const prefix = ["prlimit", `--nofile=${DESCRIPTORS}`];
    await using coordinator = await startCoordinator(
      `127.0.0.1:${PORT + i}`,
      `${directory}/coordinator`,
      directory,
      prefix,
    );
    const said = await Deno.readTextFile(coordinator.log);
    const address = /listening on (\S+)/.exec(said)![1]!;
    const argv = [Deno.execPath(), "run", "-A", PROGRAM, directory, address];
    const text = await run(
      [...prefix, ...argv, `${coordinator.pid}`, `${count}`],
      { timeoutMs: BOUND_MS },
    );
    const result: AgentsRun = JSON.parse(text);
    runs.push(result);
    say(
      `  ${String(count).padStart(5)} agents: joined in ${
        result.joinS.toFixed(1)
      } s, registered in ` +
        `${result.registerS.toFixed(2)} s (${result.registerRetries} retries), start ` +
        `${result.startS.toFixed(2)} s`,
    );
  }
  return runs;
}
