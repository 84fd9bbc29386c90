/**
 * How the threads of our QEMUs share the CPUs.
 *
 * With an event log, a QEMU's main loop and its vCPU hand one lock to and fro at every event. A main loop that runs
 * as soon as it is woken takes the CPU from a vCPU that has not let go of the lock: it sleeps again, and both have
 * to be woken once more. Under SCHED_BATCH (sched(7)) a thread that wakes waits until the CPU is free. Replays of
 * clusters that fill all CPUs take a quarter less time with it, and half the system time. But it also waits
 * for the programs of others, and then for a whole slice of theirs, which takes half as long again as without. So
 * it holds while hardly anybody else uses the machine.
 */
import { cpuTimeMs, setSchedulingPolicy } from "./libc.ts";
import { MS_PER_TICK } from "./process_stat.ts";

const LOOK_MS = 500;
/** Shares of all CPUs that others use: from the first on we are not alone, below the second we are again. */
const BUSY = 1 / 4;
const QUIET = 1 / 8;

/** What the shares are made of, each in ms of CPU time since whenever. */
export interface CpuUse {
  readonly atMs: number;
  /** Of all programs. */
  readonly all: number;
  /** Of this process, and of each QEMU by its PID. */
  readonly ours: ReadonlyMap<number, number>;
}

/**
 * The part of `cpus` CPUs that others used between two looks, 0 to 1. One of ours that was not there before has
 * been started since; the last of one that has gone counts as others'.
 */
export function foreignShare(before: CpuUse, now: CpuUse, cpus: number): number {
  let foreign = now.all - before.all;
  for (const [pid, used] of now.ours) foreign -= used - (before.ours.get(pid) ?? 0);
  return Math.max(0, foreign) / (cpus * Math.max(1, now.atMs - before.atMs));
}

/** Keeps a set of processes under SCHED_BATCH while they are nearly alone on the machine. */
export class CpuSharing {
  readonly #batch = new Map<number, boolean>();
  #alone = true;
  #last: CpuUse | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly read = useOf, private readonly lookMs = LOOK_MS) {}

  /** Takes a process in, until the function that is returned is called. */
  join(pid: number): () => void {
    this.#batch.set(pid, false);
    if (this.#timer === undefined) {
      this.#last = undefined;
      this.#timer = setInterval(() => this.#look(), this.lookMs);
      Deno.unrefTimer(this.#timer);
    }
    return () => {
      this.#batch.delete(pid);
      if (this.#batch.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    };
  }

  #look(): void {
    const now = this.read([Deno.pid, ...this.#batch.keys()]);
    const last = this.#last;
    this.#last = now;
    if (last === undefined) return;
    const share = foreignShare(last, now, navigator.hardwareConcurrency);
    if (share >= BUSY) this.#alone = false;
    else if (share < QUIET) this.#alone = true;
    const wanted = this.#alone;
    for (const [pid, batch] of this.#batch) {
      if (batch === wanted) continue;
      if (setSchedulingPolicy(pid, wanted ? "batch" : "other")) this.#batch.set(pid, wanted);
    }
  }
}

function useOf(pids: readonly number[]): CpuUse {
  const ours = new Map<number, number>();
  for (const pid of pids) {
    const used = cpuTimeMs(pid);
    if (used !== undefined) ours.set(pid, used);
  }
  return { atMs: performance.now(), all: busyMs(Deno.readTextFileSync("/proc/stat")), ours };
}

/**
 * CPU time of all programs since boot by the first line of `/proc/stat`, proc(5): user, nice, system, and not idle
 * and waiting for disks; interrupts are left out, for they are mostly those of our own frames.
 */
export function busyMs(stat: string): number {
  const [user, nice, system] = stat.slice(stat.indexOf(" ")).trimStart().split(" ", 3).map(Number);
  return (user! + nice! + system!) * MS_PER_TICK;
}
