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
import { sleep, sleepUnless } from "../sleep.ts";

/** An agent as the coordinator drives it. */
export interface RecordingAgentPort {
  arm(): Promise<void> | void;
  run(): Promise<void>;
  /** Begins an epoch on every clock of the host: when it is done, no frame is stamped earlier. */
  tick(epoch: number): Promise<void> | void;
  quiesce(): Promise<void>;
  seal(): Promise<void>;
  abort(): Promise<void>;
  /** Resolves when every VM has ended; rejects when recording fails. To be asked for after `arm`. */
  readonly finished: Promise<void>;
  /**
   * Resolves with what ends the recording although it has not failed: a VM that ended otherwise than by
   * its guest's wish, a host that was lost. The phases that follow pass over what is lost.
   */
  crashed(): Promise<ClusterrrError>;
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
  /** The VMs run already, for so long, and have been ticked up to an epoch: the coordinator is another. */
  readonly running?: { readonly elapsedMs: number; readonly epoch: number };
}

/** What a coordinator tells of its work. */
export interface RecordingObserver {
  /**
   * A phase begins, or, of "running", has begun. Where it is to survive the coordinator, it is written
   * down before this resolves.
   * @param end what ends the recording, once that is known
   */
  phase(
    phase: "arming" | "running" | "quiescing" | "sealing",
    end?: RecordingEnd,
  ): Promise<void> | void;
  /** Every agent has begun an epoch; that took `ms`. */
  ticked?(ms: number): void;
}

/**
 * Runs prepared agents to the end of the recording.
 * @param interrupt ends it early: that is a complete recording too
 */
export async function coordinateRecording(
  agents: readonly RecordingAgentPort[],
  { durationMs, epochMs, running }: RecordingSchedule,
  interrupt: AbortSignal,
  observer: RecordingObserver = { phase: () => {} },
): Promise<RecordingEnd> {
  const all = (work: (agent: RecordingAgentPort) => Promise<void> | void) =>
    Promise.all(agents.map(work));
  let timer: ReturnType<typeof setTimeout> | undefined;
  let onInterrupt: () => void = () => {};
  const ticking = new AbortController();
  try {
    if (running === undefined) {
      await observer.phase("arming");
      await all((agent) => agent.arm());
    }
    const crash = Promise.race(agents.map((agent) => agent.crashed()))
      .then((error): RecordingEnd => ({ by: "failure", error }));
    if (running === undefined) {
      await all((agent) => agent.run());
      await observer.phase("running");
    }
    const end = await Promise.race<RecordingEnd>([
      all((agent) => agent.finished).then(() => ({ by: "poweroff" })),
      new Promise<RecordingEnd>((resolve) => {
        if (durationMs !== undefined) {
          const left = durationMs - (running?.elapsedMs ?? 0);
          timer = setTimeout(() => resolve({ by: "duration" }), Math.max(0, left));
        }
        onInterrupt = () => resolve({ by: "interrupt" });
        interrupt.addEventListener("abort", onInterrupt, { once: true });
        if (interrupt.aborted) onInterrupt();
      }),
      crash,
      tickPeriodically(agents, epochMs, running, observer, ticking.signal),
    ]);
    ticking.abort();
    if (end.by !== "poweroff") {
      await observer.phase("quiescing", end);
      await all((agent) => agent.quiesce());
    }
    await observer.phase("sealing", end);
    await all((agent) => agent.seal());
    if (end.by !== "poweroff") return end;
    // The log of a VM that crashed closes before its process is reaped: now it has been, and is heard of first.
    return await Promise.race([crash, sleep(0).then(() => end)]);
  } catch (error) {
    await Promise.allSettled(agents.map((agent) => agent.abort())); // what failed first is reported
    const failure = error instanceof ClusterrrError
      ? error
      : new ClusterrrError(`Recording failed: ${messageOf(error)}`, { cause: error });
    return { by: "failure", error: failure };
  } finally {
    ticking.abort();
    clearTimeout(timer);
    interrupt.removeEventListener("abort", onInterrupt);
  }
}

/**
 * Begins every epoch at its time, and none before every agent has begun the one before: that is what
 * consistent cuts rest on. An epoch whose time was missed is left out. Ends only with a failure.
 */
async function tickPeriodically(
  agents: readonly RecordingAgentPort[],
  epochMs: number,
  running: RecordingSchedule["running"],
  observer: RecordingObserver,
  signal: AbortSignal,
): Promise<never> {
  const startedAt = performance.now() - (running?.elapsedMs ?? 0);
  const elapsed = () => performance.now() - startedAt;
  // A coordinator that was killed between two hosts left them in different epochs.
  if (running !== undefined && running.epoch > 0) {
    await Promise.all(agents.map((agent) => agent.tick(running.epoch)));
  }
  for (let last = running?.epoch ?? 0; epochMs > 0 && last < EPOCH_MAX;) {
    if (!await sleepUnless((last + 1) * epochMs - elapsed(), signal)) break;
    const epoch = Math.min(Math.max(last + 1, Math.floor(elapsed() / epochMs)), EPOCH_MAX);
    const from = performance.now();
    await Promise.all(agents.map((agent) => agent.tick(epoch)));
    observer.ticked?.(performance.now() - from);
    last = epoch;
  }
  return await new Promise(() => {});
}
