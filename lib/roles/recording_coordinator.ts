/**
 * The coordinator's part of a recording: all agents start and stop together, in two phases, so that
 * the recording is one consistent global state from its first instruction to its last.
 *
 * ```
 * prepare (VMs created, paused) ─▶ arm ─▶ run ─▶ … ─▶ quiesce (all stand still) ─▶ seal (logs end)
 *                                          │ every VM has powered off ──────────▶ seal
 *                                          └ failure ─▶ quiesce, seal what can be ─▶ throw
 * ```
 * Agents are driven through {@link RecordingAgentPort}: in this process now, on other hosts later.
 */
import { ClusterrrError, messageOf } from "../errors.ts";

/** An agent as the coordinator drives it. */
export interface RecordingAgentPort {
  arm(): void;
  run(): Promise<void>;
  quiesce(): Promise<void>;
  seal(): Promise<void>;
  abort(): Promise<void>;
  /** Resolves when every VM has ended; rejects when recording fails. */
  readonly finished: Promise<void>;
  /** Resolves with the first VM that ended otherwise than by its guest's wish. */
  crashed(): Promise<
    { name: string; end: { code: number | null; signal: string | null; stderr: string } }
  >;
}

/** What ended a recording. */
export type RecordingEnd =
  | { readonly by: "poweroff" | "duration" | "interrupt" }
  | { readonly by: "failure"; readonly error: ClusterrrError };

/**
 * Runs prepared agents to the end of the recording.
 * @param durationMs ends the recording after this time; `undefined`: when all VMs have powered off
 * @param interrupt ends it early: that is a complete recording too
 */
export async function coordinateRecording(
  agents: readonly RecordingAgentPort[],
  durationMs: number | undefined,
  interrupt: AbortSignal,
): Promise<RecordingEnd> {
  const all = (work: (agent: RecordingAgentPort) => Promise<void> | void) =>
    Promise.all(agents.map(work));
  let timer: ReturnType<typeof setTimeout> | undefined;
  let onInterrupt: () => void = () => {};
  try {
    await all((agent) => agent.arm());
    const crash = Promise.race(agents.map((agent) => agent.crashed().then(crashOf)));
    await all((agent) => agent.run());
    const end = await Promise.race<RecordingEnd>([
      all((agent) => agent.finished).then(() => ({ by: "poweroff" })),
      new Promise<RecordingEnd>((resolve) => {
        if (durationMs !== undefined) {
          timer = setTimeout(() => resolve({ by: "duration" }), durationMs);
        }
        onInterrupt = () => resolve({ by: "interrupt" });
        interrupt.addEventListener("abort", onInterrupt, { once: true });
        if (interrupt.aborted) onInterrupt();
      }),
      crash,
    ]);
    if (end.by !== "poweroff") await all((agent) => agent.quiesce());
    await all((agent) => agent.seal());
    if (end.by !== "poweroff") return end;
    // The log of a VM that crashed closes before its process is reaped: now it has been.
    return await Promise.race([crash, nextTurn().then(() => end)]);
  } catch (error) {
    await Promise.allSettled(agents.map((agent) => agent.abort())); // what failed first is reported
    const failure = error instanceof ClusterrrError
      ? error
      : new ClusterrrError(`Recording failed: ${messageOf(error)}`, { cause: error });
    return { by: "failure", error: failure };
  } finally {
    clearTimeout(timer);
    interrupt.removeEventListener("abort", onInterrupt);
  }
}

/** Lets everything that is settled be heard first. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

function crashOf(
  { name, end }: Awaited<ReturnType<RecordingAgentPort["crashed"]>>,
): RecordingEnd {
  const how = end.signal === null ? `ended with status ${end.code}` : `was ended by ${end.signal}`;
  const said = end.stderr.trim();
  const error = new ClusterrrError(
    `QEMU of VM ${name} ${how}${said ? ": " + said : ""}\n` +
      "The other VMs were stopped; the recording is kept and replays up to there.",
  );
  return { by: "failure", error };
}
