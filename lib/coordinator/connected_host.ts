/**
 * A host as the coordinator sees it, over all the connections that its agent makes.
 *
 * ```
 * connected ──connection ends, or nothing is heard──▶ away ──lostAfterMs──▶ lost
 *     ▲──────────────── the agent connects again ──────┴────────────────────┘
 * ```
 * A call waits while the host is away and is made again on the next connection: an agent takes each step of a
 * run once, however often it is asked.
 */
import { ClusterrrError } from "../errors.ts";
import type { AGENT_METHODS, AGENT_REPORTS } from "../protocol/control.ts";
import { type CallOptions, ConnectionClosedError, type Rpc } from "../protocol/rpc.ts";
import type { z } from "zod";

export type AgentRpc = Rpc<typeof AGENT_METHODS>;
export type Hello = z.infer<typeof AGENT_REPORTS.hello.params>;
type Calls = typeof AGENT_METHODS;
type Result<K extends keyof Calls> = z.output<Calls[K]["result"]>;

/** A host did not come back in time. */
export class HostLostError extends ClusterrrError {
  override name = "HostLostError";
  constructor(readonly host: string, afterMs: number) {
    super(`Host ${host} was lost: nothing was heard of it for ${afterMs / 1000} s.`);
  }
}

/** One host. */
export class ConnectedHost {
  /** What its agent said when it connected last. */
  hello: Hello | undefined;
  lastSeen: Date | undefined;
  #heardAt = 0;
  #rpc: AgentRpc | undefined;
  #awayTimer: ReturnType<typeof setTimeout> | undefined;
  #lost = true;
  #isOver = false;
  readonly #waiting = new Set<() => void>();
  readonly #onLost = new Set<() => void>();
  readonly #onAttach = new Set<() => void>();

  constructor(readonly name: string, private readonly lostAfterMs: number) {}

  get connected(): boolean {
    return this.#rpc !== undefined;
  }

  /** It is away for longer than it may, or was never here. */
  get lost(): boolean {
    return this.#lost;
  }

  /** Its agent has connected; an older connection of it is closed. */
  attach(rpc: AgentRpc, hello: Hello): void {
    const before = this.#rpc;
    this.#rpc = rpc;
    this.hello = hello;
    this.#lost = false;
    clearTimeout(this.#awayTimer);
    before?.close();
    this.heard();
    for (const listener of [...this.#onAttach, ...this.#waiting]) listener();
    void rpc.closed.then(() => this.#detach(rpc));
  }

  /** It is expected to connect: from now on it is away, and lost only later. */
  expect(): void {
    if (this.#rpc !== undefined) return;
    this.#heardAt = performance.now();
    this.#lost = false;
    this.#wait();
  }

  #detach(rpc: AgentRpc): void {
    if (this.#rpc !== rpc) return;
    this.#rpc = undefined;
    this.#wait();
  }

  #wait(): void {
    clearTimeout(this.#awayTimer);
    if (this.#isOver) return;
    // Counted from its last word: a connection that says nothing is closed some time before.
    const silentMs = Math.min(this.#silentMs, this.lostAfterMs);
    this.#awayTimer = setTimeout(() => {
      this.#lost = true;
      for (const listener of [...this.#onLost, ...this.#waiting]) listener();
    }, this.lostAfterMs - silentMs);
  }

  /** Its agent has said something. */
  heard(): void {
    this.lastSeen = new Date();
    this.#heardAt = performance.now();
  }

  get #silentMs(): number {
    return performance.now() - this.#heardAt;
  }

  /** Closes a connection on which nothing has been heard for too long. */
  checkAlive(): void {
    if (this.#rpc !== undefined && this.#silentMs > this.lostAfterMs / 2) this.#rpc.close();
  }

  /** Ends the connection, if there is one: the coordinator ends, and nobody is lost by that. */
  disconnect(): void {
    this.#isOver = true;
    this.#rpc?.close();
    clearTimeout(this.#awayTimer);
  }

  /** Calls back when the host is lost; returns what ends that. */
  onLost(listener: () => void): () => void {
    this.#onLost.add(listener);
    return () => this.#onLost.delete(listener);
  }

  /** Calls back when its agent has connected, before any call is made; returns what ends that. */
  onAttach(listener: () => void): () => void {
    this.#onAttach.add(listener);
    return () => this.#onAttach.delete(listener);
  }

  /** Resolves when the host is connected. @throws {HostLostError} */
  async whenConnected(): Promise<AgentRpc> {
    while (this.#rpc === undefined) {
      if (this.#lost) throw new HostLostError(this.name, this.lostAfterMs);
      await this.#change();
    }
    return this.#rpc;
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        resolve();
      };
      this.#waiting.add(wake);
    });
  }

  /**
   * Calls the agent, again after a lost connection.
   * @throws {HostLostError} where it does not come back; {RemoteError} where the call fails there
   */
  async call<K extends keyof Calls>(
    method: K,
    params: z.input<Calls[K]["params"]>,
    options?: CallOptions,
  ): Promise<Result<K>> {
    for (;;) {
      const rpc = await this.whenConnected();
      try {
        // deno-lint-ignore no-explicit-any -- the table's types are lost in a generic call
        const result = await (rpc.call as any)(method, params, options);
        this.heard();
        return result as Result<K>;
      } catch (error) {
        if (!(error instanceof ConnectionClosedError)) throw error;
        await rpc.closed; // it may only have begun to close
      }
    }
  }
}
