/** Long work that never waits: how signals and timers get in. */
import { sleep } from "./sleep.ts";

const TURN_MS = 50;

/**
 * Turns of the event loop, one every 50 ms:
 * ```ts
 * if (turns.due) await turns.take();
 * ```
 */
export class EventLoopTurns {
  #last = performance.now();

  /** @param signal ends the work, at its next turn */
  constructor(private readonly signal: AbortSignal) {}

  /** Whether it is time for one. */
  get due(): boolean {
    return performance.now() - this.#last >= TURN_MS;
  }

  /** @throws what the signal was aborted with */
  async take(): Promise<void> {
    await sleep(0);
    this.signal.throwIfAborted();
    this.#last = performance.now();
  }
}
