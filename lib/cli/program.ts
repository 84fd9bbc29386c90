/**
 * The whole command line: arguments in, exit status out. 0: it worked. 1: it failed, or a replay
 * diverged. 2: the arguments are wrong. Results go to standard output, everything else to standard
 * error.
 */
import { group, object, or } from "@optique/core/constructs";
import { runParser } from "@optique/core/facade";
import { formatMessage, type Message } from "@optique/core/message";
import { withDefault } from "@optique/core/modifiers";
import { flag } from "@optique/core/primitives";
import { ClusterrrError, errnoOf, InterruptedError, messageOf, UsageError } from "../errors.ts";
import { SESSION_COMMANDS } from "../session/commands.ts";
import { add } from "./add.ts";
import { agent } from "./agent.ts";
import { boot } from "./boot.ts";
import { ca } from "./ca.ts";
import { clean } from "./clean.ts";
import { collect } from "./collect.ts";
import { coordinator } from "./coordinator.ts";
import { diff } from "./diff.ts";
import { doctor } from "./doctor.ts";
import { dump } from "./dump.ts";
import { hosts } from "./hosts.ts";
import { index } from "./index.ts";
import { join } from "./join.ts";
import { ls } from "./ls.ts";
import { pack } from "./pack.ts";
import { record } from "./record.ts";
import { replay } from "./replay.ts";
import { rm } from "./rm.ts";
import { sessionCommand } from "./session_commands.ts";
import { schema } from "./schema.ts";
import { show } from "./show.ts";
import { snapshots } from "./snapshots.ts";
import { status } from "./status.ts";
import { stop } from "./stop.ts";
import { exampleLines, sentence, type Services } from "./subcommand.ts";
import { tag } from "./tag.ts";
import { OutputClosed, type Terminal } from "./terminal.ts";
import { timeline } from "./timeline.ts";
import { unpack } from "./unpack.ts";
import { verify } from "./verify.ts";

const PROGRAM = "clusterrr";
/** Help is wrapped at the terminal's width, but lines longer than this read badly. */
const HELP_COLUMNS_MAX = 100;
const HELP_COLUMNS_MIN = 60;

const parser = object({
  invoke: or(
    group("Record and replay", or(boot, record, replay, verify, diff, index, show, timeline, dump)),
    group("Recordings", or(ls, tag, add, rm, pack, unpack, snapshots)),
    group(
      "A stopped replay",
      or(
        ...[
          sessionCommand("state"),
          sessionCommand("seek"),
          sessionCommand("console"),
          sessionCommand("x"),
          sessionCommand("xp"),
          sessionCommand("info"),
          sessionCommand("pmemsave"),
          sessionCommand("continue"),
          sessionCommand("quit"),
        ] as const,
      ),
    ),
    group("Many hosts", or(hosts, status, collect, stop, coordinator, agent, ca, join)),
    group("This host", or(doctor, clean, schema)),
  ),
  verbose: withDefault(
    flag("-v", "--verbose", {
      description: sentence("Say more: causes and stack traces, progress beside --json."),
    }),
    false,
  ),
});

/** Help, version or completions were printed: there is nothing to run. */
class Shown {
  constructor(readonly status: number) {}
}

/** Runs the command line `args`; never throws, never ends the process. */
export async function runProgram(args: readonly string[], services: Services): Promise<0 | 1 | 2> {
  let verbose = args.includes("-v") || args.includes("--verbose");
  try {
    const parsed = await parse(args, services);
    if (parsed instanceof Shown) return parsed.status === 0 ? 0 : 2;
    verbose = parsed.verbose;
    return await parsed.invoke({ ...services, verbose });
  } catch (error) {
    return report(error, services, verbose);
  }
}

