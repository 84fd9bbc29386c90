/**
 * One end of a connection that speaks gdb's remote protocol: packets go out, packets come in, whole, and
 * are acknowledged until the other side does without.
 *
 * The same on both sides of the proxy: towards gdb it takes requests, towards QEMU's stub answers.
 */
import { encodePacket, PacketReader } from "./packets.ts";

/** A packet that has come broken so often does not come any more. */
const RESENDS_MAX = 5;

const ACK = Uint8Array.of(0x2b);
const NACK = Uint8Array.of(0x2d);

/** What the owner of a connection does with what comes in. Called in order, one at a time. */
export interface RspListener {
  packet(payload: string): void;
  /** Ctrl-C. */
  interrupt?(): void;
}

export class RspConnection {
  /** Resolves when the connection has ended, whoever ended it. */
  readonly closed: Promise<void>;
  readonly #conn: Deno.Conn;
  #acks = true;
  #ended = false;
  #last: Uint8Array | undefined;
  #resends = 0;
  #sending: Promise<void> = Promise.resolve();

  constructor(conn: Deno.Conn, private readonly listener: RspListener) {
    this.#conn = conn;
    this.closed = this.#read();
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Sends a packet; one that cannot be sent any more is lost, as {@link closed} tells. */
  send(payload: string): void {
    this.#last = encodePacket(payload);
    this.#resends = 0;
    this.#write(this.#last);
  }

  /** From now on packets are neither acknowledged nor asked for again. */
  stopAcks(): void {
    this.#acks = false;
  }

  /** Resolves when everything sent so far has been written. */
  async flush(): Promise<void> {
    await this.#sending;
  }

  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#conn.close();
  }

  async #read(): Promise<void> {
    const reader = new PacketReader();
    const buffer = new Uint8Array(16 * 1024);
    try {
      for (let n = await this.#conn.read(buffer); n !== null; n = await this.#conn.read(buffer)) {
        for (const item of reader.push(buffer.subarray(0, n))) {
          switch (item.kind) {
            case "packet":
              if (this.#acks) this.#write(ACK);
              this.listener.packet(item.payload);
              break;
            case "bad":
              if (this.#acks) this.#write(NACK);
              break;
            case "nack":
              this.#resend();
              break;
            case "interrupt":
              this.listener.interrupt?.();
          }
        }
      }
    } catch {
      // A packet too long to be one, or the socket's way to say that the other side has gone.
    }
    this.close();
  }

  #resend(): void {
    if (this.#last === undefined || !this.#acks) return;
    if (++this.#resends > RESENDS_MAX) this.close();
    else this.#write(this.#last);
  }

  #write(bytes: Uint8Array): void {
    this.#sending = this.#sending.then(async () => {
      for (let rest = bytes; rest.length > 0;) {
        rest = rest.subarray(await this.#conn.write(rest));
      }
    }).catch(() => this.close());
  }
}
