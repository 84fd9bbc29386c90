/**
 * The commands that look at a replay which another process holds (`replay --to POINT --hold`, or one at
 * its prompt), for scripts and for a second terminal: `state`, `seek` and the others.
 */
import { object } from "@optique/core/constructs";
import { multiple, optional } from "@optique/core/modifiers";
import { argument, option } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import { resolve } from "node:path";
import { saysDifferent, SESSION_COMMANDS, type SessionCommandName } from "../session/commands.ts";
import { defineSubcommand, jsonFlag, sentence } from "./subcommand.ts";
import { printJson } from "./terminal.ts";

/** Which word of `pmemsave VM ADDRESS BYTES FILE` is the file. */
const PMEMSAVE_FILE = 3;

/** The subcommand that has a session run `name`. */
export function sessionCommand(name: SessionCommandName) {
  const { usage, brief, example } = SESSION_COMMANDS[name];
  return defineSubcommand({
    name,
    brief: `Of a stopped replay: ${brief}.`,
    description: [
      `${usage}`,
      "Asks the replay of this host that stands: one that `replay --to POINT` has at its prompt, or " +
      "that `replay --to POINT --hold` keeps for commands like this one.",
    ],
    examples: [example],
    parser: object({
      words: multiple(argument(string({ metavar: "WORD" }), {
        description: sentence(usage),
      })),
      session: optional(option("--session", string({ metavar: "NAME" }), {
        description: sentence(
          "Which replay, where several stand: `replay --hold` prints its name, and without this the error lists them.",
        ),
      })),
      json: jsonFlag(),
    }),
    async run({ words, session, json }, context) {
      const own = withFullPath(name, words);
      const { operations, signal } = context;
      const answer = await operations.askSession([name, ...own], session, signal);
      if (json) printJson(context.terminal, answer.value);
      else context.terminal.out(answer.text);
      return saysDifferent(answer) ? 1 : 0;
    },
  });
}

/** The words of a command for a session, which has a working directory of its own. */
function withFullPath(name: SessionCommandName, words: readonly string[]): readonly string[] {
  const at = name === "pmemsave" ? PMEMSAVE_FILE : -1;
  return words.map((word, i) => i === at ? resolve(word) : word);
}
