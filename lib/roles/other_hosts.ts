/** What the replay of one host's VMs has to know of the hosts that replay the others. */
import type { VmNumber } from "../units.ts";

/** The other hosts of a replay; `net/retransmit` implements it. All calls are synchronous. */
export interface OtherHostsPort {
  /** Throws why the replay cannot go on: it failed on another host, or one has been lost. */
  check(): void;
  /** Something moves here: the others do not call it a stall. */
  moved(): void;
  /**
   * Whether something may have moved on another host since the last call: news of it, or none because it
   * cannot be reached just now. Then nothing here has stalled.
   */
  movedElsewhere(): boolean;
  /** Whether `vm` may be fed: what it sends then still finds room on the links. */
  mayFeed(vm: VmNumber): boolean;
  /** A VM of this host has ended, after so many frames. */
  ended(vm: VmNumber, sent: number): void;
  /** How many frames a VM of another host had sent when it ended; `undefined`: it has not, or is not known to. */
  sentAtEnd(vm: VmNumber): number | undefined;
  /** Whether the logs on all other hosts end as QEMU ended them; `undefined` while that is not known. */
  logsComplete(): boolean | undefined;
  /** Resolves when the next message of another host has been taken. */
  news(): Promise<void>;
}
