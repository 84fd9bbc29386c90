/**
 * A replay that has been stopped to look at it: what can be asked of it. The prompt and the commands
 * of other processes drive it through {@link SessionPort}; `operations/` implements it.
 */
import type { SeekTarget } from "./target.ts";

/** One VM of a stopped cluster. */
export interface SessionVm {
  readonly name: string;
  /** Instructions executed. */
  readonly icount: number;
  /** Its Lamport clock, decimal. */
  readonly lamport: string;
  readonly sent: number;
  readonly received: number;
  /** QEMU's text; `null` where the VM has ended. */
  readonly registers: string | null;
}

/** A frame that has been sent and not yet received. */
export interface SessionFrame {
  readonly from: string;
  readonly sendNumber: number;
  readonly bytes: number;
  /** What it is, in a line. */
  readonly summary: string;
  readonly to: readonly string[];
}

/** A stopped cluster. */
export interface SessionState {
  readonly recording: string;
  /** The checkpoint at which it stands, or the last one before. */
  readonly checkpoint: number;
  readonly lastCheckpoint: number;
  /** When that checkpoint was, in seconds since the VMs began to run. */
  readonly seconds: number;
  /** The Lamport time of the cut, decimal. */
  readonly lamport: string;
  readonly vms: readonly SessionVm[];
  readonly inFlight: readonly SessionFrame[];
}

/** How the replay of the rest went. */
export interface SessionEnd {
  readonly ok: boolean;
  readonly vms: readonly {
    readonly name: string;
    readonly framesMatched: number;
    readonly framesRecorded: number;
    readonly consoleEqual: boolean;
  }[];
}

export interface SessionPort {
  /** Brings every VM there, forward or backward. @throws {ClusterrrError} where there is no such point */
  goTo(target: SeekTarget): Promise<SessionState>;
  /** Replays the rest. */
  finish(): Promise<SessionEnd>;
  state(): Promise<SessionState>;
  /** What a VM has printed so far. */
  console(vm: string): Promise<string>;
  /** A line of QEMU's human monitor that only looks: `x`, `xp`, `info …`. */
  monitor(vm: string, line: string): Promise<string>;
  /**
   * Writes `bytes` bytes of guest-physical memory from `address` to `file`.
   * @throws {ClusterrrError} where the disk refuses
   */
  saveMemory(vm: string, address: number, bytes: number, file: string): Promise<void>;
}
