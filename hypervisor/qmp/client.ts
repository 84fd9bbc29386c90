/**
 * A connection to the monitor of one QEMU: commands go out, replies and events come in.
 *
 * ```
 *  connecting ──socket accepts──▶ greeting ──qmp_capabilities──▶ ready ──┐
 *      │  ▲ again every 10 ms         │                            │     │ EOF, a malformed message,
 *      └──┘ until the time is up      │ EOF, time is up            │     │ close()
 *      │ time is up, signal           ▼                            │     ▼
 *      └─────────────────────────▶ (throws)       execute, events ◀┘   closed: every pending and
 *                                                                      later call fails
 * ```
 *
 * One reader loop routes replies by id. Commands may be sent while others are pending; QEMU works
 * through them in order.
 */
import type { z } from "zod";
import { type ClusterrrError, messageOf, ProtocolError, QmpError } from "../../lib/errors.ts";
import { LineReader } from "./lines.ts";
import { checkGreeting, checkReturn, parseMessage, type QmpEvent } from "./messages.ts";

const RETRY_MS = 10;
const REPLY_TIMEOUT_MS = 30_000;

export interface QmpConnectOptions {
  /** For the socket to be there, the greeting and the negotiation together. Default 30 s. */
  readonly timeoutMs?: number;
  /** Gives up early, with the signal's reason: QEMU has ended, the user has interrupted. */
  readonly signal?: AbortSignal;
}

export interface QmpExecuteOptions<T> {
  /** For the reply. Default 30 s. */
  readonly timeoutMs?: number;
  /** What the command returns; without it the value comes back unchecked. */
  readonly shape?: z.ZodType<T>;
}

interface PendingCall {
  readonly command: string;
  resolve(value: unknown): void;
  reject(error: ClusterrrError): void;
}

export class QmpClient {
  /** Resolves once the connection has ended, whoever ended it. */
  readonly closed: Promise<void>;
  readonly #conn: Deno.UnixConn;
  readonly #path: string;
  readonly #pending = new Map<number, PendingCall>();
  /** Calls that timed out, whose reply may still come. */
  readonly #abandoned = new Set<number>();
  readonly #listeners = new Map<string, Set<(event: QmpEvent) => void>>();
  #lastId = 0;
  #sending: Promise<void> = Promise.resolve();
  #ended = false;
  #protocolError: ProtocolError | undefined;

  private constructor(conn: Deno.UnixConn, path: string, lines: LineReader) {
    this.#conn = conn;
    this.#path = path;
    this.closed = this.#readMessages(lines);
  }

  /**
   * Connects to the monitor's Unix socket, waiting for QEMU to create it, and negotiates.
   * @throws {QmpError} of class `Timeout` or `Disconnected`
   * @throws {ProtocolError} when what listens there is not a QMP monitor
   */
  static async connect(path: string, options: QmpConnectOptions = {}): Promise<QmpClient> {
    const timeoutMs = options.timeoutMs ?? REPLY_TIMEOUT_MS;
    const deadline = AbortSignal.timeout(timeoutMs);
    const signal = options.signal ? AbortSignal.any([deadline, options.signal]) : deadline;
    const givenUp = () => {
      if (options.signal?.aborted) return options.signal.reason;
      return new QmpError("connect", "Timeout", `no monitor at ${path} within ${timeoutMs} ms`);
    };
    const conn = await connectWithRetries(path, signal, givenUp);
    const hangUp = () => closeQuietly(conn);
    signal.addEventListener("abort", hangUp);
    try {
      const lines = new LineReader(conn);
      checkGreeting(await lineOf(lines));
      await writeWhole(conn, { execute: "qmp_capabilities", id: 0 });
      const reply = parseMessage(await lineOf(lines));
      if (reply.kind === "error") {
        throw new QmpError("qmp_capabilities", reply.errorClass, reply.description);
      }
      signal.removeEventListener("abort", hangUp);
      if (signal.aborted) throw givenUp();
      return new QmpClient(conn, path, lines);
    } catch (cause) {
      signal.removeEventListener("abort", hangUp);
      closeQuietly(conn);
      if (signal.aborted) throw givenUp();
      if (cause instanceof QmpError || cause instanceof ProtocolError) throw cause;
      throw new QmpError("connect", "Disconnected", `${path}: ${messageOf(cause)}`, { cause });
    }
  }

