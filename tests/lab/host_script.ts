/** What an example wants to happen on the host beside a recording: its `host.sh`. */
import { hasGone, statFields } from "../../host/process_stat.ts";
import { sleep } from "../../lib/sleep.ts";
import type { Example } from "./examples.ts";

/** How long the script may take to end after it has been asked to. */
const END_MS = 5_000;
const POLL_MS = 20;

/**
 * Runs the example's `host.sh`, if it has one, while `work` goes on: it starts before, in the example's
 * folder, and gets SIGTERM, with all that it has started, when the work has ended.
 * @param log a file for what it prints
 */
export async function withHostScript<T>(
  { folder, hostScript }: Pick<Example, "folder" | "hostScript">,
  log: string,
  work: () => Promise<T>,
): Promise<T> {
  if (hostScript === undefined) return await work();
  const child = new Deno.Command("setpriv", {
    // Should we be killed, it is asked to end.
    args: [
      ...["--pdeathsig", "TERM", "--", "sh", "-c", 'log=$0; exec sh "$@" >"$log" 2>&1', log],
      hostScript,
    ],
    cwd: folder,
    stdin: "null",
    detached: true, // a process group of its own: what it starts ends with it
  }).spawn();
  try {
    return await work();
  } finally {
    await endGroup(child);
  }
}

async function endGroup(child: Deno.ChildProcess): Promise<void> {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    signalGroup(child.pid, signal);
    await groupEnds(child.pid);
  }
  await child.status;
}

/** Waits until nothing of the group runs any more, {@link END_MS} at most. */
async function groupEnds(group: number): Promise<void> {
  const deadline = performance.now() + END_MS;
  while (groupExists(group) && performance.now() < deadline) await sleep(POLL_MS);
}

/** Whether any process of the group is left that is not merely waiting to be collected. */
function groupExists(group: number): boolean {
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const [state, , processGroup] = statFields(name);
      if (Number(processGroup) === group && state !== "Z") return true;
    } catch {
      continue; // it has ended meanwhile
    }
  }
  return false;
}

function signalGroup(group: number, signal: Deno.Signal): void {
  try {
    Deno.kill(-group, signal);
  } catch (error) {
    if (!hasGone(error)) throw error; // nobody is left in it
  }
}
