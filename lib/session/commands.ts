/**
 * The commands of a session, the same at the prompt and from other processes: words in, text and a value
 * for scripts out.
 */
import { ClusterrrError } from "../errors.ts";
import { formatBytes, formatCount } from "../cli/quantities.ts";
import { renderTable } from "../cli/table.ts";
import { PLAIN } from "../cli/terminal.ts";
import type { SessionEnd, SessionPort, SessionState } from "./session.ts";
import { requireTarget } from "./target.ts";

/** What a command came to. */
export interface SessionAnswer {
  readonly text: string;
  /** The same for `--json`. */
  readonly value: unknown;
  /** The session is over. */
  readonly over?: boolean;
}

/** Whether an answer says that the replay was not what was recorded. */
export function saysDifferent({ value }: Pick<SessionAnswer, "value">): boolean {
  return (value as { readonly ok?: unknown } | null)?.ok === false;
}

/** QEMU's monitor writes each as some 10 to 100 characters, in one answer. */
const EXAMINED_MAX = 100_000;

interface SessionCommand {
  readonly usage: string;
  readonly brief: string;
  readonly example: string;
  run(session: SessionPort, words: readonly string[]): Promise<SessionAnswer>;
}

export type SessionCommandName =
  | "state"
  | "seek"
  | "console"
  | "x"
  | "xp"
  | "info"
  | "pmemsave"
  | "continue"
  | "quit";

/** Every command, by name. */
export const SESSION_COMMANDS: Readonly<Record<SessionCommandName, SessionCommand>> = {
  state: {
    usage: "state [VM]",
    brief: "where every VM stands, frames in flight; of one VM its registers",
    example: "state left --json",
    async run(session, [vm]) {
      const state = await session.state();
      if (vm === undefined) return { text: describeState(state), value: state };
      const found = state.vms.find(({ name }) => name === vm);
      if (found === undefined) {
        const names = state.vms.map(({ name }) => name).join(", ");
        throw new ClusterrrError(`There is no VM ${vm}. There are: ${names}.`);
      }
      return { text: found.registers ?? `${vm} has ended.\n`, value: found };
    },
  },
  seek: {
    usage: "seek CHECKPOINT|INSTRUCTION@VM|TIME",
    brief: "go there, forward or backward",
    example: "seek 42",
    async run(session, [target]) {
      if (target === undefined) throw usage("seek");
      const state = await session.goTo(requireTarget(target));
      return { text: describeState(state), value: state };
    },
  },
  console: {
    usage: "console VM",
    brief: "what it has printed so far",
    example: "console left",
    async run(session, [vm]) {
      if (vm === undefined) throw usage("console");
      const text = await session.console(vm);
      return { text, value: { vm, console: text } };
    },
  },
  x: {
    usage: "x VM [/FORMAT] ADDRESS",
    brief: "memory at a virtual address, as QEMU's monitor shows it",
    example: "x left /4i '$pc'",
    run: (session, words) => examine(session, "x", words),
  },
  xp: {
    usage: "xp VM [/FORMAT] ADDRESS",
    brief: "memory at a physical address",
    example: "xp left /16xb 0x1000",
    run: (session, words) => examine(session, "xp", words),
  },
  info: {
    usage: "info VM WHAT",
    brief: "QEMU's info: registers, tlb, pic, network …",
    example: "info left registers",
    async run(session, [vm, ...what]) {
      if (vm === undefined || what.length === 0) throw usage("info");
      const text = await session.monitor(vm, `info ${what.join(" ")}`);
      return { text, value: { vm, text } };
    },
  },
  pmemsave: {
    usage: "pmemsave VM ADDRESS BYTES FILE",
    brief: "write physical memory to a file",
    example: "pmemsave left 0 4096 page.bin",
    async run(session, words) {
      const [vm, address, bytes, file] = words;
      if (vm === undefined || file === undefined) throw usage("pmemsave");
      const [from, count] = [address, bytes].map(Number) as [number, number];
      if (!Number.isSafeInteger(from) || from < 0 || !Number.isSafeInteger(count) || count < 1) {
        throw new ClusterrrError(`pmemsave: ${address} ${bytes} are no address and size in bytes.`);
      }
      await session.saveMemory(vm, from, count, file);
      return { text: `${formatBytes(count)} of ${vm} written to ${file}\n`, value: { vm, file } };
    },
  },
  continue: {
    usage: "continue",
    brief: "replay the rest and compare it; ends the session",
    example: "continue",
    async run(session) {
      const end = await session.finish();
      return { text: describeEnd(end), value: end, over: true };
    },
  },
  quit: {
    usage: "quit",
    brief: "end the session",
    example: "quit",
    run: () => Promise.resolve({ text: "", value: { ok: true }, over: true }),
  },
};

