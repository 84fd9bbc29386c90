/**
 * One cluster over several hosts and on one of them: rounds that interleave both, and the plain replay
 * without coordinator and agents. All hosts are namespaces of this machine, so they share its cores:
 * what is measured is what the distribution costs, not what more machines would gain.
 */
import type { ClusterRecordReport } from "../../lib/cli/cluster_ports.ts";
import { HostError } from "../../lib/errors.ts";
import type { Timed } from "./commands.ts";
import { type Installation, withInstallation } from "./installation.ts";
import { usageOf } from "./process_usage.ts";

/** How much is measured. */
export interface HostsPlan {
  readonly spec: string;
  readonly hosts: number;
  readonly runs: number;
}

/** A replay. */
export interface HostsReplay {
  /** It was identical to the recording; its times mean nothing otherwise. */
  readonly ok: boolean;
  readonly replayS: number;
  readonly wholeS: number;
  /** What the agents' processes used meanwhile, without the VMs; 0 where none had a part. */
  readonly agentsCpuS: number;
}

/** Everything once. */
export interface HostsRound {
  readonly recordMany: Timed<ClusterRecordReport>;
  readonly recordOne: Timed<ClusterRecordReport>;
  /** Replays of what was recorded over all hosts. */
  readonly replayMany: HostsReplay;
  readonly replayOne: HostsReplay;
  /** `clusterrr replay` of the collected recording: one process, no coordinator. */
  readonly replayPlain: HostsReplay;
}

/** Measures `plan` with files below `scratch`. */
export async function measureHosts(
  plan: HostsPlan,
  scratch: string,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<HostsRound[]> {
  const rounds: HostsRound[] = [];
  await withInstallation(plan.hosts, scratch, signal, async (installation) => {
    for (let i = 0; i < plan.runs; i++) {
      say(`${plan.hosts} hosts, round ${i + 1} of ${plan.runs}`);
      rounds.push(await measureRound(i, plan, installation, scratch, say));
    }
  });
  return rounds;
}

async function measureRound(
  index: number,
  { spec, hosts }: HostsPlan,
  installation: Installation,
  scratch: string,
  say: (line: string) => void,
): Promise<HostsRound> {
  const { commands, operator } = installation;
  const round: { -readonly [K in keyof HostsRound]?: HostsRound[K] } = {};
  const name = `bench-${index}`;
  const out = `${scratch}/over-hosts-${index}`;
  const record = (args: readonly string[]) =>
    commands.command<ClusterRecordReport>(["record", spec, ...operator, ...args]);
  const note = (what: string, seconds: number) =>
    say(`  ${what.padEnd(16)}${seconds.toFixed(2).padStart(6)} s`);
  const noteReplay = (what: string, { ok, replayS, agentsCpuS }: HostsReplay) =>
    ok
      ? say(
        `  ${what.padEnd(16)}${replayS.toFixed(2).padStart(6)} s, ` +
          `agents' CPU ${agentsCpuS.toFixed(2)} s`,
      )
      : say(`  ${what.padEnd(16)}not identical to the recording`);
  await takeTurns(index, [
    async () => {
      round.recordMany = await record(["--name", name]);
      note(`record, ${hosts} hosts`, round.recordMany.report.recordS);
    },
    async () => {
      const others = installation.hosts.slice(1);
      for (const host of others) await commands.command(["hosts", "drain", host, ...operator]);
      round.recordOne = await record(["--name", `${name}-one`]);
      note("record, 1 host", round.recordOne.report.recordS);
      for (const host of others) await commands.command(["hosts", "undrain", host, ...operator]);
    },
  ]);
  await commands.command(["collect", name, "--out", out, ...operator]);
  await takeTurns(index, [
    async () => {
      round.replayMany = await replay(installation, name, operator);
      noteReplay(`replay, ${hosts} hosts`, round.replayMany);
    },
    async () => {
      const on = ["--on", installation.hosts[0]!];
      round.replayOne = await replay(installation, name, [...operator, ...on]);
      noteReplay("replay, 1 host", round.replayOne);
    },
    async () => {
      round.replayPlain = await replay(installation, out, []);
      noteReplay("replay, plain", round.replayPlain);
    },
  ]);
  return round as HostsRound;
}

async function replay(
  { commands, agents }: Installation,
  recording: string,
  options: readonly string[],
): Promise<HostsReplay> {
  const cpuS = () => agents.reduce((sum, { pid }) => sum + usageOf(pid).cpuMs / 1000, 0);
  const before = cpuS();
  try {
    const { report, wholeS } = await commands.replay(recording, options);
    const { ok, replayS = NaN } = report;
    return { ok, replayS, wholeS, agentsCpuS: cpuS() - before };
  } catch (error) {
    // Where another host's VM differs, a host has no report of its own.
    if (!(error instanceof HostError && error.message.includes("diverged"))) throw error;
    return { ok: false, replayS: NaN, wholeS: NaN, agentsCpuS: NaN };
  }
}

/** Whoever goes first meets another machine than whoever goes last: take turns. */
async function takeTurns(index: number, works: readonly (() => Promise<void>)[]): Promise<void> {
  for (let i = 0; i < works.length; i++) await works[(index + i) % works.length]!();
}
