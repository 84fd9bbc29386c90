/**
 * Sessions of this host: each listens on a Unix socket in its run's directory, so that commands of other
 * processes reach it. One JSON object a line: `{"words": […]}` in, `{"ok": true, "text", "value"}` or
 * `{"ok": false, "error"}` out. Only root can open the directory.
 */
import { z } from "zod";
import { listRuns, RunDirectory } from "../host/run_directory.ts";
import type { OpenedSession, Progress, SessionOptions } from "../lib/cli/ports.ts";
import { concat } from "../lib/bytes/concat.ts";
import { ClusterrrError, DivergenceError, messageOf } from "../lib/errors.ts";
import { runSessionCommand, type SessionAnswer } from "../lib/session/commands.ts";
import { GdbProxy } from "../hypervisor/gdb/proxy.ts";
import { DebuggedSessionVm } from "./debugged_session.ts";
import { ReplaySession } from "./replay_session.ts";

const SOCKET = "session.sock";
const RUNS = "/run/clusterrr";
const ANSWER_WITHIN_MS = 1000;
const REQUEST_BYTES_MAX = 64 << 10;
const READ_BYTES = 64 << 10;

const requestSchema = z.strictObject({ words: z.array(z.string()).min(1) });
const answerSchema = z.discriminatedUnion("ok", [
  z.object({ ok: z.literal(true), text: z.string(), value: z.unknown() }),
  z.object({ ok: z.literal(false), error: z.string() }),
]);

/** The end of a session whose last replay was not what was recorded; whoever asked for it hears how. */
const DIVERGED: SessionAnswer = { text: "", value: { ok: false }, over: true };

