/**
 * A replay that stands, driven from standard input: a prompt for a person, a command a line for a
 * script, or nothing at all (`--hold`), when other processes give the commands.
 */
import { ClusterrrError, messageOf } from "../errors.ts";
import { saysDifferent, type SessionAnswer } from "../session/commands.ts";
import type { OpenedSession, SessionOptions } from "./ports.ts";
import { type Context, type ExitStatus, withProgress } from "./subcommand.ts";
import { printJson } from "./terminal.ts";

const PROMPT = "clusterrr> ";

/** How commands come in and answers go out. */
interface PromptOptions {
  readonly hold: boolean;
  readonly json: boolean;
}

/**
 * Stops a replay at `options.target` and works until its commands end: with `quit`, `continue`, the end of
 * standard input, or a signal.
 * @returns 1 where a command of a script failed, or the rest of the replay was not what was recorded
 */
export async function runSession(
  context: Context,
  options: SessionOptions,
  { hold, json }: PromptOptions,
): Promise<ExitStatus> {
  const session = await withProgress(
    context,
    json,
    (progress) => context.operations.openSession(options, progress, context.signal),
  );
  const interrupted = new Promise<undefined>((resolve) => {
    context.signal.addEventListener("abort", () => resolve(undefined), { once: true });
    if (context.signal.aborted) resolve(undefined);
  });
  const over = Promise.race([session.over, interrupted]);
  try {
    await answer(context, session, ["state"], json);
    for (const { vm, address } of session.gdb) {
      context.terminal.err(`Debug ${vm}:  gdb -ex "target remote ${address}"\n`);
    }
    if (hold) {
      context.terminal.err(
        `This replay is ${session.name}. Look at it with clusterrr state, go on with clusterrr seek ` +
          "or continue, end it with clusterrr quit.\n",
      );
      return statusOf(await over);
    }
    return await takeCommands(context, session, over, json);
  } finally {
    await session.close();
  }
}

/** Of the answer that ended a session; `undefined`: the user did. */
function statusOf(last: SessionAnswer | undefined): ExitStatus {
  return last !== undefined && saysDifferent(last) ? 1 : 0;
}

async function takeCommands(
  context: Context,
  session: OpenedSession,
  over: Promise<SessionAnswer | undefined>,
  json: boolean,
): Promise<ExitStatus> {
  const { terminal } = context;
  const interactive = terminal.interactive;
  if (interactive) terminal.err("Commands: help lists them, quit ends the replay.\n");
  let status: ExitStatus = 0;
  const lines = terminal.lines()[Symbol.asyncIterator]();
  for (;;) {
    if (interactive) terminal.err(PROMPT);
    const next = await Promise.race([lines.next(), over.then((last) => ({ last }))]);
    if ("last" in next) return statusOf(next.last) || status;
    if (next.done) return status;
    const words = next.value.trim().split(/\s+/).filter((word) => word !== "");
    if (words.length === 0) continue;
    try {
      const given = await answer(context, session, words, json);
      if (given.over) return statusOf(given) || status;
    } catch (error) {
      if (!(error instanceof ClusterrrError)) throw error;
      terminal.err(`clusterrr: ${messageOf(error)}\n`);
      if (!interactive) status = 1;
    }
  }
}

/** Runs a command and prints its answer. */
async function answer(
  { terminal }: Context,
  session: OpenedSession,
  words: readonly string[],
  json: boolean,
): Promise<SessionAnswer> {
  const given = await session.run(words);
  if (json) printJson(terminal, given.value);
  else terminal.out(given.text);
  return given;
}
