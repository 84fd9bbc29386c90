/**
 * What both sides had last, for the context of a difference: references to the events as bytes, which
 * are decoded only if there is a difference.
 */
import type { EventCodec, Observed } from "./observation.ts";

/** The shortest past that is kept: some thousand events. */
const HISTORY_BYTES = 64 << 10;
const HISTORY_ENTRIES = 4096;

type Entry =
  | { readonly bytes: Uint8Array; readonly icount: number; readonly offset: number }
  | { readonly describe: () => Observed };

export class History {
  #entries: Entry[] = [];
  #bytes = 0;

  /** @param guestOnly leave out what only QEMU's main loop notices: it need not be on both sides */
  constructor(
    private readonly codec: EventCodec,
    private readonly log: string,
    private readonly guestOnly: boolean,
  ) {}

  /** @param icount before `bytes`; @param offset of `bytes` among the log's events */
  events(bytes: Uint8Array, icount: number, offset: number): void {
    this.#bytes += bytes.length;
    this.#add({ bytes, icount, offset });
  }

  item(describe: () => Observed): void {
    this.#add({ describe });
  }

  #add(entry: Entry): void {
    this.#entries.push(entry);
    if (this.#entries.length < 2 * HISTORY_ENTRIES && this.#bytes < 2 * HISTORY_BYTES) return;
    let drop = 0;
    let left = this.#bytes;
    while (drop < this.#entries.length - 1) {
      const first = this.#entries[drop]!;
      const bytes = "bytes" in first ? first.bytes.length : 0;
      if (this.#entries.length - drop <= HISTORY_ENTRIES && left - bytes < HISTORY_BYTES) break;
      left -= bytes;
      drop++;
    }
    this.#entries.splice(0, drop);
    this.#bytes = left;
  }

  /** The last `count` things, oldest first; runs of instructions show in the counts of the others. */
  last(count: number): Observed[] {
    const parts: Observed[][] = [];
    let found = 0;
    for (let i = this.#entries.length - 1; i >= 0 && found < count; i--) {
      const entry = this.#entries[i]!;
      const part = "bytes" in entry ? this.#decode(entry, count) : [entry.describe()];
      parts.push(part);
      found += part.length;
    }
    return count === 0 ? [] : parts.reverse().flat().slice(-count);
  }

  #decode(
    { bytes, icount, offset }: Extract<Entry, { bytes: Uint8Array }>,
    count: number,
  ): Observed[] {
    const seen: Observed[] = [];
    for (const event of this.codec.decode(bytes, this.log, offset)) {
      icount += event.instructions;
      if (event.instructions > 0 || (this.guestOnly && event.hostOnly)) continue;
      seen.push({ icount, kind: event.kind, text: event.text });
      if (seen.length >= 2 * count + 64) seen.splice(0, seen.length - count);
    }
    return seen.slice(-count);
  }
}
