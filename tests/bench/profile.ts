/**
 * `deno task profile`: what the machine's choices cost. Each variation of the machine profile boots two VMs, has them
 * idle and exchange a file and pings, once without record/replay, once recorded, once replayed and
 * compared. Prints a Markdown table. Needs root.
 *
 *     deno task profile [--only REGEX] [--rounds N] [--record-only] [--kinds] [--list]
 *
 * Rounds are interleaved and medians taken. Events, bytes and instructions say the most: CPU seconds depend
 * on what else the machine does.
 */
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { buildImage } from "../../examples/images/build.ts";
import { inspectQemu } from "../../hypervisor/qemu/capabilities.ts";
import type { RecordReport } from "../../lib/cli/ports.ts";
import { processTerminal, type Terminal } from "../../lib/cli/terminal.ts";
import { loadClusterFile } from "../../lib/cluster/cluster_file.ts";
import { ClusterrrError, InterruptedError, messageOf, UsageError } from "../../lib/errors.ts";
import { describeHost } from "../../operations/host.ts";
import { requireRoot } from "../../operations/machine.ts";
import { Commands } from "./commands.ts";
import { runPlain } from "./peers.ts";
import { readPhases } from "./profile_phases.ts";
import { type ProfileRun, renderKinds, renderProfile } from "./profile_report.ts";
import { CLIENT, clusterFileOf, SERVER, type Variation, VARIATIONS } from "./profile_variations.ts";
import { withQemuCpu } from "./qemu_cpu.ts";

const GUEST = fileURLToPath(new URL("profile_guest", import.meta.url));
const USAGE = `Usage: deno task profile [OPTION…]

--only REGEX    variations whose name matches; the default is always among them
--rounds N      rounds; medians are taken over them. Default 3
--record-only   neither run without record/replay nor replay: events, bytes and instructions alone
--kinds         list the events of each phase by kind as well
--list          name the variations and end
`;

interface Options {
  readonly variations: readonly Variation[];
  readonly rounds: number;
  readonly recordOnly: boolean;
  readonly kinds: boolean;
  readonly list: boolean;
}

/** @throws {UsageError} */
function parseOptions(args: string[]): Options {
  try {
    const { values } = parseArgs({
      args,
      options: {
        only: { type: "string", default: "" },
        rounds: { type: "string", default: "3" },
        "record-only": { type: "boolean", default: false },
        kinds: { type: "boolean", default: false },
        list: { type: "boolean", default: false },
      },
    });
    const rounds = Number(values.rounds);
    if (!Number.isInteger(rounds) || rounds < 1) throw new Error("--rounds must be 1 or more");
    const wanted = new RegExp(values.only);
    return {
      variations: VARIATIONS.filter(({ name }, i) => i === 0 || wanted.test(name)),
      rounds,
      recordOnly: values["record-only"],
      kinds: values.kinds,
      list: values.list,
    };
  } catch (cause) {
    throw new UsageError(messageOf(cause), { cause });
  }
}

async function profile(options: Options, terminal: Terminal, signal: AbortSignal): Promise<void> {
  if (options.list) {
    terminal.out(options.variations.map(({ name }) => `${name}\n`).join(""));
    return;
  }
  requireRoot("The profile benchmark");
  const image = await Deno.realPath(await buildImage(GUEST));
  const qemu = await inspectQemu();
  await using cleanup = new AsyncDisposableStack();
  const scratch = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "clusterrr-profile-" });
  cleanup.defer(() => Deno.remove(scratch, { recursive: true }));
  const runs = new Map<Variation, ProfileRun[]>(options.variations.map((each) => [each, []]));
  const failures: string[] = [];
  for (let round = 0; round < options.rounds; round++) {
    for (const [variation, done] of runs) {
      signal.throwIfAborted();
      terminal.err(`round ${round + 1} of ${options.rounds}: ${variation.name}\n`);
      const directory = await Deno.makeTempDir({ dir: scratch });
      try {
        done.push(await measureOnce(variation, image, directory, options.recordOnly, signal));
      } catch (error) {
        if (!(error instanceof ClusterrrError) || signal.aborted) throw error;
        failures.push(`${variation.name}: ${error.message.split("\n")[0]}`);
        terminal.err(`  ${error.message}\n`);
      }
      await Deno.remove(directory, { recursive: true });
    }
  }
  const { cpu, cores, kernel } = describeHost();
  terminal.out(
    `QEMU ${qemu.version}, host kernel ${kernel}, ${cores} × ${cpu}, ` +
      `load ${Deno.loadavg()[0]!.toFixed(1)} at the end; rounds: ${options.rounds}\n\n`,
  );
  terminal.out(renderProfile([...runs].map(([{ name }, done]) => [name, done])));
  if (failures.length > 0) terminal.out(`\nDid not run:\n${failures.join("\n")}\n`);
  if (options.kinds) terminal.out(renderKinds([...runs].map(([{ name }, done]) => [name, done])));
}

async function measureOnce(
  variation: Variation,
  image: string,
  directory: string,
  recordOnly: boolean,
  signal: AbortSignal,
): Promise<ProfileRun> {
  const file = `${directory}/cluster.yaml`;
  const out = `${directory}/recording`;
  await Deno.writeTextFile(file, clusterFileOf(variation, image));
  const commands = new Commands(directory, signal);
  const plain = recordOnly ? undefined : await withQemuCpu(() => plainRun(file, signal));
  const checks = variation.unchecked ? ["--digest-every", "0"] : [];
  const recorded = await withQemuCpu(() =>
    commands.command<RecordReport>(["record", file, "--out", out, ...checks])
  );
  const { report } = recorded.result;
  if (report.endedBy !== "poweroff") throw new ClusterrrError(`recording ended: ${report.endedBy}`);
  const verified = recordOnly ? undefined : await withQemuCpu(() => commands.verify(out, 1));
  return {
    server: readPhases(out, SERVER),
    client: readPhases(out, CLIENT),
    report,
    recordCpuS: recorded.cpuS,
    ...(plain === undefined ? {} : { plainCpuS: plain.cpuS }),
    ...(verified === undefined ? {} : {
      replay: {
        cpuS: verified.cpuS,
        wallS: verified.result.report.perRun[0]!.replayS,
        identical: verified.result.report.ok,
      },
    }),
  };
}

async function plainRun(file: string, signal: AbortSignal): Promise<void> {
  const { spec } = await loadClusterFile(file);
  const qemu = await inspectQemu(spec.qemu.program);
  await runPlain({ spec, qemu, createdAt: new Date().toISOString() }, signal);
}

if (import.meta.main) {
  const terminal = processTerminal();
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(
      signal,
      () => controller.abort(new InterruptedError("Interrupted: nothing was measured to its end.")),
    );
  }
  try {
    await profile(parseOptions(Deno.args), terminal, controller.signal);
    Deno.exit(0);
  } catch (cause) {
    const error = controller.signal.aborted ? controller.signal.reason : cause;
    const known = error instanceof ClusterrrError;
    terminal.err(
      known ? `profile: ${error.message}\n` : `profile: ${(error as Error).stack}\n`,
    );
    if (error instanceof UsageError) terminal.err(`\n${USAGE}`);
    Deno.exit(known ? error.exitStatus : 1);
  }
}
