/** The figures of many hosts as rows of the report: hosts against one, links, a coordinator by its agents. */
import { formatBytes } from "../../lib/cli/quantities.ts";
import type { HostsReplay, HostsRound } from "./hosts.ts";
import type { RoundTrips } from "./link_round_trips.ts";
import { formatTime, plainRow, type Row, spreadText, time, verdictOf } from "./report.ts";
import type { AgentsRun } from "./simulated_agents.ts";
import { percentile, spreadOf } from "./statistics.ts";

const REPLAY_RATIO_MAX = 1.3;
const LINK_MS_MAX = 0.5;
/**
 * The cost per agent may grow by so much from the fewest agents for which it can be told from the
 * coordinator's own work to the most: what two runs of the same number lie apart here.
 */
const FLAT_RATIO_MAX = 1.5;
/** With fewer, what the coordinator does anyway outweighs them. */
const AGENTS_MIN = 100;

/** Rounds whose recording QEMU could not replay count as failures, and their times not at all. */
export function hostsRows(hosts: number, rounds: readonly HostsRound[]): Row[] {
  const replays = rounds.flatMap((r) => [r.replayMany, r.replayOne, r.replayPlain]);
  const good = replays.filter(({ ok }) => ok).length;
  const identical = plainRow(
    `${hosts} hosts: replays identical`,
    `${good} of ${replays.length}`,
    "all",
    verdictOf(good === replays.length),
  );
  const whole = rounds.filter((r) => r.replayMany.ok && r.replayOne.ok && r.replayPlain.ok);
  const recordS = time(
    `record over ${hosts} hosts / on one of them`,
    rounds.map(({ recordMany }) => recordMany.report.recordS),
    rounds.map(({ recordOne }) => recordOne.report.recordS),
  );
  if (whole.length === 0) return [recordS, identical];
  const of = (pick: (round: HostsRound) => HostsReplay, key: "replayS" | "wholeS" = "replayS") =>
    whole.map((round) => pick(round)[key]);
  const many = (r: HostsRound) => r.replayMany;
  const one = (r: HostsRound) => r.replayOne;
  const plain = (r: HostsRound) => r.replayPlain;
  const cpu = (pick: (round: HostsRound) => HostsReplay) =>
    whole.map((round) => pick(round).agentsCpuS);
  return [
    time(`replay over ${hosts} hosts / on one of them`, of(many), of(one), REPLAY_RATIO_MAX),
    time("  / without coordinator and agents", of(many), of(plain), REPLAY_RATIO_MAX),
    time("  the whole commands", of(many, "wholeS"), of(one, "wholeS")),
    time("  CPU of the agents, without VMs", cpu(many), cpu(one)),
    recordS,
    identical,
  ];
}

/** What a link adds to a frame and the answer to it. */
export function linkRows({ link, queue }: RoundTrips): Row[] {
  const added = percentile(link, 0.5) - percentile(queue, 0.5);
  const row = (name: string, share: number): Row => ({
    ...plainRow(name, milliseconds(percentile(link, share))),
    other: milliseconds(percentile(queue, share)),
  });
  return [
    {
      ...row(`frame there and back over a link / one host, median of ${link.length}`, 0.5),
      ratio: `+${milliseconds(added)}`,
      target: `≤ +${LINK_MS_MAX.toFixed(2)} ms`,
      verdict: verdictOf(added <= LINK_MS_MAX),
    },
    row("  of 100, the 90th", 0.9),
    row("  of 100, the 99th", 0.99),
  ];
}

/** What is measured of each agent, and how it is written. */
const AGENT_COSTS: readonly {
  readonly name: string;
  readonly of: (run: AgentsRun) => number;
  readonly format: (value: number) => string;
}[] = [
  {
    name: "heartbeats: CPU a second",
    of: (run) => run.idleCpuMs / run.idleS / run.agents,
    format: milliseconds,
  },
  {
    name: "memory",
    of: (run) => (run.rssBytes - run.rssBytesBefore) / run.agents,
    format: formatBytes,
  },
  {
    name: "joining: CPU",
    of: (run) => run.joinCpuMs / run.agents,
    format: milliseconds,
  },
  {
    name: "connecting: CPU",
    of: (run) => run.registerCpuMs / run.agents,
    format: milliseconds,
  },
  {
    name: "prepare, arm, run: CPU",
    of: (run) => run.startCpuMs / run.agents,
    format: milliseconds,
  },
  {
    // A machine that is too busy has fewer ticks: a second would look cheap.
    name: "recording, with its end: CPU a tick",
    of: (run) => run.recordCpuMs / run.ticks,
    format: milliseconds,
  },
];

/** Totals of each number of agents, then the cost of each agent: the most agents against the fewest. */
export function agentsRows(unsorted: readonly AgentsRun[]): Row[] {
  const runs = unsorted.toSorted((a, b) => a.agents - b.agents);
  const numbers = [...new Set(runs.map(({ agents }) => agents))];
  const withAgents = (agents: number) => runs.filter((run) => run.agents === agents);
  const totals = numbers.flatMap((agents) => {
    const of = (pick: (run: AgentsRun) => number, format: (value: number) => string) =>
      spreadText(spreadOf(withAgents(agents).map(pick)), format);
    const percent = (value: number) => `${value.toFixed(0)} %`;
    return [
      plainRow(`${agents} agents: all connected after`, of((r) => r.registerS, formatTime)),
      plainRow("  of all at once, so many had to try again", of((r) => r.registerRetries, String)),
      plainRow("  the last VM runs after", of((r) => r.startS, formatTime)),
      plainRow(
        "  CPU: heartbeats, recording",
        `${of((r) => r.idleCpuMs / r.idleS / 10, percent)}, ` +
          of((r) => r.recordCpuMs / r.recordS / 10, percent),
      ),
      plainRow("  memory", of((r) => Math.max(r.rssBytes, r.rssBytesRecording), formatBytes)),
    ];
  });
  const base = numbers.find((agents) => agents >= AGENTS_MIN);
  const most = numbers.at(-1);
  if (base === undefined || most === undefined || base === most) return totals;
  const costs = AGENT_COSTS.map(({ name, of, format }): Row => {
    const [ours, other] = [most, base].map((agents) => spreadOf(withAgents(agents).map(of)));
    const ratio = ours!.median / other!.median;
    return {
      ...plainRow(`an agent of ${most} / of ${base}, ${name}`, spreadText(ours!, format)),
      other: spreadText(other!, format),
      ratio: ratio.toFixed(2),
      target: `≤ ${FLAT_RATIO_MAX.toFixed(2)}`,
      verdict: verdictOf(ratio <= FLAT_RATIO_MAX),
    };
  });
  return [...totals, ...costs];
}

function milliseconds(value: number): string {
  return `${value.toFixed(value < 0.1 ? 3 : 2)} ms`;
}
