/** What the kernel says of a process in `/proc/PID/stat`, proc(5). */

/** What it counts CPU time in there and in `/proc/stat`: USER_HZ is 100 on x86-64. */
export const MS_PER_TICK = 10;

/**
 * The fields from the third on: `[0]` is its state, `[1]` its parent, `[2]` its group. The second, its name, may hold
 * spaces and brackets: they are counted from its last bracket.
 * @throws {Deno.errors.NotFound} where there is no such process
 */
export function statFields(pid: number | string): string[] {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(")") + 2).trimEnd().split(" ");
}
