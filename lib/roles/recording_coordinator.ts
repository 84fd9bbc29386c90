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
import { EPOCH_MAX } from "../clocks/lamport.ts";
import { ClusterrrError, messageOf } from "../errors.ts";

/** An agent as the coordinator drives it. */
export interface RecordingAgentPort {
  arm(): void;
  run(): Promise<void>;
  /** Begins an epoch on every clock. */
  tick(epoch: number): void;
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

/** How long a recording goes on, and how often its clocks are ticked. */
export interface RecordingSchedule {
  /** Ends the recording after this time; `undefined`: when all VMs have powered off. */
  readonly durationMs: number | undefined;
  /** Epoch E begins at E times this, after the VMs began to run; 0: there are no epochs. */
  readonly epochMs: number;
}

/**
 * Runs prepared agents to the end of the recording.
 * @param interrupt ends it early: that is a complete recording too
 */
export async function coordinateRecording(
  agents: readonly RecordingAgentPort[],
  { durationMs, epochMs }: RecordingSchedule,
  interrupt: AbortSignal,
): Promise<RecordingEnd> {
  const all = (work: (agent: RecordingAgentPort) => Promise<void> | void) =>
    Promise.all(agents.map(work));
  let timer: ReturnType<typeof setTimeout> | undefined;
  let onInterrupt: () => void = () => {};
  let stopTicking = () => {};
  try {
    await all((agent) => agent.arm());
    const crash = Promise.race(agents.map((agent) => agent.crashed().then(crashOf)));
    await all((agent) => agent.run());
    stopTicking = tickPeriodically(agents, epochMs);
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
    stopTicking();
    clearTimeout(timer);
    interrupt.removeEventListener("abort", onInterrupt);
  }
}

/** Begins every epoch at its time; returns what stops that. An epoch whose time was missed is left out. */
function tickPeriodically(agents: readonly RecordingAgentPort[], epochMs: number): () => void {
  if (epochMs === 0) return () => {};
  const startedAt = performance.now();
  let timer: ReturnType<typeof setTimeout>;
  const tickAt = (epoch: number) => {
    if (epoch > EPOCH_MAX) return;
    timer = setTimeout(() => {
      const now = Math.max(epoch, Math.floor((performance.now() - startedAt) / epochMs));
      for (const agent of agents) agent.tick(Math.min(now, EPOCH_MAX));
      tickAt(now + 1);
    }, startedAt + epoch * epochMs - performance.now());
  };
  tickAt(1);
  return () => clearTimeout(timer);
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