/** Opens a recording, goes to the target, and listens. */
export async function openSession(
  options: SessionOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<OpenedSession> {
  const session = await ReplaySession.open(options, progress, signal);
  try {
    if (options.target === undefined) await session.goToStart();
    else await session.bringTo(options.target);
    const debuggers = (options.gdb ?? []).map((name) =>
      GdbProxy.listen(new DebuggedSessionVm(session, name), { port: 0 })
    );
    return new ListeningSession(session, options.directory, debuggers, options.gdb ?? []);
  } catch (error) {
    await session.close();
    throw error;
  }
}

class ListeningSession implements OpenedSession {
  readonly over: Promise<SessionAnswer>;
  readonly #end: (answer: SessionAnswer) => void;
  readonly #run: RunDirectory;
  readonly #listener: Deno.UnixListener;
  readonly #serving: Promise<void>;
  readonly #clients = new Set<Deno.UnixConn>();
  /** Commands run one after the other, whoever gives them. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly session: ReplaySession,
    directory: string,
    private readonly debuggers: readonly GdbProxy[],
    private readonly debugged: readonly string[],
  ) {
    const { promise, resolve } = Promise.withResolvers<SessionAnswer>();
    this.over = promise;
    this.#end = resolve;
    this.#run = RunDirectory.create(`session ${directory}`);
    this.#listener = Deno.listen({ transport: "unix", path: this.#run.file(SOCKET) });
    this.#serving = this.#serve();
  }

  get gdb(): { vm: string; address: string }[] {
    return this.debugged.map((vm, i) => ({ vm, address: this.debuggers[i]!.address }));
  }

  get name(): string {
    return this.#run.run;
  }

  async run(words: readonly string[]): Promise<SessionAnswer> {
    const answer = this.#last.catch(() => {}).then(() => runSessionCommand(this.session, words));
    this.#last = answer;
    try {
      const done = await answer;
      if (done.over) this.#end(done);
      return done;
    } catch (error) {
      if (words[0] === "continue" && error instanceof DivergenceError) this.#end(DIVERGED);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.#listener.close();
    // The one whose command ended the session still gets its answer.
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ANSWER_WITHIN_MS);
    await Promise.race([this.#serving, promise]);
    clearTimeout(timer);
    for (const client of this.#clients) client.close();
    this.#clients.clear();
    await this.#serving;
    await Promise.all(this.debuggers.map((gdb) => gdb.close()));
    await this.#last.catch(() => {});
    await this.session.close();
    this.#run.remove();
  }

  async #serve(): Promise<void> {
    const clients: Promise<void>[] = [];
    try {
      for await (const client of this.#listener) clients.push(this.#answer(client));
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
    await Promise.all(clients);
  }

  async #answer(client: Deno.UnixConn): Promise<void> {
    this.#clients.add(client);
    try {
      const line = await readLine(client, REQUEST_BYTES_MAX);
      if (line !== undefined) await writeLine(client, await this.#respond(line));
    } catch {
      // A client that has gone does not concern the session.
    } finally {
      if (this.#clients.delete(client)) client.close();
    }
  }

  async #respond(line: string): Promise<z.infer<typeof answerSchema>> {
    try {
      const { text, value } = await this.run(requestSchema.parse(JSON.parse(line)).words);
      return { ok: true, text, value };
    } catch (error) {
      return { ok: false, error: messageOf(error) };
    }
  }
}

/**
 * Has a session of this host run a command.
 * @param name of the session; may be left out where there is one
 * @throws {ClusterrrError} what the session says, or that there is none; the reason of `signal`
 */
export async function askSession(
  words: readonly string[],
  name: string | undefined,
  signal: AbortSignal,
): Promise<{ text: string; value: unknown }> {
  const path = `${RUNS}/${await findSession(name)}/${SOCKET}`;
  const connection = await Deno.connect({ transport: "unix", path });
  const connected = new DisposableStack();
  connected.defer(() => connection.close());
  const hangUp = () => connected.dispose();
  signal.addEventListener("abort", hangUp);
  try {
    signal.throwIfAborted();
    await writeLine(connection, { words });
    const line = await readLine(connection, Infinity);
    if (line === undefined) throw new ClusterrrError("The session ended before it answered.");
    const answer = answerSchema.parse(JSON.parse(line));
    if (!answer.ok) throw new ClusterrrError(answer.error);
    return answer;
  } catch (error) {
    signal.throwIfAborted(); // a read that was cut off says something else
    throw error;
  } finally {
    signal.removeEventListener("abort", hangUp);
    hangUp();
  }
}

async function findSession(name: string | undefined): Promise<string> {
  const sessions: string[] = [];
  for (const { run, alive } of listRuns()) {
    if (alive && await isSocket(`${RUNS}/${run}/${SOCKET}`)) sessions.push(run);
  }
  if (name !== undefined) {
    if (sessions.includes(name)) return name;
    throw new ClusterrrError(
      `There is no session ${name}. There are: ${sessions.join(", ") || "none"}.`,
    );
  }
  if (sessions.length === 1) return sessions[0]!;
  throw new ClusterrrError(
    sessions.length === 0
      ? "No replay stands on this host. Start one: clusterrr replay RECORDING --to POINT --hold"
      : `Several replays stand on this host: choose with --session ${sessions.join("|")}`,
  );
}

async function isSocket(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isSocket === true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** A line without its end; `undefined` where the other side hangs up before. */
async function readLine(connection: Deno.Conn, bytesMax: number): Promise<string | undefined> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const part = new Uint8Array(READ_BYTES);
    const n = await connection.read(part); // its stream would close the connection at the end
    if (n === null) return undefined;
    parts.push(part.subarray(0, n));
    if ((bytes += n) > bytesMax) throw new ClusterrrError("The request is too long.");
    const end = part.subarray(0, n).indexOf(10);
    if (end < 0) continue;
    return new TextDecoder().decode(concat(parts).subarray(0, bytes - n + end));
  }
}

async function writeLine(connection: Deno.Conn, value: unknown): Promise<void> {
  const bytes = new TextEncoder().encode(JSON.stringify(value) + "\n");
  for (let rest = bytes; rest.length > 0;) rest = rest.subarray(await connection.write(rest));
}
