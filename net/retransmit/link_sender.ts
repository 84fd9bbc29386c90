/**
 * The sending end of a link: the frames of this host's VMs that one other host needs, kept until that host
 * has acknowledged them. Time and transport come from outside.
 *
 * ```
 *  acknowledged ┃ sent, not acknowledged │ regenerated, not sent ┊ not regenerated yet
 *  0 ──────── base ──────────────────── next ───────────────── produced ────── wanted.count
 *               ▲ a time-out or a new connection goes back to here
 * ```
 * The numbers are sequences: places among the wanted frames of a VM. A host that replays anew produces the
 * same frames again; those below `base` are let go at once. Frames are sent again from `base` on ("go back
 * N"): the receiver takes them in order only, so that it has no buffer that would need a bound.
 */
import { ProtocolError } from "../../lib/errors.ts";
import type { FrameMessage } from "../../lib/protocol/link_messages.ts";
import type { VmNumber } from "../../lib/units.ts";
import type { WantedFrames } from "./wanted_frames.ts";

/** How a sender goes. */
export interface SenderOptions {
  /** From so many unacknowledged bytes on, {@link LinkSender.full} holds the VMs back. */
  readonly unacknowledgedBytesMax: number;
  /** Without an acknowledgement for so long, frames are sent again; doubled each time, up to the maximum. */
  readonly resendAfterMs: number;
  readonly resendAfterMsMax: number;
}

class SentVm {
  /** Regenerated before it was known which are wanted. */
  readonly unsorted: { sendNumber: number; bytes: Uint8Array }[] = [];
  wanted: WantedFrames | undefined;
  /** The frames from `base` to `produced`. */
  kept: Uint8Array[] = [];
  /** Where they begin in `kept`. */
  head = 0;
  base = 0;
  next = 0;
  produced = 0;
  /** The sequence behind the last one that was ever sent, or that the peer said it has. */
  highest = 0;
  resendAt = Infinity;
  resendAfterMs = 0;
}

/** What one peer gets. */
export class LinkSender {
  readonly #vms = new Map<VmNumber, SentVm>();
  #open = false;
  #turn = 0;
  #bytes = 0;
  #resent = 0;
  #sent = 0;
  #sentBytes = 0;

  /** @param vms the VMs of this host */
  constructor(vms: Iterable<VmNumber>, private readonly options: SenderOptions) {
    for (const vm of vms) this.#vms.set(vm, new SentVm());
  }

  /** Bytes of frames that are kept. */
  get unacknowledgedBytes(): number {
    return this.#bytes;
  }

  /** Whether the VMs of this host have to be held back. */
  get full(): boolean {
    return this.#bytes >= this.options.unacknowledgedBytesMax;
  }

  /** Frames and bytes that were sent, and how many of the frames more than once. */
  get counters(): { frames: number; bytes: number; retransmissions: number } {
    return { frames: this.#sent, bytes: this.#sentBytes, retransmissions: this.#resent };
  }

  /** Whether it is known which frames of `vm` the peer needs. */
  knowsWanted(vm: VmNumber): boolean {
    return this.#vms.get(vm)?.wanted !== undefined;
  }

  /** Whether the peer needs frames of `vm`, as far as is known. */
  mayNeed(vm: VmNumber): boolean {
    const wanted = this.#vms.get(vm)?.wanted;
    return wanted === undefined || wanted.count > 0;
  }

  /** The peer says which frames of `vm` it needs: the same ones each time that it is asked. */
  want(vm: VmNumber, wanted: WantedFrames): void {
    const state = this.#vms.get(vm);
    if (state === undefined) {
      throw new ProtocolError(`frames of VM ${vm}, which is not replayed here`);
    }
    if (state.wanted !== undefined) {
      if (state.wanted.equals(wanted)) return;
      throw new ProtocolError(`other frames of VM ${vm} are needed than when the replay began`);
    }
    state.wanted = wanted;
    for (const { sendNumber, bytes } of state.unsorted.splice(0)) {
      this.#bytes -= bytes.length;
      this.#produce(state, wanted, sendNumber, bytes);
    }
  }

  /** A VM of this host has sent a frame; called in the order of its send numbers. */
  add(vm: VmNumber, sendNumber: number, bytes: Uint8Array): void {
    const state = this.#vms.get(vm)!;
    if (state.wanted !== undefined) return this.#produce(state, state.wanted, sendNumber, bytes);
    state.unsorted.push({ sendNumber, bytes });
    this.#bytes += bytes.length;
  }

  #produce(state: SentVm, wanted: WantedFrames, sendNumber: number, bytes: Uint8Array): void {
    const sequence = wanted.sequenceOf(sendNumber);
    if (sequence === undefined) return;
    if (sequence !== state.produced) {
      throw new Error(`wanted frame ${state.produced} is left out: ${sendNumber} came`);
    }
    state.produced++;
    if (sequence < state.base) return;
    state.kept.push(bytes);
    this.#bytes += bytes.length;
  }

