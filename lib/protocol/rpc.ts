/**
 * Calls over a channel, both ways: each side offers methods, calls the other's, sends notifications.
 *
 * ```
 *            call ──▶ pending[id] ──send──▶ ═══════ ──▶ params checked ──▶ handler
 * result checked ◀── pending[id] ◀──────── channel ◀── result checked ◀──────┘
 * ```
 *
 * Tables of zod schemas say what there is; both sides check what they send and what they get. A peer that
 * breaks the protocol (no JSON, a result that does not fit) is cut off; a call that does not fit (unknown
 * method, wrong parameters) is only answered with an error. When the channel closes, every pending call is
 * rejected and every running handler's signal aborted. The bound: {@link CALLS_MAX} calls a direction that have
 * no answer yet, given up ones included; the next one is refused on the caller's side.
 */
import { z } from "zod";
import { ClusterrrError, messageOf, ProtocolError } from "../errors.ts";
import {
  type CallMessage,
  decodeCallMessage,
  encodeCallMessage,
  errorFromWire,
  errorToWire,
} from "./call_messages.ts";
import { type Channel, describePeer, type PeerIdentity } from "./channel.ts";
import { JSON_KIND } from "./framing.ts";

export const CALLS_MAX = 1024;
export const CALL_TIMEOUT_MS = 30_000;

/** A method with a `result` is called, one without is notified. All values must survive JSON. */
export interface Method {
  readonly params: z.ZodType;
  readonly result?: z.ZodType;
}
export type MethodTable = Readonly<Record<string, Method>>;

export interface CallContext {
  readonly peer: PeerIdentity;
  /** Aborted when the caller has lost interest or the channel is closed. */
  readonly signal: AbortSignal;
}

type CallName<T extends MethodTable> = {
  [K in keyof T & string]: T[K] extends { result: z.ZodType } ? K : never;
}[keyof T & string];
type NoticeName<T extends MethodTable> = Exclude<keyof T & string, CallName<T>>;
type ResultSchema<M> = M extends { result: infer R extends z.ZodType } ? R : never;

/**
 * What a side does with the methods that it offers. The handler of a notification returns at once: it is
 * called in the order of arrival, and what it throws closes the channel.
 */
export type Handlers<T extends MethodTable> = {
  [K in keyof T & string]: T[K] extends { result: infer R extends z.ZodType } ? (
      params: z.output<T[K]["params"]>,
      context: CallContext,
    ) => z.input<R> | Promise<z.input<R>>
    : (params: z.output<T[K]["params"]>, context: Pick<CallContext, "peer">) => void;
};

export interface RpcOptions<Serves extends MethodTable, Calls extends MethodTable> {
  readonly serves: Serves;
  readonly handlers: Handlers<Serves>;
  /** What the other side offers. */
  readonly calls: Calls;
  /**
   * Takes binary messages. Reading goes on once it has returned, so it must not wait for a call on the same
   * channel. Without it a binary message is a breach of the protocol.
   */
  readonly onBinary?: (kind: number, body: Uint8Array) => void | Promise<void>;
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** {@link CALL_TIMEOUT_MS} unless given; `Infinity` for calls that last as long as they last. */
  readonly timeoutMs?: number;
}

export interface Rpc<Calls extends MethodTable> {
  readonly peer: PeerIdentity;
  /**
   * @throws {RemoteError} where the other side's handler failed (a divergence is a DivergenceError again)
   * @throws {ClusterrrError} on a timeout, or when the channel is closed
   * @throws the signal's reason when it is aborted
   */
  call<K extends CallName<Calls>>(
    method: K,
    params: z.input<Calls[K]["params"]>,
    options?: CallOptions,
  ): Promise<z.output<ResultSchema<Calls[K]>>>;
  /** Resolves once it is handed to the operating system. */
  notify<K extends NoticeName<Calls>>(
    method: K,
    params: z.input<Calls[K]["params"]>,
  ): Promise<void>;
  close(): void;
  /** Resolves when the channel is closed: to why, where there is a reason. */
  readonly closed: Promise<string | undefined>;
}

/** Starts to answer and allows to call. The channel's reader is taken from now on. */
export function startRpc<Serves extends MethodTable, Calls extends MethodTable>(
  channel: Channel,
  options: RpcOptions<Serves, Calls>,
): Rpc<Calls> {
  return new ChannelRpc(channel, options as unknown as ErasedOptions) as unknown as Rpc<Calls>;
}

