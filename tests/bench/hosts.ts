/**
 * One cluster over several hosts and on one of them: rounds that interleave both, and the plain replay
 * without coordinator and agents. All hosts are namespaces of this machine, so they share its cores:
 * what is measured is what the distribution costs, not what more machines would gain.
 */
import type { ClusterRecordReport } from "../../lib/cli/cluster_ports.ts";
import type { ReplayReport } from "../../lib/cli/ports.ts";
import type { Timed } from "./commands.ts";
import { type Installation, usageOf, withInstallation } from "./installation.ts";

/** How much is measured. */
export interface HostsPlan {
  readonly spec: string;
  readonly hosts: number;
  readonly runs: number;
}

/** A replay with what the agents' processes (without the VMs) used meanwhile. */
export interface HostsReplay extends Timed<ReplayReport> {
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
  readonly replayPlain: Timed<ReplayReport>;
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
  const note = (what: string, seconds: number, cpu?: number) =>
    say(
      `  ${what.padEnd(16)}${seconds.toFixed(2).padStart(6)} s` +
        (cpu === undefined ? "" : `, agents' CPU ${cpu.toFixed(2)} s`),
    );
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
      round.replayMany = await replay(installation, name, []);
      note(`replay, ${hosts} hosts`, round.replayMany.report.replayS, round.replayMany.agentsCpuS);
    },
    async () => {
      round.replayOne = await replay(installation, name, ["--on", installation.hosts[0]!]);
      note("replay, 1 host", round.replayOne.report.replayS, round.replayOne.agentsCpuS);
    },
    async () => {
      round.replayPlain = await commands.replay(out);
      note("replay, plain", round.replayPlain.report.replayS);
    },
  ]);
  return round as HostsRound;
}

async function replay(
  { commands, operator, agents }: Installation,
  name: string,
  args: readonly string[],
): Promise<HostsReplay> {
  const cpuS = () => agents.reduce((sum, { pid }) => sum + usageOf(pid).cpuMs / 1000, 0);
  const before = cpuS();
  const timed = await commands.command<ReplayReport>(["replay", name, ...operator, ...args]);
  return { ...timed, agentsCpuS: cpuS() - before };
}

/** Whoever goes first meets another machine than whoever goes last: take turns. */
async function takeTurns(index: number, works: readonly (() => Promise<void>)[]): Promise<void> {
  for (let i = 0; i < works.length; i++) await works[(index + i) % works.length]!();
}
