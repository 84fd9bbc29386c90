/** What the coordinator tells of its runs and hosts to whoever counts them: metrics. */

/** How a run ended. */
export type RunOutcome = "completed" | "failed" | "aborted";

export interface RunObserver {
  /** An epoch of the recording `run` has begun on every host; that took `ms`. */
  ticked(run: string, ms: number): void;
  /** `run` has ended: as it should, by a failure, or before anything was recorded or found. */
  ended(run: string, outcome: RunOutcome): void;
  /** The host has been removed. */
  removed(host: string): void;
}

/** For who does not count. */
export const NO_OBSERVER: RunObserver = { ticked: () => {}, ended: () => {}, removed: () => {} };
