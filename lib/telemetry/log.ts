/**
 * The logs of the long-lived roles: records with a level, an area, and the run, VM and host that they are
 * about. JSON lines on standard error; on a terminal, lines to read. The other commands talk to their
 * user and do not log: until {@link startLogs} is called, what is logged goes nowhere.
 *
 * ```ts
 * startLogs(logLevelFrom(option), processTerminal());
 * const log = logOf("agent", { run: "a38df86f" });
 * log.with({ vm: "left" }).warning("the VM has ended", { code: 1 });
 * ```
 */
import { configureSync, getLogger, type Logger, type LogLevel, resetSync } from "@logtape/logtape";
import { UsageError } from "../errors.ts";
import { jsonFormat, terminalFormat } from "./log_format.ts";

export { conceal } from "./redaction.ts";
export type { LogLevel };

/**
 * A logger. `with({ vm })` makes one whose records carry more. Give values as properties, or name them in
 * the message (`"VM {vm} has ended"`); a value that is put into the text itself cannot be searched for.
 */
export type Log = Logger;

/** What a record can be about; the names in logs and metrics are the same. */
export interface LogIds {
  readonly run?: string;
  readonly vm?: string;
  readonly host?: string;
}

/** From the most to the least said. */
export const LOG_LEVELS = ["trace", "debug", "info", "warning", "error", "fatal"] as const;
export const LOG_LEVEL_DEFAULT: LogLevel = "info";
/** The environment variable that sets the level where `--log-level` does not. */
export const LOG_LEVEL_VARIABLE = "CLUSTERRR_LOG";

/**
 * The level of `--log-level`, else of CLUSTERRR_LOG, else `info`.
 * @throws {UsageError} where that is no level
 */
export function logLevelFrom(
  option: string | undefined,
  variable: string | undefined = Deno.env.get(LOG_LEVEL_VARIABLE),
): LogLevel {
  const [text, where] = option !== undefined
    ? [option, "--log-level"]
    : [variable || LOG_LEVEL_DEFAULT, LOG_LEVEL_VARIABLE];
  const level = LOG_LEVELS.find((each) => each === text.toLowerCase());
  if (level !== undefined) return level;
  throw new UsageError(`${where}: expected one of ${LOG_LEVELS.join(", ")}, but got "${text}".`);
}

/** Where logs go: `processTerminal()`, or a test. */
export interface LogOutput {
  err(text: string): void;
  readonly errLive: boolean;
  readonly errColor: boolean;
}

/** Writes what is logged from now on, at `level` and above, to `output`; returns what ends that. */
export function startLogs(level: LogLevel, output: LogOutput): () => void {
  const format = output.errLive ? terminalFormat(output.errColor) : jsonFormat;
  configureSync({
    reset: true,
    sinks: { stderr: (record) => output.err(format(record)) },
    loggers: [
      { category: "clusterrr", lowestLevel: level, sinks: ["stderr"] },
      // Where the log itself fails.
      { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["stderr"] },
    ],
  });
  return resetSync;
}

/** The logger of an area (`coordinator`, `agent`, `link` …) whose records carry `ids`. */
export function logOf(area: string, ids: LogIds = {}): Log {
  return getLogger(["clusterrr", area]).with({ ...ids });
}
