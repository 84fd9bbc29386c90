/**
 * What a recording keeps of the frame that a reference names. A log refers to another VM's frames
 * nearly in the order in which they were sent, so the sender's log is read forward, and a window of its
 * last sends is kept; a reference from before the window starts the log over.
 */
import { LogSide, type OpenLog } from "./log_side.ts";
import type { Sent } from "./observation.ts";

/** Sends that are kept of one sender, about 300 bytes each. */
const WINDOW_SENDS = 8192;

/** The sends of one VM, by number. */
export class SentFrames {
  #side: LogSide | undefined;
  #window: Sent[] = [];
  /** The number of `#window[0]`. */
  #first = 0;

  constructor(private readonly open: OpenLog) {}

  /** The frame `number`; `undefined` where the log does not reach so far. */
  find(number: number): Sent | undefined {
    if (number < this.#first) this.close();
    while (number >= this.#first + this.#window.length) {
      const sent = this.#next();
      if (sent === undefined) return undefined;
      // Copies: the bytes of a log's items share arrays with all that stood near them.
      this.#window.push({ ...sent, hash: sent.hash.slice(), head: sent.head.slice() });
      if (this.#window.length < 2 * WINDOW_SENDS) continue;
      this.#window.splice(0, WINDOW_SENDS);
      this.#first += WINDOW_SENDS;
    }
    return this.#window[number - this.#first];
  }

  close(): void {
    this.#side?.close();
    this.#side = undefined;
    this.#window = [];
    this.#first = 0;
  }

  #next(): Sent | undefined {
    const side = this.#side ??= new LogSide(this.open);
    for (;;) {
      if (side.empty) side.load();
      const { current } = side;
      if (current.item === "end") return undefined;
      side.pass();
      if (current.item === "send") return current;
    }
  }
}
