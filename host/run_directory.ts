/**
 * What a run of clusterrr leaves on this host while it goes on, and how a dead run's is found:
 *
 * ```
 * /run/clusterrr/RUN/       sockets, FIFOs, owner.json: often in memory, and small
 * /var/tmp/clusterrr-RUN/   its scratch, what may grow: overlays of disks, VM states, consoles of replays
 * ```
 * A run whose owner is gone, or is another process with the same number, is left over: `clusterrr clean`
 * removes it.
 */
import { lstatSync } from "node:fs";
import { basename, resolve } from "node:path";
import { z } from "zod";
import { ClusterrrError, messageOf } from "../lib/errors.ts";
import { hasGone, statFields } from "./process_stat.ts";

const RUNS = "/run/clusterrr";
const RUN_NAME = /^[a-z0-9]{6}$/;
const SCRATCH_NAME = /^clusterrr-([a-z0-9]{6})$/;

/** Where scratch is made: `CLUSTERRR_SCRATCH`, or `/var/tmp`. */
export function scratchRoot(): string {
  return Deno.env.get("CLUSTERRR_SCRATCH") || "/var/tmp";
}

/** Where a run that is made now has its scratch. */
function scratchOf(run: string): string {
  return `${resolve(scratchRoot())}/clusterrr-${run}`;
}

const ownerSchema = z.object({
  pid: z.number().int(),
  /** Field 22 of /proc/pid/stat: clock ticks since boot at which the process started. */
  startTicks: z.string(),
  command: z.string(),
  scratch: z.string().optional(),
  children: z.array(z.object({ pid: z.number().int(), startTicks: z.string() })),
});
type Owner = z.infer<typeof ownerSchema>;

/** When process `pid` started, in clock ticks since boot; `undefined` if there is none. */
export function startTicks(pid: number): string | undefined {
  try {
    const fields = statFields(pid);
    return fields[0] === "Z" ? undefined : fields[19];
  } catch (error) {
    if (hasGone(error)) return undefined;
    throw error;
  }
}

/** A run's directories; `remove` takes them away. */
export class RunDirectory {
  readonly #children: Owner["children"] = [];
  readonly #scratch: string;
  #scratchMade = false;

  private constructor(readonly run: string, private readonly command: string) {
    this.#scratch = scratchOf(run);
  }

  get path(): string {
    return `${RUNS}/${this.run}`;
  }

  /** Makes the directory of a new run under a name that no other run has. */
  static create(command: string): RunDirectory {
    Deno.mkdirSync(RUNS, { recursive: true, mode: 0o700 });
    while (true) {
      const run = Array.from(
        crypto.getRandomValues(new Uint8Array(6)),
        (byte) => (byte % 36).toString(36),
      ).join("");
      try {
        Deno.mkdirSync(`${RUNS}/${run}`, { mode: 0o700 });
      } catch (error) {
        if (error instanceof Deno.errors.AlreadyExists) continue;
        throw error;
      }
      const directory = new RunDirectory(run, command);
      directory.#writeOwner();
      return directory;
    }
  }

  /** A path in the run's directory; short, since socket paths end at 107 bytes. */
  file(name: string): string {
    return `${this.path}/${name}`;
  }

  /**
   * A path on a disk, for a file that may become large.
   * @throws {ClusterrrError} where no directory can be made for it
   */
  scratch(name: string): string {
    if (!this.#scratchMade) {
      try {
        Deno.mkdirSync(this.#scratch, { mode: 0o700 });
      } catch (cause) {
        throw new ClusterrrError(
          `Cannot make ${this.#scratch}, for what the VMs write: ${messageOf(cause)}\n` +
            "CLUSTERRR_SCRATCH names another directory on a disk.",
          { cause },
        );
      }
      this.#scratchMade = true;
    }
    return `${this.#scratch}/${name}`;
  }

  /** Remembers a child process, so that `clean` ends it if we cannot. */
  ownChild(pid: number): void {
    const ticks = startTicks(pid);
    if (ticks === undefined) return;
    this.#children.push({ pid, startTicks: ticks });
    this.#writeOwner();
  }

  #writeOwner(): void {
    const owner: Owner = {
      pid: Deno.pid,
      startTicks: startTicks(Deno.pid) ?? "",
      command: this.command,
      scratch: this.#scratch,
      children: this.#children,
    };
    const path = this.file("owner.json");
    Deno.writeTextFileSync(`${path}.tmp`, JSON.stringify(owner));
    Deno.renameSync(`${path}.tmp`, path);
  }

  remove(): void {
    if (this.#scratchMade) removeIfThere(this.#scratch);
    removeIfThere(this.path);
  }
}

function removeIfThere(path: string): boolean {
  try {
    Deno.removeSync(path, { recursive: true });
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Runs on this host, with whether their owner is still alive. */
export function listRuns(): { run: string; alive: boolean }[] {
  const runs = new Set([
    ...entriesOf(RUNS).filter((entry) => RUN_NAME.test(entry)),
    ...scratchRuns(),
  ]);
  return [...runs].map((run) => ({ run, alive: isAlive(run) }));
}

/** Runs of this user that have scratch; `/run` is empty after a restart of the host, where that is not. */
function scratchRuns(): string[] {
  return entriesOf(scratchRoot()).flatMap((entry) => SCRATCH_NAME.exec(entry)?.[1] ?? [])
    .filter((run) => {
      const info = lstatSync(scratchOf(run), { throwIfNoEntry: false }); // its run may have just ended
      return info?.isDirectory() && info.uid === Deno.uid();
    });
}

function entriesOf(directory: string): string[] {
  try {
    return [...Deno.readDirSync(directory)].map((entry) => entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Between making a run's directory and naming its owner in it, no more than this passes. */
const UNOWNED_MS_MAX = 10_000;

/** Whether the process that made `run` still runs. */
export function isAlive(run: string): boolean {
  const owner = readOwner(run);
  if (owner !== undefined) return startTicks(owner.pid) === owner.startTicks;
  try {
    const { mtime } = Deno.statSync(`${RUNS}/${run}`);
    return mtime !== null && Date.now() - mtime.getTime() < UNOWNED_MS_MAX;
  } catch {
    return false;
  }
}

function readOwner(run: string): Owner | undefined {
  try {
    return ownerSchema.parse(JSON.parse(Deno.readTextFileSync(`${RUNS}/${run}/owner.json`)));
  } catch {
    return undefined; // killed before it was written, or not ours: nothing is known of an owner
  }
}

/**
 * Ends the children of a dead run and removes its directories.
 * @returns what it did, a line each
 */
export function removeDeadRun(run: string): string[] {
  const done: string[] = [];
  const owner = readOwner(run);
  for (const child of owner?.children ?? []) {
    if (startTicks(child.pid) !== child.startTicks) continue;
    try {
      Deno.kill(child.pid, "SIGKILL");
      done.push(`process ${child.pid}`);
    } catch (error) {
      done.push(`process ${child.pid} could not be ended: ${messageOf(error)}`);
    }
  }
  const scratch = owner?.scratch ?? scratchOf(run);
  const ours = SCRATCH_NAME.exec(basename(scratch))?.[1] === run;
  for (const path of [...ours ? [scratch] : [], `${RUNS}/${run}`]) {
    if (removeIfThere(path)) done.push(`directory ${path}`);
  }
  return done;
}
