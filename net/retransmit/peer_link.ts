/**
 * One end of a link between two hosts, as a state machine: messages go in, and it is asked for the next one
 * to send. Time and transport come from outside.
 *
 * ```
 *          connected                the peer's opening is whole
 * closed ────────────▶ opening ──────────────────────────────────▶ open
 *   ▲                     │                                         │
 *   └────────────────── disconnected ◀──────────────────────────────┘
 *
 * opening, each way:  open, [state], epochs …, want …, position      then, in any order:
 *                     frame, acknowledge, progress, state, ping, pong
 * ```
 * Nothing that is to be said is queued: it follows from the state when its turn comes, and what has been
 * overtaken is never said. So what one end holds is bounded by the frames that are not acknowledged. What
 * is said once is said again with every ping, so that a lost message heals.
 */
import { PeerFailedError, ProtocolError } from "../../lib/errors.ts";
import {
  type HostState,
  type LinkMessage,
  LIST_ENTRIES_MAX,
  type StateMessage,
  type WantMessage,
} from "../../lib/protocol/link_messages.ts";
import type { AnnouncedVm, SharedWindow } from "../../lib/roles/shared_window.ts";
import type { VmNumber } from "../../lib/units.ts";
import type { LinkReceiver } from "./link_receiver.ts";
import type { LinkSender } from "./link_sender.ts";
import { WantedFrames } from "./wanted_frames.ts";

/**
 * A frame is acknowledged with the next one that goes the other way, or after this: two VMs that wait for
 * each other wait for the frames, and the acknowledgement must not go before them.
 */
const ACKNOWLEDGE_AFTER_MS = 2;

/** The host at the other end. */
export interface LinkPeer {
  readonly name: string;
  readonly vms: readonly VmNumber[];
}

/** What this host says of itself; the same object for all of its links. */
export interface LinkSelf {
  readonly runId: string;
  readonly incarnation: number;
  readonly vms: ReadonlyMap<VmNumber, AnnouncedVm>;
  state: HostState;
  /** Why it failed. */
  text: string;
  /** Rises whenever something moves here. */
  moves: number;
}

/** Collects the parts of what a peer says in several messages. */
interface Parts {
  readonly epochs: Map<VmNumber, { cuts: number[]; whole: boolean }>;
  readonly wants: Map<VmNumber, { wanted: WantedFrames; whole: boolean }>;
}

/** The link to one peer. */
export class PeerLink {
  #opening: Iterator<LinkMessage> | undefined;
  #connected = false;
  #parts: Parts | undefined;
  #isOpen = false;
  #incarnation: number | undefined;
  readonly #progressDue = new Set<VmNumber>();
  #stateDue = false;
  #acknowledgeAt = Infinity;
  #pongDue: number | undefined;
  #pingAt = Infinity;
  #pings = 0;
  #pingSentAt = 0;
  #roundTripMs = 0;
  #peerState: HostState = "running";
  #peerText = "";
  #peerMoves = 0;
  #heard = false;

  constructor(
    readonly peer: LinkPeer,
    private readonly self: LinkSelf,
    private readonly window: SharedWindow,
    readonly sender: LinkSender,
    readonly receiver: LinkReceiver,
    private readonly pingMs: number,
  ) {}

  /** Both ends know what they need of each other. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** How the peer's VMs do, as it said last. */
  get peerState(): HostState {
    return this.#peerState;
  }

  /** The last round trip that was measured; 0 before. */
  get roundTripMs(): number {
    return this.#roundTripMs;
  }

  /** Whether everything about this host's state has been said on this connection. */
  get stateSaid(): boolean {
    return this.#opening === undefined && !this.#stateDue;
  }

  /**
   * Whether the peer may have moved since the last call: it said so, it cannot be heard, or its VMs have
   * not begun. One that never begins has to be found by whoever started it.
   */
  takeMoved(): boolean {
    const moved = this.#heard || !this.#isOpen || this.#peerMoves === 0;
    this.#heard = false;
    return moved;
  }

