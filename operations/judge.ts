/** Decides whether a recorded run is the failure that is sought: by a command, or by what guests printed. */
import { ClusterrrError } from "../lib/errors.ts";
import type { JudgeOptions, Verdict } from "../lib/cli/ports.ts";
import { readManifest } from "../lib/recording/manifest.ts";

/** Judges the recording; see {@link JudgeOptions}. */
export async function judge(
  { directory, command, guests }: JudgeOptions,
  signal: AbortSignal,
): Promise<Verdict> {
  const verdicts: Verdict[] = [];
  if (guests) verdicts.push(judgeConsoles(directory));
  if (command !== undefined) verdicts.push(await judgeByCommand(directory, command, signal));
  return verdicts.find(({ failed }) => failed) ??
    { failed: false, reason: verdicts.map(({ reason }) => reason).join("; ") };
}

/** A guest says so: `status=N` with another N than 0, a line that begins with FAIL, a kernel panic. */
const FAILURES = [/\bstatus=(?!0\b)\d+/, /^\s*FAIL(?:ED|URE)?\b/, /\bKernel panic\b/];

function judgeConsoles(directory: string): Verdict {
  for (const { name, console } of readManifest(directory).vms) {
    for (const line of Deno.readTextFileSync(`${directory}/${console}`).split("\n")) {
      if (FAILURES.some((failure) => failure.test(line))) {
        return { failed: true, reason: `VM ${name} printed "${line.trim().slice(0, 120)}"` };
      }
    }
  }
  return { failed: false, reason: "no guest reported a failure" };
}

/**
 * Runs `command` in a shell, in the current directory. Its environment has `CLUSTERRR_RECORDING`, and a
 * `CLUSTERRR_CONSOLE_<VM>` for each VM, its name in capitals with `_` for `-`. What it prints goes to
 * standard error.
 */
async function judgeByCommand(
  directory: string,
  command: string,
  signal: AbortSignal,
): Promise<Verdict> {
  const env: Record<string, string> = { CLUSTERRR_RECORDING: directory };
  for (const { name, console } of readManifest(directory).vms) {
    const variable = `CLUSTERRR_CONSOLE_${name.toUpperCase().replaceAll("-", "_")}`;
    env[variable] = `${directory}/${console}`;
  }
  const { code, signal: endedBy } = await new Deno.Command("sh", {
    args: ["-c", `exec >&2\n${command}`],
    env,
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
    // What has ended the recording is no word on its judge.
    ...(signal.aborted ? {} : { signal }),
  }).spawn().status;
  if (endedBy !== null || code === 126 || code === 127) {
    throw new ClusterrrError(
      `"${command}" could not judge the run: ` +
        (endedBy === null ? `status ${code}, so it did not start` : `ended by ${endedBy}`) +
        `. The recording is kept in ${directory}.`,
    );
  }
  return { failed: code !== 0, reason: `the command ended with status ${code}` };
}
