/**
 * `deno task bench`: measures a cluster under clusterrr beside the same cluster under stock QEMU, in
 * one run, and prints each target with what was measured. Needs root and the example's images:
 *
 *     deno run -A examples/images/build.ts examples/trio
 *     deno task bench [SPEC] [--runs 3] [--verify-runs 4] [--replay-bound 180] [--json FILE]
 *     deno task bench --runs 0 --time-travel 0          only what is about many hosts
 *
 * Exit status 0 whatever the numbers are: a busy machine is no failure. 1 where something breaks.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { inspectQemu } from "../../hypervisor/qemu/capabilities.ts";
import { jsonValue, paint, processTerminal, type Terminal } from "../../lib/cli/terminal.ts";
import { plural } from "../../lib/cli/table.ts";
import { loadClusterFile } from "../../lib/cluster/cluster_file.ts";
import { ClusterrrError, InterruptedError, messageOf, UsageError } from "../../lib/errors.ts";
import { describeHost } from "../../operations/host.ts";
import { requireRoot } from "../../operations/machine.ts";
import { measure, type Plan, type Results } from "./measures.ts";
import { Commands } from "./commands.ts";
import { measureTimeTravel, type TimeTravelPlan } from "./time_travel.ts";
import { measureAgents } from "./agents.ts";
import { measureHosts } from "./hosts.ts";
import { measureRoundTrips } from "./link_round_trips.ts";
import { agentsRows, hostsRows, linkRows } from "./many_hosts_report.ts";
import { renderReport, rowsOf } from "./report.ts";
import { spreadOf } from "./statistics.ts";

const SPEC = fileURLToPath(new URL("../../examples/trio/cluster.yaml", import.meta.url));
const USAGE = `Usage: deno task bench [SPEC] [OPTION…]

SPEC                the cluster file; default examples/trio/cluster.yaml. Its VMs power themselves off.
--runs N            rounds; medians are taken over them; 0: none of that. Default 3
--verify-runs N     replays compared with the recording, half of them on a busy machine; even. Default 4
--replay-bound S    seconds after which stock QEMU's replay is given up. Default 180
--scratch DIR       where logs go while it runs, on a disk. Default /var/tmp
--time-travel S     length of the recording that is sought in; 0: none of that. Default 60
--seeks N           random checkpoints that are sought. Default 20
--hosts N           hosts that a cluster is spread over, against one of them; 0: none of that. Default 3
--host-runs N       rounds of that. Default 3
--link-round-trips N   frames sent to another host and back; 0: none of that. Default 5000
--agents N,N        numbers of simulated agents of one coordinator; 0: none of that. Default 10,100,300,1000
--json FILE         write everything that was measured
`;

interface Options extends Plan {
  readonly timeTravel: TimeTravelPlan;
  readonly hosts: number;
  readonly hostRuns: number;
  readonly linkRoundTrips: number;
  readonly agents: readonly number[];
  readonly scratch: string;
  readonly json?: string;
  readonly help: boolean;
}

/** @throws {UsageError} */
function parseOptions(args: string[]): Options {
  const { values, positionals } = parseOrExplain(args);
  if (positionals.length > 1) throw new UsageError("Name one cluster file.");
  const verifyRuns = wholeNumber("--verify-runs", values["verify-runs"], 0);
  if (verifyRuns % 2 !== 0) throw new UsageError("--verify-runs must be even.");
  return {
    spec: positionals[0] ?? SPEC,
    runs: wholeNumber("--runs", values.runs, 0),
    verifyRuns,
    timeTravel: {
      seconds: wholeNumber("--time-travel", values["time-travel"], 0),
      seeks: wholeNumber("--seeks", values.seeks, 1),
    },
    hosts: wholeNumber("--hosts", values.hosts, 0),
    hostRuns: wholeNumber("--host-runs", values["host-runs"], 1),
    linkRoundTrips: wholeNumber("--link-round-trips", values["link-round-trips"], 0),
    agents: values.agents === "0"
      ? []
      : values.agents.split(",").map((text) => wholeNumber("--agents", text, 1)),
    replayBoundS: wholeNumber("--replay-bound", values["replay-bound"], 1),
    scratch: values.scratch,
    ...(values.json === undefined ? {} : { json: values.json }),
    help: values.help,
  };
}

function parseOrExplain(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        runs: { type: "string", default: "3" },
        "verify-runs": { type: "string", default: "4" },
        "replay-bound": { type: "string", default: "180" },
        "time-travel": { type: "string", default: "60" },
        seeks: { type: "string", default: "20" },
        hosts: { type: "string", default: "3" },
        "host-runs": { type: "string", default: "3" },
        "link-round-trips": { type: "string", default: "5000" },
        agents: { type: "string", default: "10,100,300,1000" },
        scratch: { type: "string", default: "/var/tmp" },
        json: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (cause) {
    throw new UsageError(messageOf(cause), { cause });
  }
}

function wholeNumber(option: string, text: string, min: number): number {
  if (/^\d{1,4}$/.test(text) && Number(text) >= min) return Number(text);
  throw new UsageError(`${option} must be a whole number from ${min} to 9999, not "${text}".`);
}

