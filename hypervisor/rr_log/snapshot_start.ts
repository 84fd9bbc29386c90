/**
 * The start of a log whose recording loaded a snapshot (`-loadvm`), as its replay has to read it.
 *
 * ```
 * recorded   CLOCK_HOST  CHECKPOINT_INIT  CHECKPOINT_RESET │load│             first event …
 * replayed   CLOCK_HOST  CHECKPOINT_INIT  CHECKPOINT_RESET │load│ (any event) first event …
 * asleep                                                         (any event) WARP_START  clock  first event …
 * ```
 * At the end of an event QEMU reads the kind of the next one ahead. Loading then overwrites what it had
 * read with the empty state that was saved, and it reads on: the event behind CHECKPOINT_RESET is lost
 * (QEMU replay/replay-snapshot.c, `replay_post_load`). So there has to be one that nobody misses.
 *
 * A guest that was saved asleep has the timer pending that ends its sleep, and the log begins with the main
 * loop's looks at that timer: some before the recording let the VM run, at a clock that stands, and some
 * after. A replay that has not yet been told to run would take all of them, be in time for the timer while the VM does
 * not run, and forget the sleep (QEMU softmmu/icount.c, `icount_warp_rt`): guest time then lags, and the VM
 * never wakes. CHECKPOINT_CLOCK_WARP_START is taken by a VM that runs only, so it holds the rest back until then. With
 * the clock at which the VM was loaded it changes nothing: the sleep goes on counting from its own, earlier start, and ends
 * at its own, earlier time (`icount_start_warp_timer`).
 */
import { concat } from "../../lib/bytes/concat.ts";
import { measureEvent } from "./measure.ts";
import { kindOf, type RrLogTable } from "./tables.ts";

/** What is lost: an event of one byte. */
const LOST_EVENT = "INTERRUPT";
const LAST_BEFORE_LOAD = "CHECKPOINT_RESET";

/**
 * Makes a function that is given the events of a log, in portions of whole events, and returns them as
 * the replay needs them.
 */
export function snapshotStart(table: RrLogTable): (events: Uint8Array) => Uint8Array {
  const reset = kindOf(table, LAST_BEFORE_LOAD);
  const lost = kindOf(table, LOST_EVENT);
  const warpStart = kindOf(table, "CHECKPOINT_CLOCK_WARP_START");
  const clock = kindOf(table, "CLOCK_VIRTUAL_RT");
  /** Before the load; right behind it, where a pending timer shows; further on. */
  let phase: "before" | "loaded" | "done" = "before";

  return (events) => {
    if (phase === "done") return events;
    const parts: Uint8Array[] = [];
    let from = 0;
    for (let at = 0; at < events.length && phase !== "done";) {
      const kind = events[at];
      const begin = at;
      at += measureEvent(events, at, events.length, table, "the log's start", at);
      if (phase === "before") {
        if (kind !== reset) continue;
        phase = "loaded";
        parts.push(events.subarray(from, at), Uint8Array.of(lost));
        from = at;
      } else {
        phase = "done";
        // The main loop asks how long to sleep before anything else, and reads the clock if a timer is pending.
        if (kind !== clock) break;
        parts.push(Uint8Array.of(warpStart), events.subarray(begin, at));
      }
    }
    return parts.length === 0 ? events : concat([...parts, events.subarray(from)]);
  };
}