async function parse(args: readonly string[], { terminal, version }: Services) {
  // Without a command, help is the most useful thing to say; but nothing was done, so it is an error.
  const lost = args.length === 0;
  const onShow = (status: number) => new Shown(lost ? 2 : status);
  const print = (text: string) => {
    const line = text.trimEnd().replace(/ +$/gm, "") + "\n";
    if (lost) terminal.err(line);
    else terminal.out(line);
  };
  return await runParser(parser, PROGRAM, lost ? ["--help"] : args, {
    brief: sentence("Record a cluster of virtual machines and replay it, exactly."),
    footer: exampleLines([
      "doctor",
      "record examples/trio/cluster.yaml --out trio.clusterrr",
      "replay trio.clusterrr",
      "record --help",
    ]),
    help: { option: { names: ["-h", "--help"] }, command: { hidden: true }, onShow },
    version: { value: version, option: { names: ["--version"] }, onShow },
    completion: { command: { names: ["completions"], group: "This host" }, onShow },
    commandList: "top-level",
    usageLine: [{ type: "literal", value: "COMMAND" }, { type: "ellipsis" }],
    termWidth: "auto",
    colors: terminal.outColor,
    maxWidth: Math.max(HELP_COLUMNS_MIN, Math.min(HELP_COLUMNS_MAX, terminal.size().columns)),
    aboveError: "none",
    stdout: print,
    stderr: () => {}, // the structured message below is all we print
    onError: (_status, message) => {
      throw new UsageError(usageText(message, args));
    },
  });
}

function usageText(message: Message, args: readonly string[]): string {
  const words = formatMessage(message, { colors: false, quotes: true }).replace(/\n\n+/g, "\n");
  const command = args.find((arg) => !arg.startsWith("-"));
  const page = command !== undefined && NAMES.has(command) ? `${command} --help` : "--help";
  return `${words}\nSee: ${PROGRAM} ${page}`;
}

const NAMES: ReadonlySet<string> = new Set([
  "boot",
  "record",
  "replay",
  "verify",
  "diff",
  "show",
  "index",
  "timeline",
  "dump",
  "ls",
  "tag",
  "add",
  "rm",
  "pack",
  "unpack",
  "snapshots",
  "hosts",
  "status",
  "collect",
  "stop",
  "coordinator",
  "agent",
  "ca",
  "join",
  "doctor",
  "clean",
  ...Object.keys(SESSION_COMMANDS),
  "schema",
  "completions",
]);

/** Says on standard error what went wrong; returns the exit status. */
function report(error: unknown, { terminal, signal }: Services, verbose: boolean): 0 | 1 | 2 {
  if (error instanceof OutputClosed) return 0;
  // Work that was aborted may end with any error; only one of ours says more than the abort.
  const told = signal.aborted && !(error instanceof ClusterrrError)
    ? new InterruptedError("interrupted", { cause: error })
    : error;
  if (told instanceof ClusterrrError) {
    terminal.err(`${PROGRAM}: ${told.message}\n`);
    if (verbose) explainCauses(told, terminal);
    return told.exitStatus;
  }
  if (isSystemError(told)) {
    const advice = told instanceof Deno.errors.PermissionDenied ? "\nDoes it need root?" : "";
    terminal.err(`${PROGRAM}: ${told.message}${advice}\n`);
    if (verbose) terminal.err(`${told.stack}\n`);
    return 1;
  }
  terminal.err(`${PROGRAM}: internal error: ${messageOf(told)}\n`);
  if (verbose && told instanceof Error) terminal.err(`${told.stack}\n`);
  else terminal.err(`This is a bug. Run it again with -v and report what it says.\n`);
  return 1;
}

/**
 * The operating system refused something (no such file, no space): the user can mend that. Deno has classes for some
 * errno only, and node:fs for none.
 */
function isSystemError(error: unknown): error is Error {
  return error instanceof Error &&
    (Object.hasOwn(Deno.errors, error.name) || errnoOf(error) !== undefined || "syscall" in error);
}

function explainCauses(error: Error, terminal: Terminal): void {
  for (let cause = error.cause; cause instanceof Error; cause = cause.cause) {
    terminal.err(`caused by ${cause.stack ?? cause.message}\n`);
  }
}
