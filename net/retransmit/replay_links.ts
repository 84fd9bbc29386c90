/**
 * The links of one host in one replay: to every other host that replays VMs of the cluster, one. It keeps
 * them alive, and is what the replay of this host's VMs sees of the others.
 *
 * ```
 * ReplayingAgent ──frames──▶ HostFrames ─▶ LinkSender ──┐             ┌── Channel ──▶ peer
 *       ▲  ▲                      ▲                     PeerLink ─────┤
 *       │  └─── SharedWindow ◀────┼── LinkReceiver ◀────┘             └◀─ Channel ─── peer
 *       └─ OtherHostsPort         └──── Spool
 * ```
 * Of two hosts, the one with the lower name connects. A channel that says nothing for `deadMs` is closed;
 * what is not acknowledged is then sent again on the next one. Reading never waits for writing: a channel
 * that is full one way does not stop the other.
 */
import { messageOf, PeerFailedError, ProtocolError } from "../../lib/errors.ts";
import type { Channel } from "../../lib/protocol/channel.ts";
import {
  decodeLinkMessage,
  encodeLinkMessage,
  TEXT_BYTES_MAX,
} from "../../lib/protocol/link_messages.ts";
import { countUses, type LogCensus, type VmPosition } from "../../lib/roles/log_census.ts";
import type { OtherHostsPort } from "../../lib/roles/other_hosts.ts";
import type { FrameQueue, ReplayWindowPort } from "../../lib/roles/replaying_agent.ts";
import { announcedVm, SharedWindow } from "../../lib/roles/shared_window.ts";
import type { VmNumber } from "../../lib/units.ts";
import { HostFrames } from "./host_frames.ts";
import { type FrameStore, LinkReceiver } from "./link_receiver.ts";
import { LinkSender } from "./link_sender.ts";
import { type LinkPeer, type LinkSelf, PeerLink } from "./peer_link.ts";
import { type FrameInFlight, RetransmissionQueue } from "./queue.ts";
import { Spool } from "./spool.ts";
import { WantedFrames } from "./wanted_frames.ts";

/** A source of time. */
export interface LinkTime {
  /** Milliseconds since some moment. */
  now(): number;
  /** Calls back in so many milliseconds; the result takes it back. */
  after(ms: number, call: () => void): () => void;
}

/** Where a replay begins that does not begin at the start. */
export interface LinksStart {
  readonly epoch: number;
  /** Of all VMs of the cluster. */
  readonly positions: ReadonlyMap<VmNumber, VmPosition>;
  /** Frames that were sent before and that VMs of this host receive. */
  readonly inFlight: readonly FrameInFlight[];
}

/** The time-outs and bounds of links. */
export interface LinkLimits {
  /** Unacknowledged bytes a link from which on the VMs that feed it are held back. */
  readonly unacknowledgedBytesMax: number;
  readonly resendAfterMs: number;
  readonly resendAfterMsMax: number;
  readonly pingMs: number;
  /** A channel on which nothing has come for so long is closed. */
  readonly deadMs: number;
  /** The wait before the next try to connect; doubled each time, up to the maximum. */
  readonly reconnectMs: number;
  readonly reconnectMsMax: number;
  /** A peer that has not been reached for so long ends the replay. */
  readonly peerLostMs: number;
}

export const LINK_LIMITS: LinkLimits = {
  unacknowledgedBytesMax: 16 << 20,
  resendAfterMs: 1000,
  resendAfterMsMax: 30_000,
  pingMs: 1000,
  deadMs: 5000,
  reconnectMs: 50,
  reconnectMsMax: 2000,
  peerLostMs: 300_000,
};

/** What is due is handed to the channel at once, up to about this: it may make one write of it. */
const TOGETHER_BYTES_MAX = 64 << 10;