  connected(now: number): void {
    this.#connected = true;
    this.#isOpen = false;
    this.#parts = undefined;
    this.#opening = this.#openingMessages();
    this.#pongDue = undefined;
    this.#pingAt = now;
    this.#repeat();
  }

  disconnected(): void {
    this.#connected = this.#isOpen = false;
    this.#opening = this.#parts = undefined;
    this.#pingAt = Infinity;
    this.sender.disconnected();
  }

  /** One of this host's VMs has news. */
  progressed(vm: VmNumber): void {
    this.#progressDue.add(vm);
  }

  stateChanged(): void {
    this.#stateDue = true;
  }

  #repeat(): void {
    for (const vm of this.self.vms.keys()) this.#progressDue.add(vm);
    this.#stateDue = true;
    this.#acknowledgeAt = -Infinity;
    this.receiver.repeat();
  }

  *#openingMessages(): Generator<LinkMessage> {
    const { runId, incarnation, vms, state, text } = this.self;
    yield { type: "open", runId, incarnation };
    if (state === "failed") yield { type: "state", state, text };
    for (const [vm, { complete, lastReceive, cuts }] of vms) {
      for (let from = 0, last = false; !last; from += LIST_ENTRIES_MAX) {
        last = from + LIST_ENTRIES_MAX >= cuts.length;
        const part = cuts.slice(from, from + LIST_ENTRIES_MAX);
        yield { type: "epochs", vm, last, complete, lastReceive, cuts: part };
      }
    }
    for (const [vm, wanted] of this.receiver.wanted) {
      for (const part of wanted.parts()) yield { type: "want", vm, ...part };
    }
    yield { type: "position", counts: this.receiver.positions() };
  }

  /** The next message to send; `undefined` while there is none. */
  next(now: number): LinkMessage | undefined {
    if (!this.#connected) return undefined;
    if (this.#opening !== undefined) {
      const { value, done } = this.#opening.next();
      if (done !== true) return value;
      this.#opening = undefined;
    }
    if (this.#pongDue !== undefined) {
      const token = this.#pongDue;
      this.#pongDue = undefined;
      return { type: "pong", token };
    }
    if (now >= this.#pingAt) {
      this.#pingAt = now + this.pingMs;
      this.#repeat();
      this.#pingSentAt = now;
      return { type: "ping", token: ++this.#pings, moves: this.self.moves };
    }
    if (this.#stateDue) {
      this.#stateDue = false;
      return { type: "state", state: this.self.state, text: this.self.text };
    }
    if (now >= this.#acknowledgeAt) {
      const acknowledgement = this.receiver.nextAcknowledgement();
      if (acknowledgement !== undefined) return { type: "acknowledge", ...acknowledgement };
      this.#acknowledgeAt = Infinity;
    }
    for (const vm of this.#progressDue) {
      this.#progressDue.delete(vm);
      return { type: "progress", vm, ...this.window.progress(vm) };
    }
    const frame = this.sender.next(now);
    if (frame === undefined) return undefined;
    if (this.receiver.acknowledgementDue) this.#acknowledgeAt = now; // it goes with the frame
    return { type: "frame", ...frame };
  }

  /** When {@link next} may have something though nothing happens. */
  get dueAt(): number {
    return Math.min(this.#pingAt, this.#acknowledgeAt, this.sender.dueAt);
  }

  /**
   * Takes the peer's next message.
   * @throws {ProtocolError} it is not allowed here; {@link PeerFailedError} what it says ends the replay
   */
  receive(message: LinkMessage, now: number): void {
    if (!this.#isOpen) return this.#receiveOpening(message);
    switch (message.type) {
      case "frame":
        if (this.receiver.take(message)) this.#heard = true;
        this.#acknowledgeAt = Math.min(this.#acknowledgeAt, now + ACKNOWLEDGE_AFTER_MS);
        return;
      case "acknowledge":
        return this.sender.acknowledge(message.vm, message.count, now, this.#roundTripMs);
      case "progress":
        this.#checkVm(message.vm);
        return this.window.observe(message.vm, message);
      case "state":
        return this.#receiveState(message);
      case "ping":
        if (message.moves > this.#peerMoves) this.#heard = true;
        this.#peerMoves = Math.max(this.#peerMoves, message.moves);
        this.#pongDue = message.token;
        return;
      case "pong":
        if (message.token === this.#pings) this.#roundTripMs = now - this.#pingSentAt;
        return;
      default:
        throw new ProtocolError(`"${message.type}" on a link that is open`);
    }
  }

  #receiveState({ state, text }: StateMessage): void {
    this.#peerState = state;
    this.#peerText = text;
  }

  #receiveOpening(message: LinkMessage): void {
    if (message.type === "open") return this.#receiveOpen(message.runId, message.incarnation);
    if (this.#parts === undefined) throw new ProtocolError(`"${message.type}" before "open"`);
    switch (message.type) {
      case "state":
        return this.#receiveState(message);
      case "epochs": {
        const { vm, cuts, last } = message;
        this.#checkVm(vm);
        const sofar = this.#parts.epochs.get(vm) ?? { cuts: [], whole: false };
        if (sofar.whole) throw new ProtocolError(`the epochs of VM ${vm} come twice`);
        for (const cut of cuts) sofar.cuts.push(cut);
        sofar.whole = last;
        this.#parts.epochs.set(vm, sofar);
        const { complete, lastReceive } = message;
        if (last) this.window.learn(vm, { cuts: sofar.cuts, complete, lastReceive });
        return;
      }
      case "want":
        return this.#receiveWant(message, this.#parts.wants);
      case "position":
        return this.#receivePosition(message.counts, this.#parts);
      default:
        throw new ProtocolError(`"${message.type}" before the link is open`);
    }
  }

  #receiveOpen(runId: string, incarnation: number): void {
    if (this.#parts !== undefined) throw new ProtocolError('"open" comes twice');
    if (runId !== this.self.runId) {
      throw new ProtocolError(`the link is of run ${runId}, not of ${this.self.runId}`);
    }
    this.#parts = { epochs: new Map(), wants: new Map() };
    if (incarnation === this.#incarnation) return;
    if (this.#incarnation !== undefined) {
      for (const vm of this.peer.vms) this.window.restart(vm);
      this.#peerMoves = 0;
      this.#peerState = "running";
    }
    this.#incarnation = incarnation;
  }

  #receiveWant({ vm, runs, last }: WantMessage, wants: Parts["wants"]): void {
    const sofar = wants.get(vm) ?? { wanted: new WantedFrames(), whole: false };
    if (sofar.whole) throw new ProtocolError(`what is needed of VM ${vm} comes twice`);
    for (const run of runs) sofar.wanted.append(run);
    sofar.whole = last;
    wants.set(vm, sofar);
    if (last) this.sender.want(vm, sofar.wanted);
  }

  #receivePosition(counts: readonly { vm: VmNumber; count: number }[], parts: Parts): void {
    for (const vm of this.peer.vms) {
      if (parts.epochs.get(vm)?.whole !== true) throw new ProtocolError(`no epochs of VM ${vm}`);
    }
    const named = new Map(counts.map(({ vm, count }) => [vm, count]));
    for (const vm of this.self.vms.keys()) {
      const count = named.get(vm);
      if (count === undefined || parts.wants.get(vm)?.whole !== true) {
        throw new ProtocolError(`not a word of what is needed of VM ${vm}`);
      }
      this.sender.position(vm, count);
    }
    if (named.size !== this.self.vms.size) throw new ProtocolError("a position of a foreign VM");
    this.#parts = undefined;
    this.#isOpen = this.#heard = true;
    this.sender.open();
  }

  #checkVm(vm: VmNumber): void {
    if (!this.peer.vms.includes(vm)) {
      throw new ProtocolError(`VM ${vm} is not on host ${this.peer.name}`);
    }
  }

  /** What the peer's failure means here. */
  checkPeer(): void {
    if (this.#peerState === "failed") throw new PeerFailedError(this.peer.name, this.#peerText);
  }
}
