/** Runs the host's commands (`ip`, `tc`, `nft`, `qemu-img`) and turns failures into {@link HostError}. */
import { HostError } from "../lib/errors.ts";

/** How a command is run. */
export interface CommandOptions {
  /** What the user can do when it fails. */
  readonly advice?: string;
  /** Text for its standard input. */
  readonly stdin?: string;
  /** Ends the command after this time. Default 30 s. */
  readonly timeoutMs?: number;
}

/**
 * Runs `argv` to its end and returns what it printed.
 * @throws {HostError} with command, exit code and stderr; code 127 where the program is missing
 */
export async function run(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const [program, ...args] = argv;
  if (program === undefined) throw new Error("empty command");
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program, {
      args,
      stdin: options.stdin === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
      signal: AbortSignal.timeout(options.timeoutMs ?? 30_000),
      detached: true, // Ctrl-C at a terminal must not stop what builds, or removes, half-way
    }).spawn();
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw cause;
    throw new HostError(argv.join(" "), 127, "no such program", options.advice, { cause });
  }
  // Read while it is written to: either pipe may fill up.
  const output = child.output();
  if (options.stdin !== undefined) await writeAll(child.stdin, options.stdin);
  const { code, stdout, stderr } = await output;
  if (code !== 0) {
    throw new HostError(argv.join(" "), code, new TextDecoder().decode(stderr), options.advice);
  }
  return new TextDecoder().decode(stdout);
}

/** Writes `text` and ends the stream. A command that ends without reading it says why on stderr. */
async function writeAll(stream: WritableStream<Uint8Array>, text: string): Promise<void> {
  const writer = stream.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