/** What links are made of. */
export interface LinksOptions {
  /** One attempt to replay; the same on all hosts, and after an agent of it began anew. */
  readonly runId: string;
  /** This host. */
  readonly name: string;
  /** Another number each time that this host's replay begins anew. Default: the time. */
  readonly incarnation?: number;
  /** All other hosts of the replay. */
  readonly peers: readonly LinkPeer[];
  /** Of the logs of this host's VMs. */
  readonly censuses: ReadonlyMap<VmNumber, LogCensus>;
  /** Where the spools are; kept until the replay is over on all hosts. */
  readonly spoolDirectory: string;
  /** See {@link SharedWindow}. */
  readonly windowEpochs: number;
  readonly start?: LinksStart;
  /** Opens a channel to a peer whose name is higher. */
  readonly connect: (peer: string) => Promise<Channel>;
  readonly limits?: Partial<LinkLimits>;
  readonly time?: LinkTime;
  /** Other makings of the parts of a link: a test breaks them. */
  readonly parts?: Partial<LinkParts>;
}

/** How the parts of a link are made. */
export interface LinkParts {
  sender(vms: Iterable<VmNumber>, limits: LinkLimits): LinkSender;
  receiver(wanted: ReadonlyMap<VmNumber, WantedFrames>, store: FrameStore): LinkReceiver;
  store(path: string, runId: string): FrameStore;
}

const LINK_PARTS: LinkParts = {
  sender: (vms, limits) => new LinkSender(vms, limits),
  receiver: (wanted, store) => new LinkReceiver(wanted, store),
  store: (path, runId) => Spool.open(path, runId),
};

/** Figures of one link, since it was made. */
export interface LinkCounters {
  readonly peer: string;
  readonly open: boolean;
  readonly framesSent: number;
  readonly bytesSent: number;
  readonly framesReceived: number;
  readonly bytesReceived: number;
  readonly retransmissions: number;
  readonly duplicates: number;
  /** Connections after the first. */
  readonly reconnects: number;
  readonly roundTripMs: number;
  readonly unacknowledgedBytes: number;
}

