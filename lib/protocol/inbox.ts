/**
 * What a channel has received and its reader has not taken yet: a bounded queue between a connection that
 * delivers when it wants and a reader that asks when it is ready.
 *
 * ```
 * connection ──put──▶ [ messages ] ──take──▶ reader
 *     ▲                    │ full / no longer full
 *     └──── onRoom ◀───────┘
 * ```
 */
import type { Message } from "./channel.ts";
import { HEADER_BYTES } from "./framing.ts";

/** Above either of these the connection should not be read. */
const HELD_BYTES_FULL = 512 << 10;
const HELD_MESSAGES_FULL = 1024;

export class Inbox {
  readonly #messages: Message[] = [];
  #next = 0;
  #heldBytes = 0;
  #ended = false;
  #failure: Error | undefined;
  #reader: {
    resolve: (message: Message | undefined) => void;
    reject: (error: Error) => void;
  } | undefined;
  readonly #onRoom: () => void;

  /** @param onRoom told when the reader has made room in an inbox that was full */
  constructor(onRoom: () => void) {
    this.#onRoom = onRoom;
  }

  get full(): boolean {
    return this.#heldBytes >= HELD_BYTES_FULL ||
      this.#messages.length - this.#next >= HELD_MESSAGES_FULL;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  put(message: Message): void {
    if (this.#ended) return;
    if (this.#reader) {
      const { resolve } = this.#reader;
      this.#reader = undefined;
      resolve(message);
      return;
    }
    this.#messages.push(message);
    this.#heldBytes += message.body.length + HEADER_BYTES;
  }

  /** Nothing more comes. `failure` is thrown to the reader behind the last message, once. */
  end(failure?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = failure;
    if (!this.#reader) return;
    const { resolve, reject } = this.#reader;
    this.#reader = undefined;
    this.#failure = undefined;
    if (failure) reject(failure);
    else resolve(undefined);
  }

  /** Drops what has not been taken; nothing more comes. */
  discard(): void {
    this.#messages.length = 0;
    this.#next = 0;
    this.#heldBytes = 0;
    this.end();
  }

  take(): Promise<Message | undefined> {
    if (this.#reader) throw new Error("A channel has one reader; a receive is already pending");
    const message = this.#messages[this.#next];
    if (message !== undefined) {
      const wasFull = this.full;
      this.#advance();
      this.#heldBytes -= message.body.length + HEADER_BYTES;
      if (wasFull && !this.full) this.#onRoom();
      return Promise.resolve(message);
    }
    if (this.#failure) {
      const failure = this.#failure;
      this.#failure = undefined;
      return Promise.reject(failure);
    }
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve, reject) => this.#reader = { resolve, reject });
  }

  #advance(): void {
    this.#next++;
    if (this.#next < 256 && this.#next < this.#messages.length) return;
    this.#messages.splice(0, this.#next);
    this.#next = 0;
  }
}
