/** What a process has used, as the kernel counts it: /proc/PID/stat and /proc/PID/status, proc(5). */
import { hasGone, MS_PER_TICK, statFields } from "../../host/process_stat.ts";

/** CPU time of a process so far, in ms, and the memory that it has in RAM. */
export function usageOf(pid: number): { cpuMs: number; rssBytes: number } {
  const fields = statFields(pid);
  const [userTicks, systemTicks] = [Number(fields[11]), Number(fields[12])];
  return {
    cpuMs: (userTicks + systemTicks) * MS_PER_TICK,
    rssBytes: Number(fields[21]) * PAGE_BYTES,
  };
}

const PAGE_BYTES = 4096;

/** The most memory that a process has had in RAM so far (`VmHWM`); 0 of one that has ended. */
function peakRssBytes(pid: number): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
}

/** What one process used until it ended. Its children, QEMU among them, are not in it. */
export interface ProcessUse {
  readonly cpuS: number;
  readonly rssBytesMax: number;
}

const METER_MS = 50;

/** Watches a process to its end: what it had used is gone with it, so it is read again and again. */
export class ProcessMeter {
  #cpuMs = 0;
  #rssBytesMax = 0;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(private readonly pid: number) {
    this.#timer = setInterval(() => this.#read(), METER_MS);
  }

  #read(): void {
    try {
      this.#cpuMs = Math.max(this.#cpuMs, usageOf(this.pid).cpuMs);
      this.#rssBytesMax = Math.max(this.#rssBytesMax, peakRssBytes(this.pid));
    } catch (error) {
      if (!hasGone(error)) throw error; // it ends between two looks
    }
  }

  /** Ends the watch; what was used up to the last look, 50 ms before the end at most. */
  stop(): ProcessUse {
    clearInterval(this.#timer);
    return { cpuS: this.#cpuMs / 1000, rssBytesMax: this.#rssBytesMax };
  }
}
