/**
 * Two channels that are each other's ends, inside one process: for simulations with many hosts, and for a
 * coordinator and an agent in one process. Messages pass through the same encoder, decoder and bounds as on
 * a connection, and a reader that does not read holds the sender up.
 */
import { ClusterrrError } from "../errors.ts";
import type { Channel, Message, PeerIdentity } from "./channel.ts";
import { encodeMessage, MessageDecoder } from "./framing.ts";
import { Inbox } from "./inbox.ts";

/**
 * @param left who has the first channel
 * @param right who has the second one
 */
export function channelPair(left: PeerIdentity, right: PeerIdentity): [Channel, Channel] {
  const ofLeft = new MemoryChannel(right);
  const ofRight = new MemoryChannel(left);
  ofLeft.other = ofRight;
  ofRight.other = ofLeft;
  return [ofLeft, ofRight];
}

class MemoryChannel implements Channel {
  other: MemoryChannel | undefined;
  readonly closed: Promise<void>;
  readonly #inbox = new Inbox(() => this.#room());
  readonly #decoder = new MessageDecoder();
  readonly #waiting: (() => void)[] = [];
  #sends: Promise<void> = Promise.resolve();
  /** No more sends are taken; those given before still go out. */
  #closing = false;
  #isClosed = false;
  #resolveClosed!: () => void;

  constructor(readonly peer: PeerIdentity) {
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
  }

  async send(kind: number, body: Uint8Array): Promise<void> {
    const bytes = encodeMessage(kind, body);
    if (this.#closing) throw closedError();
    const sent = this.#sends.then(async () => {
      while (this.other!.#inbox.full && !this.#closing) await this.other!.#nextRoom();
      if (this.#isClosed) throw closedError();
      this.other!.#arrive(bytes);
    });
    this.#sends = sent.catch(() => {});
    await sent;
  }

  receive(): Promise<Message | undefined> {
    return this.#inbox.take();
  }

  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#inbox.discard();
    this.#room();
    this.other!.#room();
    void this.#sends.then(() => {
      this.#end();
      this.other!.#end();
    });
  }

  #end(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#closing = true;
    this.#inbox.end();
    this.#room();
    this.other!.#room();
    this.#resolveClosed();
  }

  #arrive(bytes: Uint8Array): void {
    for (const message of this.#decoder.push(bytes)) this.#inbox.put(message);
  }

  #nextRoom(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #room(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

function closedError(): ClusterrrError {
  return new ClusterrrError("The channel is closed");
}
