/** What the kernel says of a process in `/proc/PID/stat`, proc(5). */
import { errnoOf } from "../lib/errors.ts";

const ESRCH = 3;

/** What it counts CPU time in there and in `/proc/stat`: USER_HZ is 100 on x86-64. */
export const MS_PER_TICK = 10;

/**
 * The fields from the third on: `[0]` is its state, `[1]` its parent, `[2]` its group. The second, its name, may hold
 * spaces and brackets: they are counted from its last bracket.
 * @throws what {@link hasGone} knows, where there is no such process
 */
export function statFields(pid: number | string): string[] {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(")") + 2).trimEnd().split(" ");
}

/**
 * Whether `error` says that a process or thread has gone: that there is no such file below `/proc`, or, where it ended
 * between open and read, no such process. For that, ESRCH, Deno has no class.
 */
export function hasGone(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || errnoOf(error) === ESRCH;
}