  /**
   * A connection opens, and the peer has the first `count` wanted frames of `vm`.
   * @throws {ProtocolError} it has lost some that it had acknowledged
   */
  position(vm: VmNumber, count: number): void {
    const state = this.#vms.get(vm);
    if (state?.wanted === undefined || count > state.wanted.count) {
      throw new ProtocolError(`${count} frames of VM ${vm} are more than are needed`);
    }
    if (count < state.base) {
      throw new ProtocolError(
        `the peer has lost frames of VM ${vm}: it has ${count} of ${state.base} that it had ` +
          "acknowledged. Its spool is gone: start the replay again on all hosts",
      );
    }
    state.highest = Math.max(state.highest, count);
    this.#free(state, count);
    state.next = state.base;
    state.resendAt = Infinity;
    state.resendAfterMs = this.options.resendAfterMs;
  }

  /** The peer has named all its positions: frames may be sent. */
  open(): void {
    this.#open = true;
  }

  disconnected(): void {
    this.#open = false;
  }

  /**
   * @param roundTripMs the last one that was measured
   * @throws {ProtocolError} more than was sent
   */
  acknowledge(vm: VmNumber, count: number, now: number, roundTripMs = 0): void {
    const state = this.#vms.get(vm);
    if (state === undefined || count > state.highest) {
      throw new ProtocolError(`${count} frames of VM ${vm} are acknowledged that were not sent`);
    }
    if (count <= state.base) return;
    this.#free(state, count);
    state.next = Math.max(state.next, state.base);
    state.resendAfterMs = Math.max(this.options.resendAfterMs, 4 * roundTripMs);
    state.resendAt = state.next > state.base ? now + state.resendAfterMs : Infinity;
  }

  /** The next frame to send; `undefined` while there is none. */
  next(now: number): Omit<FrameMessage, "type"> | undefined {
    if (!this.#open) return undefined;
    const vms = [...this.#vms];
    for (let i = 0; i < vms.length; i++) {
      const [vm, state] = vms[(this.#turn + i) % vms.length]!;
      if (now >= state.resendAt) this.#goBack(state);
      const bytes = state.kept[state.head + state.next - state.base];
      if (state.wanted === undefined || bytes === undefined) continue;
      this.#turn = (this.#turn + i + 1) % vms.length;
      const sequence = state.next++;
      if (sequence < state.highest) this.#resent++;
      else state.highest = state.next;
      if (state.resendAt === Infinity) state.resendAt = now + state.resendAfterMs;
      this.#sent++;
      this.#sentBytes += bytes.length;
      return { vm, sequence, sendNumber: state.wanted.numberOf(sequence), bytes };
    }
    return undefined;
  }

  /** When {@link next} may have something again though nothing happens. */
  get dueAt(): number {
    if (!this.#open) return Infinity;
    return Math.min(Infinity, ...[...this.#vms.values()].map(({ resendAt }) => resendAt));
  }

  #goBack(state: SentVm): void {
    state.next = state.base;
    state.resendAt = Infinity;
    state.resendAfterMs = Math.min(2 * state.resendAfterMs, this.options.resendAfterMsMax);
  }

  /** Lets the frames below `count` go. */
  #free(state: SentVm, count: number): void {
    for (; state.base < count; state.base++) {
      const bytes = state.kept[state.head];
      if (bytes === undefined) {
        state.base = count; // not regenerated yet: it will be let go then
        break;
      }
      state.kept[state.head++] = EMPTY;
      this.#bytes -= bytes.length;
    }
    if (state.head > 1024 && state.head * 2 > state.kept.length) {
      state.kept = state.kept.slice(state.head);
      state.head = 0;
    }
  }
}

const EMPTY = new Uint8Array(0);
