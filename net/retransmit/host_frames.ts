/**
 * The frames that the VMs of one host need, wherever they are sent: those of its own VMs are in its
 * retransmission queue, and go to the hosts that need them; those of other hosts' VMs come over the links.
 */
import type { FrameQueue } from "../../lib/roles/replaying_agent.ts";
import type { VmNumber } from "../../lib/units.ts";
import type { LinkReceiver } from "./link_receiver.ts";
import type { LinkSender } from "./link_sender.ts";
import type { RetransmissionQueue } from "./queue.ts";

/** The frames of one host's replay. */
export class HostFrames implements FrameQueue {
  /**
   * @param local also holds what was in flight to this host's VMs where the replay begins
   * @param receivers by the VM that sends
   * @param sent hears of every frame of this host's VMs
   */
  constructor(
    private readonly local: RetransmissionQueue,
    private readonly receivers: ReadonlyMap<VmNumber, LinkReceiver>,
    private readonly senders: readonly LinkSender[],
    private readonly sent: () => void,
  ) {}

  add(source: VmNumber, bytes: Uint8Array): number {
    const sendNumber = this.local.add(source, bytes);
    for (const sender of this.senders) sender.add(source, sendNumber, bytes);
    this.sent();
    return sendNumber;
  }

  take(source: VmNumber, sendNumber: number): Uint8Array | undefined {
    const receiver = this.receivers.get(source);
    if (receiver === undefined || this.local.held(source, sendNumber) !== undefined) {
      return this.local.take(source, sendNumber);
    }
    return receiver.frame(source, sendNumber);
  }

  /** Of a VM of another host: the send number below which every frame that is needed has come. */
  arrived(source: VmNumber): number {
    return this.receivers.get(source)?.arrived(source) ?? this.local.arrived(source);
  }

  held(source: VmNumber, sendNumber: number): Uint8Array | undefined {
    return this.local.held(source, sendNumber) ??
      this.receivers.get(source)?.frame(source, sendNumber);
  }

  get heldBytesMax(): number {
    return this.local.heldBytesMax;
  }
}
