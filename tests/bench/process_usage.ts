/** What a process has used, as the kernel counts it: /proc/PID/stat, proc(5). */

/** CPU time of a process so far, in ms, and the memory that it has in RAM. */
export function usageOf(pid: number): { cpuMs: number; rssBytes: number } {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  // The name in parentheses may hold spaces; after it, field 3 comes first (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [userTicks, systemTicks] = [Number(fields[11]), Number(fields[12])];
  return {
    cpuMs: (userTicks + systemTicks) * MS_PER_TICK,
    rssBytes: Number(fields[21]) * PAGE_BYTES,
  };
}

const MS_PER_TICK = 10;
const PAGE_BYTES = 4096;
