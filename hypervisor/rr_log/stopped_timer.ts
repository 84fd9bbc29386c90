/**
 * What QEMU does not log when it is stopped while the timer that ends a guest's sleep is due.
 *
 * ```
 * sleeping       CHECKPOINT_CLOCK_WARP_START  CLOCK_VIRTUAL_RT s │ CHECKPOINT_CLOCK_VIRTUAL_RT  CLOCK_VIRTUAL_RT …
 * it is due      CHECKPOINT_CLOCK_VIRTUAL_RT  CLOCK_VIRTUAL_RT     CLOCK_VIRTUAL_RT c     guest time += c − s
 * stopped, due   CHECKPOINT_CLOCK_VIRTUAL_RT  CLOCK_VIRTUAL_RT     (nothing)              guest time stays
 * ```
 * The timer (`icount_warp_timer`) fires in the main loop's turn that takes the stop; its callback sees that the VM
 * does not run, forgets the sleep and reads no clock (QEMU softmmu/icount.c, `icount_warp_rt`). A replay is not stopped
 * there: it would read one, take the next event for it, and stand still for ever. It is given one: s, by which guest
 * time stays. On a busy host the timer is often late, so that stops hit it: one recording in three did not replay.
 *
 * Where the timer is not due, the main loop reads the clock too, to find out how long to sleep. So the place is where no
 * clock follows at all; a reset of the machine stands before that clock (`main_loop_should_exit`). s is the time of the first start since CHECKPOINT_CLOCK_WARP_ACCOUNT, behind which the
 * timer is off, that set the timer: behind one that does not, there is no CHECKPOINT_CLOCK_VIRTUAL_RT.
 */
import { concat } from "../../lib/bytes/concat.ts";
import type { LogMender } from "../../lib/roles/replay_source.ts";
import { lengthsOf, measureEvent } from "./measure.ts";
import { kindOf, type RrLogTable } from "./tables.ts";

const CLOCK_BYTES = 9;

/** What was seen of a turn of the main loop. */
type Seen =
  | "nothing"
  /** CHECKPOINT_CLOCK_WARP_START. */
  | "start"
  /** And its clock. */
  | "start's clock"
  /** CHECKPOINT_CLOCK_VIRTUAL_RT. */
  | "timers"
  /** And its clock: what comes next tells. */
  | "timers' clock";

/** Puts the clocks that are missing into one log, from its start or from inside a run of instructions on. */
export function stoppedTimerMender(table: RrLogTable): LogMender {
  const start = kindOf(table, "CHECKPOINT_CLOCK_WARP_START");
  const account = kindOf(table, "CHECKPOINT_CLOCK_WARP_ACCOUNT");
  const timers = kindOf(table, "CHECKPOINT_CLOCK_VIRTUAL_RT");
  const clock = kindOf(table, "CLOCK_VIRTUAL_RT");
  const reset = kindOf(table, "CHECKPOINT_RESET_REQUESTED");
  const lengths = lengthsOf(table);
  let seen: Seen = "nothing";
  /** The clock of the start that was seen last, and of the one that the timer counts from. */
  let candidate: Uint8Array | undefined;
  let since: Uint8Array | undefined;

  /** An event of this kind comes next, or, with -1, a received frame: the clock that is missing before it, if one is. */
  const missingBefore = (kind: number): Uint8Array | undefined => {
    if (kind === reset) return undefined;
    const missing = seen === "timers' clock" && kind !== clock ? since : undefined;
    if (missing !== undefined || kind === account) since = undefined;
    if (kind === timers && seen === "start's clock") since ??= candidate;
    if (kind === clock && seen === "start") seen = "start's clock";
    else if (kind === clock && seen === "timers") seen = "timers' clock";
    else seen = kind === start ? "start" : kind === timers ? "timers" : "nothing";
    return missing;
  };

  return {
    events(bytes) {
      const parts: Uint8Array[] = [];
      let from = 0;
      for (let at = 0; at < bytes.length;) {
        const kind = bytes[at]!;
        const missing = missingBefore(kind);
        if (missing !== undefined) {
          parts.push(bytes.subarray(from, at), missing);
          from = at;
        }
        if (seen === "start's clock") candidate = bytes.slice(at, at + CLOCK_BYTES);
        const length = lengths[kind]!;
        at += length > 0 ? length : measureEvent(bytes, at, bytes.length, table, "the log", at);
      }
      return parts.length === 0 ? bytes : concat([...parts, bytes.subarray(from)]);
    },
    beforeFrame: () => missingBefore(-1),
  };
}
