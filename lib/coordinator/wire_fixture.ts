/**
 * Connections of a simulated network, in virtual time: messages arrive later and in order, a connection may hang for a while or
 * break, and what is under way then is lost.
 */
import { ClusterrrError } from "../errors.ts";
import type { Channel, Message, PeerIdentity } from "../protocol/channel.ts";
import { Inbox } from "../protocol/inbox.ts";

/** After this time a side that has closed does not wait for the other any more. */
const LINGER_MS = 5_000;

export interface WireOptions {
  latencyMs(): number;
  /** Hears of every message before it leaves; what it does may break the wire. */
  onMessage(): void;
}

/** One connection. */
export class Wire {
  readonly ends: readonly [Channel, Channel];
  readonly #left: WireEnd;
  readonly #right: WireEnd;
  #hangsUntil = 0;
  isBroken = false;

  constructor(left: PeerIdentity, right: PeerIdentity, readonly options: WireOptions) {
    this.#left = new WireEnd(this, right);
    this.#right = new WireEnd(this, left);
    this.#left.other = this.#right;
    this.#right.other = this.#left;
    this.ends = [this.#left, this.#right];
  }

  get isOpen(): boolean {
    return !this.#left.isClosed && !this.#right.isClosed;
  }

  /** It breaks: both ends are closed, nothing that is under way arrives. */
  break(): void {
    this.isBroken = true;
    this.#left.end();
    this.#right.end();
  }

  /** Nothing arrives for so long. */
  hang(ms: number): void {
    this.#hangsUntil = Math.max(this.#hangsUntil, performance.now() + ms);
  }

  /** When what is sent now arrives. */
  arrival(): number {
    return Math.max(this.#hangsUntil, performance.now() + this.options.latencyMs());
  }
}

class WireEnd implements Channel {
  other!: WireEnd;
  readonly closed: Promise<void>;
  isClosed = false;
  #closing = false;
  #lastArrival = 0;
  readonly #inbox = new Inbox(() => {});
  #resolveClosed!: () => void;

  constructor(private readonly wire: Wire, readonly peer: PeerIdentity) {
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
  }

  // deno-lint-ignore require-await -- rejects instead of throwing
  async send(kind: number, body: Uint8Array): Promise<void> {
    if (this.isClosed || this.#closing) throw new ClusterrrError("The channel is closed");
    this.wire.options.onMessage();
    this.#later(() => this.other.#arrive({ kind, body: body.slice() }));
  }

  receive(): Promise<Message | undefined> {
    return this.#inbox.take();
  }

  /** Like a TLS connection: what was sent before still goes, and the end of it comes from the other side. */
  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#inbox.discard();
    this.#later(() => {
      this.other.end();
      this.end();
    });
    setTimeout(() => this.end(), LINGER_MS);
  }

  end(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.#closing = true;
    this.#inbox.end();
    this.#resolveClosed();
  }

  #later(work: () => void): void {
    this.#lastArrival = Math.max(this.#lastArrival, this.wire.arrival());
    setTimeout(() => this.wire.isBroken || work(), this.#lastArrival - performance.now());
  }

  #arrive(message: Message): void {
    if (!this.isClosed && !this.#closing) this.#inbox.put(message);
  }
}
