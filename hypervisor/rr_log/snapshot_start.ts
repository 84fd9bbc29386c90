/**
 * The start of a log whose recording loaded a snapshot (`-loadvm`), as its replay has to read it.
 *
 * ```
 * recorded   CLOCK_HOST  CHECKPOINT_INIT  CHECKPOINT_RESET │load│             first event …
 * replayed   CLOCK_HOST  CHECKPOINT_INIT  CHECKPOINT_RESET │load│ (any event) first event …
 * ```
 * At the end of an event QEMU reads the kind of the next one ahead. Loading then overwrites what it had
 * read with the empty state that was saved, and it reads on: the event behind CHECKPOINT_RESET is lost
 * (QEMU replay/replay-snapshot.c, `replay_post_load`). So there has to be one that nobody misses.
 */
import { measureEvent } from "./measure.ts";
import type { RrLogTable } from "./tables.ts";

/** What is lost: an event of one byte. */
const LOST_EVENT = "INTERRUPT";
const LAST_BEFORE_LOAD = "CHECKPOINT_RESET";

/**
 * Makes a function that is given the events of a log, in portions of whole events, and returns them as
 * the replay needs them.
 */
export function snapshotStart(table: RrLogTable): (events: Uint8Array) => Uint8Array {
  const kindOf = (name: string) => table.kinds.findIndex((kind) => kind.name === name);
  const reset = kindOf(LAST_BEFORE_LOAD);
  const lost = kindOf(LOST_EVENT);
  let loaded = false;
  return (events) => {
    if (loaded) return events;
    for (let at = 0; at < events.length;) {
      const kind = events[at];
      at += measureEvent(events, at, events.length, table, "the log's start", at);
      if (kind !== reset) continue;
      loaded = true;
      const whole = new Uint8Array(events.length + 1);
      whole.set(events.subarray(0, at));
      whole[at] = lost;
      whole.set(events.subarray(at), at + 1);
      return whole;
    }
    return events;
  };
}