const HOST_TIME: LinkTime = {
  now: () => performance.now(),
  after: (ms, call) => {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
};

/** One peer's link with its connection. */
interface Line {
  readonly link: PeerLink;
  readonly spool: FrameStore;
  channel: Channel | undefined;
  /** Ends the writer's wait. */
  wake: () => void;
  /** A try to connect is under way, or waited for. */
  connecting: boolean;
  backoffMs: number;
  connections: number;
  connectedAt: number;
  heardAt: number;
  stopWatch: () => void;
  stopConnecting: () => void;
}

/** The links of one replay on one host. The owner calls {@link close}. */
export class ReplayLinks {
  /** What the replaying agent takes frames from. */
  readonly frames: FrameQueue;
  readonly window: ReplayWindowPort;
  /** What the replaying agent asks about the other hosts. */
  readonly elsewhere: OtherHostsPort;
  readonly #options: LinksOptions;
  readonly #limits: LinkLimits;
  readonly #time: LinkTime;
  readonly #self: LinkSelf;
  readonly #window: SharedWindow;
  readonly #queue: RetransmissionQueue;
  readonly #lines = new Map<string, Line>();
  readonly #hostOf = new Map<VmNumber, Line>();
  #news = Promise.withResolvers<void>();
  #failure: { readonly cause: unknown } | undefined;
  #closed = false;

  /** Opens the spools. @throws {FormatError} one is of another replay; {@link start} connects */
  constructor(options: LinksOptions) {
    this.#options = options;
    this.#limits = { ...LINK_LIMITS, ...options.limits };
    this.#time = options.time ?? HOST_TIME;
    const { censuses, peers, start } = options;
    const vms = new Map([...censuses].map(([vm, census]) => [vm, announcedVm(census)]));
    this.#self = {
      runId: options.runId,
      incarnation: options.incarnation ?? Date.now(),
      vms,
      state: "running",
      text: "",
      moves: 0,
    };
    this.#window = new SharedWindow(
      vms,
      peers.flatMap(({ vms }) => vms),
      options.windowEpochs,
      start?.epoch ?? 0,
      (vm) => this.#progressed(vm),
    );
    const uses = countUses(censuses, start?.positions);
    const sent = new Map([...start?.positions ?? []].map(([vm, { sends }]) => [vm, sends]));
    this.#queue = new RetransmissionQueue(
      uses,
      start && { sent, inFlight: start.inFlight },
    );
    try {
      for (const peer of peers) this.#addPeer(peer, uses, sent);
    } catch (cause) {
      for (const { spool } of this.#lines.values()) spool.close();
      throw cause;
    }
    const lines = [...this.#lines.values()];
    this.frames = new HostFrames(
      this.#queue,
      new Map([...this.#hostOf].map(([vm, { link }]) => [vm, link.receiver])),
      lines.map(({ link }) => link.sender),
      () => this.#wakeAll(),
    );
    this.window = this.#window;
    this.elsewhere = this.#makePort();
  }

  #addPeer(
    peer: LinkPeer,
    uses: ReadonlyMap<VmNumber, Uint16Array>,
    sent: ReadonlyMap<VmNumber, number>,
  ): void {
    const wanted = new Map(
      peer.vms.map((vm) => [vm, WantedFrames.ofUses(uses.get(vm) ?? [], sent.get(vm))]),
    );
    const parts = { ...LINK_PARTS, ...this.#options.parts };
    const spool = parts.store(
      spoolPath(this.#options.spoolDirectory, peer.name),
      this.#self.runId,
    );
    const line: Line = {
      link: new PeerLink(
        peer,
        this.#self,
        this.#window,
        parts.sender(this.#self.vms.keys(), this.#limits),
        parts.receiver(wanted, spool),
        this.#limits.pingMs,
      ),
      spool,
      channel: undefined,
      wake: () => {},
      connecting: false,
      backoffMs: this.#limits.reconnectMs,
      connections: 0,
      connectedAt: 0,
      heardAt: this.#time.now(),
      stopWatch: () => {},
      stopConnecting: () => {},
    };
    this.#lines.set(peer.name, line);
    for (const vm of peer.vms) this.#hostOf.set(vm, line);
  }

  /** Of each VM of the cluster that has not ended, the epoch it is in, as far as is known here. */
  get epochs(): ReadonlyMap<VmNumber, number> {
    return this.#window.epochs;
  }

  counters(): LinkCounters[] {
    return [...this.#lines.values()].map(({ link, connections }) => ({
      peer: link.peer.name,
      open: link.isOpen,
      framesSent: link.sender.counters.frames,
      bytesSent: link.sender.counters.bytes,
      framesReceived: link.receiver.counters.frames,
      bytesReceived: link.receiver.counters.bytes,
      retransmissions: link.sender.counters.retransmissions,
      duplicates: link.receiver.counters.duplicates,
      reconnects: Math.max(0, connections - 1),
      roundTripMs: link.roundTripMs,
      unacknowledgedBytes: link.sender.unacknowledgedBytes,
    }));
  }

  /** Begins to connect to the peers that do not connect themselves. */
  start(): void {
    for (const line of this.#lines.values()) {
      line.heardAt = this.#time.now();
      this.#connectLater(line, 0);
    }
  }

  /**
   * A peer has connected.
   * @param first its first message, if that has been read to find out which replay it is of
   */
  accept(channel: Channel, first?: { kind: number; body: Uint8Array }): void {
    const line = this.#lines.get(channel.peer.name);
    if (
      this.#closed || line === undefined || channel.peer.role !== "agent" || this.#connects(line)
    ) {
      return channel.close();
    }
    this.#use(line, channel, first);
  }

  /** Every VM of this host has done what it was to do. */
  done(): void {
    this.#say("done", "");
  }

  /** The replay has failed here: the other hosts stop. Resolves once those that can be reached know. */
  async fail(reason: string): Promise<void> {
    this.#say("failed", shorten(reason));
    const SAY_MS_MAX = 1000;
    const until = this.#time.now() + SAY_MS_MAX;
    const unsaid = () =>
      [...this.#lines.values()].some(({ channel, link }) =>
        channel !== undefined && !link.stateSaid
      );
    while (unsaid() && this.#time.now() < until) await this.#sleep(1);
  }

  /**
   * Resolves when every other host has said that it is done. Keep the links until the replay is over
   * everywhere: a host that is killed after this still needs what was said here.
   * @throws {PeerFailedError} another host failed, or was lost
   */
  async settled(signal: AbortSignal): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      this.elsewhere.check();
      const lines = [...this.#lines.values()];
      if (lines.every(({ link }) => link.peerState === "done")) return;
      const again = Promise.withResolvers<void>();
      const cancel = this.#time.after(this.#limits.pingMs, again.resolve);
      await Promise.race([this.elsewhere.news(), again.promise]);
      cancel();
    }
  }

  /** Closes all connections and the spools. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const line of this.#lines.values()) {
      line.stopConnecting();
      this.#drop(line, line.channel);
      line.spool.close();
    }
    this.#tellNews();
  }

  #makePort(): OtherHostsPort {
    return {
      check: () => this.#check(),
      moved: () => {
        this.#self.moves++;
      },
      movedElsewhere: () => {
        let moved = false;
        for (const { link } of this.#lines.values()) {
          moved = link.takeMoved() || moved;
        }
        return moved;
      },
      mayFeed: (vm) => {
        for (const { link: { sender } } of this.#lines.values()) {
          if (!sender.knowsWanted(vm) || (sender.full && sender.mayNeed(vm))) return false;
        }
        return true;
      },
      ended: (vm, sent) => this.#window.end(vm, sent),
      sentAtEnd: (vm) => {
        const progress = this.#window.heard(vm);
        return progress?.ended === true ? progress.sent : undefined;
      },
      logsComplete: () => this.#logsComplete(),
      news: () => this.#news.promise,
    };
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.cause;
    for (const { link, heardAt } of this.#lines.values()) {
      link.checkPeer();
      const silentMs = this.#time.now() - heardAt;
      if (silentMs > this.#limits.peerLostMs) {
        throw new PeerFailedError(
          link.peer.name,
          `it has not been reached for ${Math.round(silentMs / 1000)} s`,
        );
      }
    }
  }

  #logsComplete(): boolean | undefined {
    const all = [...this.#hostOf.keys()].map((vm) => this.#window.announced(vm)?.complete);
    return all.includes(undefined) ? undefined : all.every((complete) => complete);
  }

  #say(state: LinkSelf["state"], text: string): void {
    if (this.#self.state === "failed") return;
    this.#self.state = state;
    this.#self.text = text;
    for (const line of this.#lines.values()) {
      line.link.stateChanged();
      line.wake();
    }
  }

  #progressed(vm: VmNumber): void {
    for (const line of this.#lines.values()) {
      line.link.progressed(vm);
      line.wake();
    }
  }

  #wakeAll(): void {
    for (const line of this.#lines.values()) line.wake();
  }

  #tellNews(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.#time.after(ms, resolve));
  }

  /** Whether it is this host that connects. */
  #connects(line: Line): boolean {
    return this.#options.name < line.link.peer.name;
  }

  #connectLater(line: Line, ms: number): void {
    if (this.#closed || line.connecting || !this.#connects(line)) return;
    line.connecting = true;
    line.stopConnecting = this.#time.after(ms, async () => {
      let channel: Channel | undefined;
      try {
        if (!this.#closed) channel = await this.#options.connect(line.link.peer.name);
      } catch {
        // The peer is away, or not there yet: `peerLostMs` bounds how often.
      }
      line.connecting = false;
      if (channel === undefined) return this.#connectAgain(line);
      if (this.#closed) return channel.close();
      this.#use(line, channel);
    });
  }

  /** From now on `channel` is the connection to the peer. */
  #use(line: Line, channel: Channel, first?: { kind: number; body: Uint8Array }): void {
    this.#drop(line, line.channel);
    line.channel = channel;
    line.connections++;
    line.connectedAt = this.#time.now();
    line.link.connected(this.#time.now());
    this.#watch(line, channel);
    this.#read(line, channel, first).catch((cause) => this.#fail(cause))
      .finally(() => this.#drop(line, channel));
    this.#write(line, channel).catch(() => {}).finally(() => this.#drop(line, channel));
  }

  /** Ends a connection, if it is still the one. */
  #drop(line: Line, channel: Channel | undefined): void {
    channel?.close();
    if (channel === undefined || line.channel !== channel) return;
    line.channel = undefined;
    line.stopWatch();
    line.link.disconnected();
    line.wake();
    this.#connectAgain(line);
  }

  /** Waits longer each time, until a link has been open again. */
  #connectAgain(line: Line): void {
    this.#connectLater(line, line.backoffMs);
    line.backoffMs = Math.min(2 * line.backoffMs, this.#limits.reconnectMsMax);
  }

  /** Closes a channel on which nothing comes any more. */
  #watch(line: Line, channel: Channel): void {
    const { deadMs } = this.#limits;
    line.stopWatch = this.#time.after(deadMs / 4, () => {
      const lastSign = Math.max(line.heardAt, line.connectedAt);
      if (this.#time.now() - lastSign >= deadMs) return this.#drop(line, channel);
      this.#watch(line, channel);
    });
  }

  async #read(
    line: Line,
    channel: Channel,
    first?: { kind: number; body: Uint8Array },
  ): Promise<void> {
    for (let next = first;; next = undefined) {
      try {
        next ??= await channel.receive();
      } catch {
        return; // it broke: the next connection goes on
      }
      if (next === undefined || line.channel !== channel) return;
      line.heardAt = this.#time.now();
      line.link.receive(decodeLinkMessage(next.kind, next.body), this.#time.now());
      if (line.link.isOpen) line.backoffMs = this.#limits.reconnectMs;
      line.wake();
      this.#tellNews();
    }
  }

  async #write(line: Line, channel: Channel): Promise<void> {
    while (line.channel === channel) {
      const sent: Promise<void>[] = [];
      for (let bytes = 0; bytes < TOGETHER_BYTES_MAX;) {
        const message = line.link.next(this.#time.now());
        if (message === undefined) break;
        const { kind, body } = encodeLinkMessage(message);
        bytes += body.length;
        sent.push(channel.send(kind, body));
      }
      if (sent.length === 0) await this.#waitForWork(line);
      else await Promise.all(sent);
    }
  }

  #waitForWork(line: Line): Promise<void> {
    return new Promise((resolve) => {
      const ms = Math.max(0, line.link.dueAt - this.#time.now());
      const cancel = ms === Infinity ? () => {} : this.#time.after(ms, resolve);
      line.wake = () => {
        cancel();
        line.wake = () => {};
        resolve();
      };
    });
  }

  /** What a peer did wrong, or a full disk, ends the replay here, and so everywhere. */
  #fail(cause: unknown): void {
    if (this.#closed || this.#failure !== undefined) return;
    this.#failure = { cause };
    this.#say("failed", shorten(messageOf(cause)));
    this.#tellNews();
  }
}

/** The file of what comes from `peer`. */
function spoolPath(directory: string, peer: string): string {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(peer)) {
    throw new ProtocolError(`"${peer}" is no name of a host`);
  }
  return `${directory}/${peer}.spool`;
}

function shorten(text: string): string {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length <= TEXT_BYTES_MAX) return text;
  return new TextDecoder().decode(bytes.subarray(0, TEXT_BYTES_MAX - 8)).replace(/\uFFFD$/, "") +
    "…";
}