/** Runs the benchmark; everything that it puts on this host is gone when it returns or throws. */
async function bench(options: Options, terminal: Terminal, signal: AbortSignal): Promise<void> {
  requireRoot("The benchmark");
  const { spec } = await loadClusterFile(options.spec);
  if (spec.vms.some((vm) => vm.serialInput !== undefined)) {
    throw new ClusterrrError("The benchmark types nothing into serial consoles: leave that out.");
  }
  const qemu = await inspectQemu(spec.qemu.program);
  const cluster = { spec, qemu, createdAt: new Date().toISOString() };
  await using cleanup = new AsyncDisposableStack();
  const scratch = await Deno.makeTempDir({ dir: options.scratch, prefix: "clusterrr-bench-" });
  cleanup.defer(() => Deno.remove(scratch, { recursive: true }));
  const host = describeHost();
  const loadBefore = Deno.loadavg()[0]!;
  const say = (line: string) => terminal.err(line + "\n");
  if (options.timeTravel.seconds > 0) {
    const commands = new Commands(scratch, signal);
    const rows = await measureTimeTravel(options.timeTravel, commands, scratch, say, signal);
    terminal.out(
      `\nGoing back in time: 3 VMs, ${options.timeTravel.seconds} s, ${host.cores} cores, ` +
        `load ${loadBefore.toFixed(1)} before.\n\n${renderReport(rows, paint(terminal.outColor))}`,
    );
  }
  const manyHosts = await measureManyHosts(options, scratch, say, signal);
  if (manyHosts.rows.length > 0) {
    terminal.out(
      `\nMany hosts: all on this machine, ${host.cores} cores, load ${
        loadBefore.toFixed(1)
      } before, ` +
        `${Deno.loadavg()[0]!.toFixed(1)} after.\n\n` +
        renderReport(manyHosts.rows, paint(terminal.outColor)),
    );
  }
  if (options.runs === 0) {
    if (options.json !== undefined) {
      await writeJson(options.json, { host, loadBefore, qemu: qemu.version, manyHosts });
    }
    return;
  }
  const results = await measure(options, cluster, scratch, say, signal);

  const rows = rowsOf(results);
  terminal.out(
    `\n${spec.name}: ${spec.vms.length} VMs, medians of ${
      plural(options.runs, "round")
    } (min–max).\n` +
      `QEMU ${qemu.version}, Linux ${host.kernel}, ${host.cores} × ${host.cpu}\n` +
      `${describeNoise(results, loadBefore)}\n\n` +
      renderReport(rows, paint(terminal.outColor)) +
      "\nThe codec holds one read (1 MiB), one block (512 KiB before compression) and one event.\n" +
      "A recorder event that is lost shows as an internal frame stored whole.\n",
  );
  if (options.json !== undefined) {
    await writeJson(options.json, {
      ...{ host, loadBefore, qemu: qemu.version, rows, results, manyHosts },
    });
  }
}

/** What comes of several hosts; each part only where it is asked for. */
async function measureManyHosts(
  { spec, hosts, hostRuns, linkRoundTrips, agents }: Options,
  scratch: string,
  say: (line: string) => void,
  signal: AbortSignal,
) {
  const rounds = hosts === 0
    ? []
    : await measureHosts({ spec, hosts, runs: hostRuns }, scratch, say, signal);
  if (linkRoundTrips > 0) say(`${linkRoundTrips} round trips over a link`);
  const roundTrips = linkRoundTrips === 0
    ? undefined
    : await measureRoundTrips(linkRoundTrips, scratch);
  if (agents.length > 0) say("simulated agents of one coordinator");
  const coordinators = await measureAgents(agents, scratch, say, signal);
  const rows = [
    ...rounds.length === 0 ? [] : hostsRows(hosts, rounds),
    ...roundTrips === undefined ? [] : linkRows(roundTrips),
    ...agentsRows(coordinators),
  ];
  return { rows, rounds, roundTrips, coordinators };
}

/** How far apart runs of the same thing lie: differences below that mean nothing. */
function describeNoise({ rounds }: Results, loadBefore: number): string {
  const { median, min, max } = spreadOf(rounds.map((round) => round.plain.runS));
  const spread = rounds.length === 1
    ? "one round: noise unknown"
    : `runs without record/replay lie ${(100 * (max - min) / median).toFixed(0)} % apart`;
  return `Noise: ${spread}; load average ${loadBefore.toFixed(1)} before the benchmark.`;
}

/** Guests' consoles are left out: they are long, and the recordings hold them. */
async function writeJson(
  path: string,
  content: Record<string, unknown>,
): Promise<void> {
  const replacer = (key: string, value: unknown) =>
    key === "consoles" ? undefined : jsonValue(key, value);
  await Deno.writeTextFile(path, JSON.stringify(content, replacer, 2) + "\n");
}

if (import.meta.main) {
  const terminal = processTerminal();
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => {
      if (controller.signal.aborted) Deno.exit(1);
      terminal.err("Ending the runs that are under way; once more ends at once.\n");
      controller.abort(new InterruptedError("Interrupted: nothing was measured to its end."));
    });
  }
  try {
    const options = parseOptions(Deno.args);
    if (options.help) terminal.out(USAGE);
    else await bench(options, terminal, controller.signal);
    Deno.exit(0);
  } catch (cause) {
    // What was interrupted fails in many ways.
    const error = controller.signal.aborted ? controller.signal.reason : cause;
    const known = error instanceof ClusterrrError;
    const usage = error instanceof UsageError ? `\n${USAGE}` : "";
    terminal.err(
      known ? `bench: ${error.message}\n${usage}` : `bench: ${(error as Error).stack}\n`,
    );
    Deno.exit(known ? error.exitStatus : 1);
  }
}
