/**
 * A channel over a TLS connection whose peer has been verified.
 *
 * ```
 * open ──close()──▶ closing: what was sent before goes out, 5 s at most ──▶ closed
 *   └──── end, error, breach of the protocol, cutOff() ────────────────────▶ closed
 * ```
 *
 * Memory: an inbox of about 512 KiB and one unfinished message; then the socket is not read any more, and the
 * sender's `send` waits once the kernel's buffers are full.
 */
import { concat } from "../../lib/bytes/concat.ts";
import type { Buffer } from "node:buffer";
import type { TLSSocket } from "node:tls";
import { ClusterrrError, messageOf } from "../../lib/errors.ts";
import type { Channel, Message, PeerIdentity } from "../../lib/protocol/channel.ts";
import { encodeMessage, MessageDecoder } from "../../lib/protocol/framing.ts";
import { Inbox } from "../../lib/protocol/inbox.ts";
import type { RelayedSocket } from "./relayed_socket.ts";

/** How long a closed channel may take to send what it was given before. */
const LINGER_MS = 5_000;
/** How long TLS may take for what had arrived when the connection ended. */
const LAST_BYTES_MS = 1_000;

export class TlsChannel implements Channel {
  readonly closed: Promise<void>;
  readonly #tls: TLSSocket;
  readonly #below: RelayedSocket;
  readonly #inbox: Inbox;
  readonly #decoder: MessageDecoder;
  /** What is sent in one turn is one write: each has its price in TLS and in the kernel. */
  #unwritten: { readonly bytes: Uint8Array; readonly done: (error?: Error | null) => void }[] = [];
  /** Sends that the operating system has not taken yet. */
  readonly #sending = new Set<(error: Error) => void>();
  #closing = false;
  #ended = false;
  #reason: string | undefined;
  /** Ends what should have ended by itself. */
  #deadline: ReturnType<typeof setTimeout> | undefined;
  #resolveClosed!: () => void;

  /**
   * @param tls has finished its handshake; nothing else reads it
   * @param below may be paused; it is read from now on
   * @param bytesMax a longer message of the peer is a breach
   */
  constructor(
    tls: TLSSocket,
    below: RelayedSocket,
    readonly peer: PeerIdentity,
    bytesMax?: number,
  ) {
    this.#decoder = new MessageDecoder(bytesMax);
    this.#tls = tls;
    this.#below = below;
    this.#inbox = new Inbox(() => below.socket.resume());
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
    tls.on("data", (bytes: Buffer) => this.#take(bytes));
    tls.on("end", () => this.#end());
    tls.on("error", (error: Error) => this.#end(messageOf(error)));
    tls.on("close", () => this.#end());
    below.socket.on("close", () => this.#endWithin(LAST_BYTES_MS));
    if (below.socket.destroyed) this.#endWithin(LAST_BYTES_MS);
    else below.socket.resume();
  }

  get closeReason(): string | undefined {
    return this.#reason;
  }

  /** Bytes that were received and not taken yet. */
  get heldBytes(): number {
    return this.#inbox.heldBytes;
  }

  async send(kind: number, body: Uint8Array): Promise<void> {
    const bytes = encodeMessage(kind, body);
    if (this.#closing || this.#ended) throw this.#closedError();
    await new Promise<void>((resolve, reject) => {
      this.#sending.add(reject);
      const done = (error?: Error | null) => {
        this.#sending.delete(reject);
        if (error) reject(this.#closedError(error));
        else resolve();
      };
      this.#unwritten.push({ bytes, done });
      if (this.#unwritten.length === 1) queueMicrotask(() => this.#write());
    });
  }

  #write(): void {
    const batch = this.#unwritten;
    if (this.#ended || batch.length === 0) return;
    this.#unwritten = [];
    this.#tls.write(concat(batch.map(({ bytes }) => bytes)), (error?: Error | null) => {
      for (const { done } of batch) done(error);
    });
  }

  receive(): Promise<Message | undefined> {
    return this.#inbox.take();
  }

  close(): void {
    if (this.#closing || this.#ended) return;
    this.#closing = true;
    this.#inbox.discard();
    this.#below.socket.resume();
    this.#endWithin(LINGER_MS);
    this.#write();
    this.#tls.end();
  }

  /** Closes at once: what is on its way is lost. */
  cutOff(reason: string): void {
    this.#end(reason);
  }

  #take(bytes: Uint8Array): void {
    if (this.#closing || this.#ended) return;
    const messages: Message[] = [];
    let failure: Error | undefined;
    try {
      this.#decoder.push(bytes, messages);
    } catch (error) {
      failure = error as Error;
    }
    for (const message of messages) this.#inbox.put(message);
    if (failure) {
      this.#inbox.end(failure);
      this.#end(failure.message);
    } else if (this.#inbox.full) {
      this.#below.socket.pause();
    }
  }

  #endWithin(ms: number): void {
    if (this.#ended) return;
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#end(), ms);
  }

  #end(reason?: string): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#deadline);
    if (!this.#closing) {
      this.#reason = reason ??
        (this.#decoder.inMessage ? "the connection ended inside a message" : undefined);
    }
    this.#inbox.end();
    for (const reject of this.#sending) reject(this.#closedError());
    this.#sending.clear();
    this.#tls.destroy();
    this.#below.socket.destroy();
    this.#resolveClosed();
  }

  #closedError(cause?: Error): ClusterrrError {
    return new ClusterrrError(
      `The channel is closed${this.#reason ? `: ${this.#reason}` : ""}`,
      cause ? { cause } : undefined,
    );
  }
}
