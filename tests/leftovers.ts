/**
 * What runs of clusterrr put on this host, as end-to-end tests count it: before and after a test the
 * sets must be equal. Runs of somebody else that go on meanwhile do not count.
 */
import { isAlive, scratchRoot } from "../host/run_directory.ts";
import { run as runCommand } from "../host/command.ts";

const RUN = "[a-z0-9]{6}";

/** One thing on the host, such as `netns clrr-ab12cd`, and the run it belongs to. */
interface Trace {
  readonly what: string;
  readonly run: string;
}

/** Everything on this host that has a run's name. */
async function traces(): Promise<Trace[]> {
  const found: Trace[] = [];
  const add = (kind: string, names: Iterable<string>, pattern: string) => {
    for (const name of names) {
      const run = new RegExp(pattern).exec(name)?.[1];
      if (run !== undefined) found.push({ what: `${kind} ${name}`, run });
    }
  };
  add("netns", namesIn("/run/netns"), `^clrr-(${RUN})$`);
  add("run directory", namesIn("/run/clusterrr"), `^(${RUN})$`);
  add("scratch", namesIn(scratchRoot()), `^clusterrr-(${RUN})$`);
  add("bpf pins", namesIn("/sys/fs/bpf"), `^clrr-(${RUN})$`);
  add("link", namesIn("/sys/class/net"), `^clrr(${RUN})(?:tn)?$`);
  add("nft table", await nftTables(), `^clusterrr_(${RUN})$`);
  for (const { pid, run } of qemuProcesses()) found.push({ what: `QEMU process ${pid}`, run });
  return found;
}

function namesIn(directory: string): string[] {
  try {
    return [...Deno.readDirSync(directory)].map(({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

async function nftTables(): Promise<string[]> {
  const listed = await runCommand(["nft", "list", "tables"]);
  return listed.split("\n").map((line) => line.trim().split(" ").at(-1)!);
}

/** A QEMU of some run. */
export interface RunningQemu {
  readonly pid: number;
  readonly run: string;
  /** The VM's name. */
  readonly vm: string;
}

/** Every QEMU on this host that belongs to a run. */
export function qemuProcesses(): RunningQemu[] {
  const found: RunningQemu[] = [];
  for (const entry of namesIn("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    let words: string[];
    try {
      words = Deno.readTextFileSync(`/proc/${entry}/cmdline`).split("\0");
    } catch {
      continue; // it ended meanwhile
    }
    const run = words.map((word) => new RegExp(`/run/clusterrr/(${RUN})/`).exec(word)?.[1])
      .find((run) => run !== undefined);
    const vm = words[words.indexOf("-name") + 1];
    if (run === undefined || vm === undefined || !words.includes("-icount")) continue;
    found.push({ pid: Number(entry), run, vm });
  }
  return found;
}

/** The run of the clusterrr process `pid`, if it has one now. */
export function runOfProcess(pid: number): string | undefined {
  return namesIn("/run/clusterrr").find((run) => ownerOf(run)?.pid === pid);
}

function ownerOf(run: string): { pid: number; command: string } | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(`/run/clusterrr/${run}/owner.json`));
  } catch {
    return undefined;
  }
}

/** What was there before a test, so that it is not blamed for it. */
export class Leftovers {
  private constructor(private readonly before: ReadonlySet<string>) {}

  static async take(): Promise<Leftovers> {
    return new Leftovers(new Set((await traces()).map(({ what }) => what)));
  }

  /**
   * What has come since and belongs to no process that runs.
   * @param folder runs whose command names another folder are somebody else's
   */
  async since(folder: string): Promise<string[]> {
    return (await traces()).filter(({ what, run }) => {
      if (this.before.has(what) || isAlive(run)) return false;
      const owner = ownerOf(run);
      return owner === undefined || owner.command.includes(folder);
    }).map(({ what }) => what);
  }
}