  /**
   * Runs a command and returns what it returned.
   * @throws {QmpError} with QEMU's error class; `Timeout`; `Disconnected`
   * @throws {ProtocolError} when the value is not of `shape`, or the connection broke the protocol
   */
  async execute<T = unknown>(
    command: string,
    args: Readonly<Record<string, unknown>> = {},
    options: QmpExecuteOptions<T> = {},
  ): Promise<T> {
    if (this.#ended) throw this.#endedError(command);
    const id = ++this.#lastId;
    const timeoutMs = options.timeoutMs ?? REPLY_TIMEOUT_MS;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { command, resolve, reject });
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      this.#abandoned.add(id);
      reject(new QmpError(command, "Timeout", `no reply within ${timeoutMs} ms`));
    }, timeoutMs);
    this.#send({ execute: command, arguments: args, id });
    try {
      const value = await promise;
      return options.shape ? checkReturn(command, options.shape, value) : value as T;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Runs a line of the human monitor and returns the text it printed, lines ended by `\r\n`. */
  async hmp(line: string, options: { timeoutMs?: number } = {}): Promise<string> {
    return await this.execute<string>(
      "human-monitor-command",
      { "command-line": line },
      options,
    );
  }

  /** Calls `listener` at each event of that name. */
  on(name: string, listener: (event: QmpEvent) => void): void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(listener);
  }

  /** Ends the connection; QEMU runs on. Pending calls fail. */
  async close(): Promise<void> {
    this.#end(undefined);
    await this.closed;
  }

  async #readMessages(lines: LineReader): Promise<void> {
    try {
      for (let line = await lines.next(); line !== undefined; line = await lines.next()) {
        this.#route(line);
      }
      this.#end(undefined);
    } catch (cause) {
      // Anything else is the socket's way to say that the other side has gone, or that we closed it.
      this.#end(cause instanceof ProtocolError ? cause : undefined);
    }
  }

  #route(line: string): void {
    const message = parseMessage(line);
    if (message.kind === "event") {
      for (const listener of [...this.#listeners.get(message.event.name) ?? []]) {
        listener(message.event);
      }
      return;
    }
    const call = this.#pending.get(message.id);
    if (!call) {
      if (this.#abandoned.delete(message.id)) return;
      throw new ProtocolError(`QMP: a reply to ${message.id}, which was not asked`);
    }
    this.#pending.delete(message.id);
    if (message.kind === "return") call.resolve(message.value);
    else call.reject(new QmpError(call.command, message.errorClass, message.description));
  }

  /** Messages go out whole and in order, even where a write takes only a part. */
  #send(message: unknown): void {
    this.#sending = this.#sending.then(() => writeWhole(this.#conn, message)).catch(() => {
      this.#end(undefined);
    });
  }

  #end(cause: ProtocolError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#protocolError = cause;
    closeQuietly(this.#conn);
    for (const call of this.#pending.values()) call.reject(this.#endedError(call.command));
    this.#pending.clear();
  }

  #endedError(command: string): ClusterrrError {
    if (this.#protocolError) return this.#protocolError;
    return new QmpError(command, "Disconnected", `the monitor ${this.#path} has closed`);
  }
}

async function connectWithRetries(
  path: string,
  signal: AbortSignal,
  givenUp: () => unknown,
): Promise<Deno.UnixConn> {
  while (true) {
    if (signal.aborted) throw givenUp();
    try {
      return await Deno.connect({ transport: "unix", path });
    } catch (cause) {
      const early = cause instanceof Deno.errors.NotFound ||
        cause instanceof Deno.errors.ConnectionRefused;
      if (!early) {
        throw new QmpError("connect", "Disconnected", `${path}: ${messageOf(cause)}`, { cause });
      }
    }
    await new Promise((resume) => setTimeout(resume, RETRY_MS));
  }
}

async function lineOf(lines: LineReader): Promise<string> {
  const line = await lines.next();
  if (line === undefined) throw new Error("it closed the connection during the negotiation");
  return line;
}

async function writeWhole(conn: Deno.UnixConn, message: unknown): Promise<void> {
  let rest = new TextEncoder().encode(JSON.stringify(message) + "\n");
  while (rest.length > 0) rest = rest.subarray(await conn.write(rest));
}

function closeQuietly(conn: Deno.UnixConn): void {
  try {
    conn.close();
  } catch (cause) {
    if (!(cause instanceof Deno.errors.BadResource)) throw cause;
  }
}

/** Whether an error says that the monitor has closed, as when QEMU ends. */
export function isDisconnect(cause: unknown): boolean {
  return cause instanceof QmpError && cause.errorClass === "Disconnected";
}
