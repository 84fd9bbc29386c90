/**
 * What the roles drive: interfaces of the host's network, VMs and recorder. `main.ts` fills them from
 * `net/` and `hypervisor/`; tests fill them with a simulation. Nothing here knows a kernel or QEMU.
 */
import type { ClusterrrError } from "../errors.ts";
import type { RamAlgorithm, RamDigest } from "../recording/ram_digest.ts";
import type { VmNumber } from "../units.ts";

/** Receives what the recorder saw, in the order in which it happened. */
export interface RecorderSink {
  /** Frame `sendNumber` (from 0) left VM `vm`. `length` counts bytes on the wire, VLAN tag included. */
  sent(vm: VmNumber, sendNumber: number, length: number, lamport: bigint): void;
  /**
   * A frame entered VM `vm`'s tap queue. `source` 0 is external, `sendNumber` then -1. `lamport` is the
   * receiver's clock after it. `remoteHash`: of a frame from a VM of another host, its keyed hash
   * (keyed_hash.ts) where it came in; `undefined` if there is none, and for all other frames.
   */
  delivered(
    vm: VmNumber,
    delivery: number,
    source: VmNumber,
    sendNumber: number,
    length: number,
    lamport: bigint,
    remoteHash?: bigint,
  ): void;
}

/** Counts of the recorder since it was armed. Lost events are frames that passed without an event. */
export interface RecorderCounters {
  readonly sent: bigint;
  readonly delivered: bigint;
  readonly lostSends: bigint;
  readonly lostReceives: bigint;
  /** Where there is a tunnel to other hosts. */
  readonly tunnel?: TunnelCounters;
}

/** Frames at the tunnel to other hosts. */
export interface TunnelCounters {
  /** Left for other hosts: once for each frame, however many hosts get it. */
  readonly out: bigint;
  /** Came in from other hosts of the recording. */
  readonly in: bigint;
  /** Dropped: they came from elsewhere, without the recording's cookie. */
  readonly foreign: bigint;
  /** Dropped because the trailer could not be added, or not be cut off. */
  readonly failedOut: bigint;
  readonly failedIn: bigint;
}

/** The recorder on a run's taps. */
export interface RecorderPort {
  /** Hands over what waits; returns how many events. Synchronous; waits some milliseconds at most, for one that is being written. */
  drain(sink: RecorderSink): number;
  counters(): RecorderCounters;
  /** Raises every VM's clock to at least `epoch << 40` before any later frame is stamped. */
  tick(epoch: number): void;
}

/** State of a stopped VM that two runs can compare. */
export interface MachineState {
  readonly icount: number;
  /** QEMU's text of all CPU registers. */
  readonly registers: string;
  /** The vCPU waits for an interrupt that has not come yet; of a recorded VM that is settled. */
  readonly idle: boolean;
  readonly ramDigest: RamDigest;
  readonly ramBytes: number;
}

/** Why a VM's process ended. */
export interface VmEnd {
  /** The exit status; `null` when a signal ended it. */
  readonly code: number | null;
  readonly signal: string | null;
  /** What it said on stderr, if anything. */
  readonly stderr: string;
  /** Why we ended it, where this host did not let it go on. */
  readonly failure?: ClusterrrError;
}

/** What both a recorded and a replayed VM offer. */
export interface VmPort {
  readonly number: VmNumber;
  readonly name: string;
  /** Resolves when the VM's process is gone and reaped. Never rejects. */
  readonly ended: Promise<VmEnd>;
  /** Lets a VM that was created paused, or stopped, run. */
  resume(): Promise<void>;
  /** Stops the vCPU; resolves once it stands still. */
  pause(): Promise<void>;
  /** The state at this moment; the VM must stand still. `algorithm`: of the RAM's digest, else `RAM_ALGORITHM`. */
  state(algorithm?: RamAlgorithm): Promise<MachineState>;
  /** Asks QEMU to end, so that its log gets its last events. */
  quit(): Promise<void>;
  /** Ends the process whatever it takes. */
  kill(): Promise<void>;
  /** The next frames that left the VM's NIC, in order. Synchronous; the bytes are the callee's. */
  readSent(take: (frame: Uint8Array) => void): number;
}

/** A VM that is being recorded. */
export interface RecordedVm extends VmPort {
  /**
   * Whether the RAM of the paused VM stays as it is: no disk request is under way, whose data the host moves in
   * its own time.
   */
  settled(): Promise<boolean>;
  /** Bytes of the rr log that wait: a chunk valid until the next call, nothing yet, or the end. */
  readLog(): Uint8Array | "again" | "closed";
  /** Bytes of the rr log that wait; QEMU may hold back a buffer more. */
  unreadLog(): number;
}

/** A VM that is being replayed. */
export interface ReplayedVm extends VmPort {
  /** Writes a part of the rr log; how many bytes went, or why none did. */
  writeLog(bytes: Uint8Array): number | "again" | "closed";
  /** Bytes of the rr log that QEMU has not taken yet. */
  unreadLog(): number;
  /** Whether QEMU can do nothing until more of the log is written. */
  awaitsLog(): boolean;
  /** CPU time the VM's process has used, in ms. */
  cpuMs(): number;
  /** Wakes an idle QEMU, at most one wake-up under way at a time. */
  nudge(): void;
  /** Stops the VM when it reaches `icount`. */
  breakAt(icount: number): Promise<void>;
  /** Resolves when the VM has stopped at the break, `false` if it ended before. */
  stopped(): Promise<boolean>;
  /** Instructions executed so far. */
  icount(): Promise<number>;
}

/**
 * Finds the runs of instructions in whole events: `visit` gets the length of each and the offset behind
 * it, and ends the search by returning true; `shutDown` is told where the VM begins to power off, from
 * where on it may be gone any moment. `hypervisor/rr_log` implements it.
 */
export type RunReader = (
  events: Uint8Array,
  visit: (count: number, end: number) => boolean | void,
  shutDown?: () => void,
) => void;

/** Waits until any VM of this host has something to read or room to write. */
export interface ReadinessPort {
  /** @param alone whether nothing else is done on this thread, so that it may stand still meanwhile */
  wait(timeoutMs: number, alone?: boolean): Promise<void>;
  /** Says whether the readiness of `vm`'s log for writing is of interest. */
  wantWrite(vm: VmNumber, wanted: boolean): void;
}
