/**
 * CPU time of QEMUs that run below this process, whoever started them: sampled, for a process that has
 * ended tells nobody but its parent. What a QEMU uses after its last sample is missing. To look through /proc
 * takes some ms: oftener, it would be the load that QEMUs make room for.
 */
import { cpuTimeMs } from "../../host/libc.ts";
import { statFields } from "../../host/process_stat.ts";

const SAMPLE_MS = 500;

/** Runs `work` and adds up what all QEMUs used that were there meanwhile, in s. */
export async function withQemuCpu<T>(work: () => Promise<T>): Promise<{ result: T; cpuS: number }> {
  const usedMs = new Map<number, number>();
  const sample = () => {
    for (const pid of qemusBelow(Deno.pid)) {
      const used = cpuTimeMs(pid);
      if (used !== undefined) usedMs.set(pid, used);
    }
  };
  const timer = setInterval(sample, SAMPLE_MS);
  try {
    const result = await work();
    return { result, cpuS: [...usedMs.values()].reduce((sum, ms) => sum + ms, 0) / 1000 };
  } finally {
    clearInterval(timer);
  }
}

/** PIDs of the QEMUs among a process's descendants. */
function qemusBelow(ancestor: number): number[] {
  const parents = new Map<number, number>();
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      parents.set(Number(name), Number(statFields(name)[1]));
    } catch {
      continue; // it has just ended
    }
  }
  return [...parents.keys()].filter((pid) => {
    for (let at = parents.get(pid); at !== undefined && at > 1; at = parents.get(at)) {
      if (at === ancestor) return isQemu(pid);
    }
    return false;
  });
}

function isQemu(pid: number): boolean {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/comm`).startsWith("qemu-system");
  } catch {
    return false; // it has just ended
  }
}