/** The options without their types: names come from the other side here. */
interface ErasedOptions {
  readonly serves: MethodTable;
  readonly handlers: Readonly<
    Record<string, (params: unknown, context: Partial<CallContext>) => unknown>
  >;
  readonly calls: MethodTable;
  readonly onBinary?: (kind: number, body: Uint8Array) => void | Promise<void>;
}

/** A call without an answer; it stays until it is answered even when its caller has given it up. */
interface PendingCall {
  readonly method: string;
  readonly result: z.ZodType;
  /** The first outcome counts. */
  settle(outcome: { readonly value: unknown } | { readonly error: unknown }): void;
}

class ChannelRpc {
  readonly peer: PeerIdentity;
  readonly closed: Promise<string | undefined>;
  readonly #channel: Channel;
  readonly #options: ErasedOptions;
  readonly #pending = new Map<number, PendingCall>();
  readonly #running = new Map<number, AbortController>();
  #lastId = 0;
  #lastRunId = 0;
  #closeReason: string | undefined;
  #isClosed = false;

  constructor(channel: Channel, options: ErasedOptions) {
    this.peer = channel.peer;
    this.#channel = channel;
    this.#options = options;
    this.closed = this.#read().then(() => this.#end());
  }

  async call(name: string, params: unknown, options: CallOptions = {}): Promise<unknown> {
    const { signal, timeoutMs = CALL_TIMEOUT_MS } = options;
    const { params: schema, result } = methodOf(this.#options.calls, name);
    if (!result) throw new Error(`${name} is a notification`);
    requireFit(schema, params, `parameters of ${name}`);
    signal?.throwIfAborted();
    if (this.#isClosed) throw this.#closedError(name);
    if (this.#pending.size >= CALLS_MAX) {
      throw new ClusterrrError(
        `${CALLS_MAX} calls wait for answers of ${describePeer(this.peer)}; ${name} was not sent`,
      );
    }
    const id = ++this.#lastId;
    const body = encodeCallMessage({ id, method: name, params });
    return await new Promise((resolve, reject) => {
      const timer = Number.isFinite(timeoutMs)
        ? setTimeout(() => {
          giveUp(
            new ClusterrrError(
              `${describePeer(this.peer)} did not answer ${name} within ${timeoutMs / 1000} s`,
            ),
          );
        }, timeoutMs)
        : undefined;
      const onAbort = () => giveUp(signal!.reason);
      const settle: PendingCall["settle"] = (outcome) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        if ("value" in outcome) resolve(outcome.value);
        else reject(outcome.error);
      };
      const giveUp = (error: unknown) => {
        settle({ error });
        void this.#post({ cancel: id });
      };
      this.#pending.set(id, { method: name, result, settle });
      signal?.addEventListener("abort", onAbort);
      this.#channel.send(JSON_KIND, body).catch(() =>
        this.#pending.get(id)?.settle({
          error: this.#closedError(name),
        })
      );
    });
  }

  async notify(name: string, params: unknown): Promise<void> {
    const { params: schema, result } = methodOf(this.#options.calls, name);
    if (result) throw new Error(`${name} is no notification`);
    requireFit(schema, params, `parameters of ${name}`);
    if (this.#isClosed) throw this.#closedError(name);
    await this.#channel.send(JSON_KIND, encodeCallMessage({ method: name, params }));
  }

  close(): void {
    this.#closeReason ??= "it was closed on this side";
    this.#channel.close();
  }

  async #read(): Promise<void> {
    try {
      for (;;) {
        const message = await this.#channel.receive();
        if (message === undefined) return;
        if (message.kind === JSON_KIND) this.#take(decodeCallMessage(message.body));
        else if (this.#options.onBinary) await this.#options.onBinary(message.kind, message.body);
        else throw new ProtocolError(`A binary message of kind ${message.kind} was not expected`);
      }
    } catch (error) {
      this.#closeReason ??= messageOf(error);
    } finally {
      this.#channel.close();
    }
  }

  #take(message: CallMessage): void {
    if ("cancel" in message) this.#running.get(message.cancel)?.abort(new CallCancelled());
    else if ("method" in message) {
      if ("id" in message) this.#answer(message.id, message.method, message.params);
      else this.#notice(message.method, message.params);
    } else this.#settle(message);
  }

  #notice(name: string, params: unknown): void {
    const method = Object.hasOwn(this.#options.serves, name)
      ? this.#options.serves[name]!
      : undefined;
    // A newer peer may tell more than this side knows of; nobody waits for an answer.
    if (!method) return;
    if (method.result) throw new ProtocolError(`${name} is no notification`);
    const checked = method.params.safeParse(params);
    if (!checked.success) throw misfit(`parameters of ${name}`, checked.error);
    this.#options.handlers[name]!(checked.data, { peer: this.peer });
  }

  #answer(id: number, name: string, params: unknown): void {
    if (id <= this.#lastRunId) {
      throw new ProtocolError(`Call ${id} came after call ${this.#lastRunId}`);
    }
    this.#lastRunId = id;
    if (this.#running.size >= CALLS_MAX) {
      throw new ProtocolError(`More than ${CALLS_MAX} calls wait for answers`);
    }
    const controller = new AbortController();
    this.#running.set(id, controller);
    void this.#run(name, params, controller.signal)
      .then(
        (result) => encodeCallMessage({ id, result: result ?? null }),
        (error) => encodeCallMessage({ id, error: errorToWire(error) }),
      )
      .catch((error) => encodeCallMessage({ id, error: errorToWire(error) }))
      .then((body) => this.#channel.send(JSON_KIND, body))
      .catch(() => {}) // closed: nobody waits for it any more
      .finally(() => this.#running.delete(id));
  }

  async #run(name: string, params: unknown, signal: AbortSignal): Promise<unknown> {
    const method = Object.hasOwn(this.#options.serves, name)
      ? this.#options.serves[name]!
      : undefined;
    if (!method?.result) {
      throw new ProtocolError(`There is no method ${name}; are both sides of the same version?`);
    }
    const checked = method.params.safeParse(params);
    if (!checked.success) throw misfit(`parameters of ${name}`, checked.error);
    const result = await this.#options.handlers[name]!(checked.data, { peer: this.peer, signal });
    requireFit(method.result, result ?? null, `result of ${name}`);
    return result;
  }

  #settle(
    message: Extract<CallMessage, { id: number; result: unknown } | { error: unknown }>,
  ): void {
    const { id } = message;
    const pending = this.#pending.get(id);
    if (!pending) throw new ProtocolError(`An answer to call ${id}, which waits for none`);
    if ("error" in message) {
      this.#pending.delete(id);
      pending.settle({ error: errorFromWire(describePeer(this.peer), message.error) });
      return;
    }
    const checked = pending.result.safeParse(message.result);
    if (!checked.success) throw misfit(`result of ${pending.method}`, checked.error);
    this.#pending.delete(id);
    pending.settle({ value: checked.data });
  }

  async #post(message: CallMessage): Promise<void> {
    try {
      await this.#channel.send(JSON_KIND, encodeCallMessage(message));
    } catch {
      // Closed: what waits is told by the end of the reader.
    }
  }

  #end(): string | undefined {
    this.#isClosed = true;
    this.#closeReason ??= this.#channel.closeReason;
    for (const { method, settle } of this.#pending.values()) {
      settle({ error: this.#closedError(method) });
    }
    this.#pending.clear();
    for (const controller of this.#running.values()) controller.abort(new CallCancelled());
    return this.#closeReason;
  }

  #closedError(method: string): ConnectionClosedError {
    const reason = this.#closeReason ?? this.#channel.closeReason;
    return new ConnectionClosedError(
      `The connection to ${describePeer(this.peer)} is closed${reason ? ` (${reason})` : ""}; ` +
        `${method} was not answered`,
    );
  }
}

/** A call got no answer, since the connection had ended, or ended meanwhile. */
export class ConnectionClosedError extends ClusterrrError {
  override name = "ConnectionClosedError";
}

/** Why a handler's signal is aborted. */
export class CallCancelled extends ClusterrrError {
  override name = "CallCancelled";
  constructor() {
    super("The caller does not wait for the answer any more");
  }
}

function methodOf(table: MethodTable, name: string): Method {
  if (!Object.hasOwn(table, name)) throw new Error(`There is no method ${name} in the table`);
  return table[name]!;
}

/** What this side sends must fit, before it leaves. */
function requireFit(schema: z.ZodType, value: unknown, what: string): void {
  const checked = schema.safeParse(value);
  if (!checked.success) throw misfit(what, checked.error);
}

function misfit(what: string, error: z.ZodError): ProtocolError {
  return new ProtocolError(`The ${what} do not fit: ${z.prettifyError(error)}`.slice(0, 4096), {
    cause: error,
  });
}
