/**
 * A network between simulated hosts: channels whose messages are lost, doubled, delayed and overtake each
 * other, connections that break, hosts that do not reach each other for a while.
 *
 * The messages that open a link come in order, or the connection breaks: a link rests on that much of
 * its transport, and on nothing else.
 */
import { ProtocolError } from "../../lib/errors.ts";
import type { Channel, PeerIdentity } from "../../lib/protocol/channel.ts";
import { LINK_KINDS } from "../../lib/protocol/link_messages.ts";
import type { Random } from "./random.ts";
import type { VirtualTime } from "./virtual_time.ts";

/** What the network does, in percent of the messages; times in ms. */
export interface NetworkFaults {
  readonly lost: number;
  readonly doubled: number;
  readonly delayMax: number;
  /** Messages after which a connection breaks, on average; 0: never. */
  readonly breaksEvery: number;
}

type Body = { kind: number; body: Uint8Array };

/** The first kind that comes when a link is open. */
const OPENING_KIND_MAX = LINK_KINDS.position;

class SimChannel implements Channel {
  readonly closed: Promise<void>;
  other!: SimChannel;
  readonly #inbox: Body[] = [];
  #reader: ((next: Body | undefined) => void) | undefined;
  #open = true;
  #orderedUntil = 0;
  #setClosed: () => void;

  constructor(
    readonly peer: PeerIdentity,
    private readonly self: string,
    private readonly network: LinkNetwork,
  ) {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#setClosed = resolve;
  }

  send(kind: number, body: Uint8Array): Promise<void> {
    if (!this.#open) return Promise.reject(new ProtocolError("the channel is closed"));
    const { random, faults, time } = this.network;
    const opening = kind <= OPENING_KIND_MAX;
    const broken = faults.breaksEvery > 0 && random.below(faults.breaksEvery) === 0;
    const lost = random.below(opening ? 500 : 100) < faults.lost ||
      !this.network.reaches(this.self, this.peer.name);
    if (broken || (lost && opening)) {
      this.close();
      return Promise.resolve();
    }
    // Resolves a little later: a message is on its way while the sender thinks of the next.
    const sent = time.sleep(random.below(2));
    if (lost) return sent;
    const copy = { kind, body: body.slice() };
    for (let copies = !opening && random.chance(faults.doubled) ? 2 : 1; copies > 0; copies--) {
      let at = time.now() + random.below(faults.delayMax + 1);
      at = Math.max(at, this.#orderedUntil);
      if (opening) this.#orderedUntil = at;
      time.after(at - time.now(), () => this.other.#deliver(copy));
    }
    return sent;
  }

  #deliver(message: Body): void {
    if (!this.#open) return;
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader !== undefined) reader(message);
    else this.#inbox.push(message);
  }

  receive(): Promise<Body | undefined> {
    const next = this.#inbox.shift();
    if (next !== undefined || !this.#open) return Promise.resolve(next);
    return new Promise((resolve) => this.#reader = resolve);
  }

  close(): void {
    if (!this.#open) return;
    this.#end();
    this.network.time.after(this.network.random.below(5), () => {
      if (this.network.reaches(this.self, this.peer.name)) this.other.#end();
    });
  }

  #end(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#reader?.(undefined);
    this.#setClosed();
  }
}

/** The network of one schedule. */
export class LinkNetwork {
  readonly #listeners = new Map<string, (channel: Channel) => void>();
  /** Pairs of hosts that do not reach each other, and until when. */
  readonly #cut = new Map<string, number>();

  constructor(
    readonly time: VirtualTime,
    readonly random: Random,
    public faults: NetworkFaults,
  ) {}

  listen(host: string, accept: (channel: Channel) => void): void {
    this.#listeners.set(host, accept);
  }

  /** The process of `host` has gone. */
  unlisten(host: string): void {
    this.#listeners.delete(host);
  }

  partition(a: string, b: string, ms: number): void {
    this.#cut.set(pair(a, b), this.time.now() + ms);
  }

  reaches(a: string, b: string): boolean {
    return this.time.now() >= (this.#cut.get(pair(a, b)) ?? 0);
  }

  async connect(from: string, to: string): Promise<Channel> {
    await this.time.sleep(this.random.below(this.faults.delayMax + 1));
    const accept = this.#listeners.get(to);
    if (accept === undefined || !this.reaches(from, to)) throw new Error(`${to} is away`);
    const identity = (name: string) => ({ role: "agent" as const, name, serial: name });
    const near = new SimChannel(identity(to), from, this);
    const far = new SimChannel(identity(from), to, this);
    near.other = far;
    far.other = near;
    this.time.after(0, () => accept(far));
    return near;
  }
}

function pair(a: string, b: string): string {
  return a < b ? `${a} ${b}` : `${b} ${a}`;
}
