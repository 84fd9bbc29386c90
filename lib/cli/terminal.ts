/**
 * Where commands write: results to standard output, progress and errors to standard error. An
 * interface, so that tests see exactly what a user would.
 */

export interface Terminal {
  /** Writes to standard output, whole, before it returns. */
  out(text: string): void;
  /** Writes to standard error, whole, before it returns; nothing where that cannot be written to. */
  err(text: string): void;
  /** Whether a person reads standard output, and colours are wanted. */
  readonly outColor: boolean;
  /** Likewise for standard error. */
  readonly errColor: boolean;
  /** Whether standard error can move its cursor: live progress is possible. */
  readonly errLive: boolean;
  /** Likewise for standard output. */
  readonly outLive: boolean;
  /** The size in characters now; it may change. */
  size(): { readonly columns: number; readonly rows: number };
  /** Whether a person types on standard input. */
  readonly interactive: boolean;
  /** The lines of standard input. */
  lines(): AsyncIterable<string>;
}

/** The reader of standard output has gone (`clusterrr dump … | head`, a closed terminal): nothing is left to do. */
export class OutputClosed extends Error {
  override name = "OutputClosed";
}

/** The terminal of this process. `NO_COLOR` (any value but "") turns colours off. */
export function processTerminal(): Terminal {
  const wanted = !Deno.env.get("NO_COLOR") && Deno.env.get("TERM") !== "dumb";
  return {
    out: (text) => {
      try {
        writeAll(Deno.stdout, text);
      } catch (cause) {
        if (readerHasGone(cause)) throw new OutputClosed("stdout", { cause });
        throw cause;
      }
    },
    err: (text) => {
      try {
        writeAll(Deno.stderr, text);
      } catch {
        // Nobody reads it any more, or the disk that it goes to is full: there is no other place to say so, and a
        // recording is not to end for it.
      }
    },
    outColor: wanted && Deno.stdout.isTerminal(),
    errColor: wanted && Deno.stderr.isTerminal(),
    errLive: Deno.stderr.isTerminal() && Deno.env.get("TERM") !== "dumb",
    outLive: Deno.stdout.isTerminal() && Deno.env.get("TERM") !== "dumb",
    size: consoleSize,
    interactive: Deno.stdin.isTerminal(),
    lines: () =>
      Deno.stdin.readable.pipeThrough(new TextDecoderStream()).pipeThrough(new LineSplitter()),
  };
}

/**
 * The next line of standard input; `undefined` at its end.
 * @throws the signal's reason when it is aborted
 */
export async function nextLine(
  terminal: Terminal,
  signal: AbortSignal,
): Promise<string | undefined> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    const lines = terminal.lines()[Symbol.asyncIterator]();
    const { done, value } = await Promise.race([lines.next(), aborted.promise]);
    return done ? undefined : value;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Cuts text into lines, their ends away. */
class LineSplitter extends TransformStream<string, string> {
  constructor() {
    let rest = "";
    super({
      transform(text, controller) {
        const lines = (rest + text).split("\n");
        rest = lines.pop()!;
        for (const line of lines) controller.enqueue(line);
      },
      flush(controller) {
        if (rest !== "") controller.enqueue(rest);
      },
    });
  }
}

function writeAll(to: { writeSync(bytes: Uint8Array): number }, text: string): void {
  let rest = new TextEncoder().encode(text);
  while (rest.length > 0) rest = rest.subarray(to.writeSync(rest));
}

/** Whether a write failed for want of a reader: to a pipe, or to a terminal that has gone (EIO). */
function readerHasGone(cause: unknown): boolean {
  return cause instanceof Deno.errors.BrokenPipe ||
    cause instanceof Error && "code" in cause && cause.code === "EIO";
}

function consoleSize(): { columns: number; rows: number } {
  try {
    return Deno.consoleSize();
  } catch {
    return { columns: 100, rows: 24 }; // not a terminal
  }
}

/** Text in a style; without colours the text itself. */
export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  good(text: string): string;
  bad(text: string): string;
  warn(text: string): string;
}

export function paint(color: boolean): Paint {
  const style = (on: number, off: number) => (text: string) =>
    color ? `\x1b[${on}m${text}\x1b[${off}m` : text;
  return {
    bold: style(1, 22),
    dim: style(2, 22),
    good: style(32, 39),
    bad: style(31, 39),
    warn: style(33, 39),
  };
}

/** Styles for text that goes somewhere without colours. */
export const PLAIN: Paint = paint(false);

/** Prints `value` as JSON to standard output. Counts that a JSON number cannot hold become strings. */
export function printJson(terminal: Terminal, value: unknown): void {
  terminal.out(JSON.stringify(value, jsonValue, 2) + "\n");
}

/** For `JSON.stringify`: a bigint as a number where that is exact, else as a string. */
export function jsonValue(_key: string, value: unknown): unknown {
  if (typeof value !== "bigint") return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}
