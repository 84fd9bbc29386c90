/** Links with one rule left out: the simulation has to find each of them. */
import type { FrameMessage } from "../../lib/protocol/link_messages.ts";
import type { VmNumber } from "../../lib/units.ts";
import { type FrameStore, LinkReceiver } from "../../net/retransmit/link_receiver.ts";
import { LinkSender } from "../../net/retransmit/link_sender.ts";
import type { LinkParts } from "../../net/retransmit/replay_links.ts";
import { Spool, type SpooledFrame } from "../../net/retransmit/spool.ts";
import type { WantedFrames } from "../../net/retransmit/wanted_frames.ts";

/** Sends nothing again because time passes. */
class NoTimeout extends LinkSender {
  override next(_now: number) {
    return super.next(0);
  }
  override get dueAt(): number {
    return Infinity;
  }
}

/** Goes on after a reconnect where it was, whatever had arrived. */
class NoResendAtReconnect extends NoTimeout {
  readonly #seen = new Set<VmNumber>();
  override position(vm: VmNumber, count: number): void {
    if (this.#seen.has(vm)) return;
    this.#seen.add(vm);
    super.position(vm, count);
  }
}

/** Lets a frame go when it has been sent. */
class NotKept extends LinkSender {
  override next(now: number) {
    const frame = super.next(now);
    if (frame !== undefined) this.acknowledge(frame.vm, frame.sequence + 1, now);
    return frame;
  }
}

/** Takes every frame that comes for the next one. */
class NoDeduplication extends LinkReceiver {
  constructor(wanted: ReadonlyMap<VmNumber, WantedFrames>, private readonly spool: FrameStore) {
    super(wanted, spool);
  }
  override take(frame: Omit<FrameMessage, "type">): boolean {
    const sequence = this.spool.count(frame.vm);
    const wanted = this.wanted.get(frame.vm)!;
    if (sequence === wanted.count) return super.take(frame);
    return super.take({ ...frame, sequence, sendNumber: wanted.numberOf(sequence) });
  }
}

/** Takes no frame while the last ones have not been needed: acknowledgements wait for VMs. */
class TakesWhatIsConsumed extends LinkReceiver {
  #untaken = 0;
  override take(frame: Omit<FrameMessage, "type">): boolean {
    if (this.#untaken > 1) return false;
    const taken = super.take(frame);
    if (taken) this.#untaken++;
    return taken;
  }
  override frame(vm: VmNumber, sendNumber: number) {
    const bytes = super.frame(vm, sendNumber);
    if (bytes !== undefined) this.#untaken--;
    return bytes;
  }
}

/** Says that it has a frame, and writes it some frames later. */
class LazySpool implements FrameStore {
  readonly #spool: Spool;
  readonly #unwritten: SpooledFrame[] = [];
  constructor(path: string, runId: string) {
    this.#spool = Spool.open(path, runId);
  }
  count(vm: VmNumber): number {
    return this.#spool.count(vm) + this.#unwritten.filter((frame) => frame.vm === vm).length;
  }
  append(frame: SpooledFrame): void {
    this.#unwritten.push({ ...frame, bytes: frame.bytes.slice() });
    const LATER = 3;
    while (this.#unwritten.length > LATER) this.#spool.append(this.#unwritten.shift()!);
  }
  read(vm: VmNumber, sequence: number): Uint8Array | undefined {
    const late = this.#unwritten.find((frame) => frame.vm === vm && frame.sequence === sequence);
    return late?.bytes ?? this.#spool.read(vm, sequence);
  }
  get bytes(): number {
    return this.#spool.bytes;
  }
  close(): void {
    this.#spool.close();
  }
}

const STALLED = /nothing has moved/;
const LOST = /lost frames of VM \d+.*that it had acknowledged/;

/** What is left out, and how a replay fails that needs it. */
export interface BrokenLinks {
  readonly without: string;
  readonly parts: Partial<LinkParts>;
  readonly shows: RegExp;
}

export const BROKEN_LINKS: readonly BrokenLinks[] = [
  {
    without: "resending after a time-out",
    parts: { sender: (vms, limits) => new NoTimeout(vms, limits) },
    shows: STALLED,
  },
  {
    without: "resending after a reconnect",
    parts: { sender: (vms, limits) => new NoResendAtReconnect(vms, limits) },
    shows: STALLED,
  },
  {
    without: "keeping what is not acknowledged",
    parts: { sender: (vms, limits) => new NotKept(vms, limits) },
    shows: LOST,
  },
  {
    without: "dropping what comes twice or too early",
    parts: { receiver: (wanted, store) => new NoDeduplication(wanted, store) },
    shows: /sent a different frame|cannot have received frame|event of kind|nothing has moved/,
  },
  {
    without: "taking frames whatever the VMs do",
    parts: { receiver: (wanted, store) => new TakesWhatIsConsumed(wanted, store) },
    shows: STALLED,
  },
  {
    without: "the spool before the acknowledgement",
    parts: { store: (path, runId) => new LazySpool(path, runId) },
    shows: LOST,
  },
];