const NAMES = Object.keys(SESSION_COMMANDS);

/** One line for each command. */
export function sessionHelp(): string {
  const width = Math.max(...Object.values(SESSION_COMMANDS).map(({ usage }) => usage.length));
  return Object.values(SESSION_COMMANDS).map(({ usage, brief }) =>
    `${usage.padEnd(width)}  ${brief}\n`
  )
    .join("");
}

/** Runs one command. @throws {ClusterrrError} where there is none of that name, or it fails */
export async function runSessionCommand(
  session: SessionPort,
  words: readonly string[],
): Promise<SessionAnswer> {
  const [name, ...rest] = words;
  if (name === "help") return { text: sessionHelp(), value: NAMES };
  const command = NAMES.includes(name ?? "")
    ? SESSION_COMMANDS[name as SessionCommandName]
    : undefined;
  if (command === undefined) {
    throw new ClusterrrError(
      `There is no command "${name}". There are: ${NAMES.join(", ")}.`,
    );
  }
  return await command.run(session, rest);
}

function usage(name: SessionCommandName): ClusterrrError {
  return new ClusterrrError(`Usage: ${SESSION_COMMANDS[name].usage}`);
}

async function examine(
  session: SessionPort,
  command: "x" | "xp",
  [vm, ...words]: readonly string[],
): Promise<SessionAnswer> {
  if (vm === undefined || words.length === 0 || words.length > 2) throw usage(command);
  const count = Number(/^\/(\d+)/.exec(words[0]!)?.[1] ?? 1);
  if (count > EXAMINED_MAX) {
    throw new ClusterrrError(
      `${command} shows at most ${EXAMINED_MAX} items; pmemsave writes memory to a file.`,
    );
  }
  const text = await session.monitor(vm, `${command} ${words.join(" ")}`);
  return { text, value: { vm, text } };
}

function describeState(state: SessionState): string {
  const { checkpoint, lastCheckpoint, seconds, vms, inFlight } = state;
  const table = renderTable(
    [
      { title: "VM" },
      { title: "INSTRUCTIONS", align: "right" },
      { title: "LAMPORT", align: "right" },
      { title: "SENT", align: "right" },
      { title: "RECEIVED", align: "right" },
      { title: "RIP" },
    ],
    vms.map((vm) => [
      vm.name,
      formatCount(vm.icount),
      formatLamport(vm.lamport),
      formatCount(vm.sent),
      formatCount(vm.received),
      vm.registers === null ? "ended" : /\b[RE]IP=(\w+)/.exec(vm.registers)?.[1] ?? "?",
    ]),
    PLAIN,
  );
  const frames = inFlight.map(({ from, sendNumber, bytes, to, summary }) =>
    `  ${from} frame ${sendNumber}, ${bytes} bytes, to ${to.join(", ")}: ${summary}\n`
  );
  const flight = frames.length === 0 ? "no frames in flight\n" : `in flight:\n${frames.join("")}`;
  return `checkpoint ${checkpoint} of ${lastCheckpoint}, ${
    seconds.toFixed(2)
  } s into the recording\n\n` +
    `${table}\n${flight}`;
}

/** Epoch and count: `42+17`. */
function formatLamport(lamport: string): string {
  const time = BigInt(lamport);
  return `${time >> 40n}+${time & 0xff_ffff_ffffn}`;
}

function describeEnd({ ok, vms }: SessionEnd): string {
  const lines = vms.map((vm) =>
    `${vm.name}: ${formatCount(vm.framesMatched)} of ${formatCount(vm.framesRecorded)} frames, ` +
    `console ${vm.consoleEqual ? "equal" : "DIFFERENT"}\n`
  );
  return `${lines.join("")}${
    ok ? "identical to the recording" : "NOT identical to the recording"
  }\n`;
}
