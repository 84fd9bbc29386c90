/**
 * What the commands drive. `main.ts` fills these interfaces from `net/` and `hypervisor/`; tests fill
 * them with stand-ins. Option types are what the command line says, report types what `--json` prints
 * (field names included: they are a promise to scripts).
 */
import type { ClusterOperations } from "./cluster_ports.ts";
import type { DiffReport } from "../diff/observation.ts";
import type { RunPlace } from "../diff/runs.ts";
import type { Divergence } from "../errors.ts";
import type { SessionAnswer } from "../session/commands.ts";
import type { SeekTarget } from "../session/target.ts";
import type { Manifest } from "../recording/manifest.ts";
import type { SnapshotEntry } from "../snapshot/store.ts";

/** The work behind the commands that touch VMs or the host. */
export interface Operations {
  /**
   * Records until the VMs have ended, the duration is over, or `signal` aborts; all three are good
   * ends. Throws a `ClusterrrError` where it cannot start or a VM fails.
   */
  record(options: RecordOptions, progress: Progress, signal: AbortSignal): Promise<RecordReport>;
  /**
   * Boots a cluster without recording it and saves it as a snapshot. An abort throws
   * `InterruptedError`; nothing is saved then.
   */
  boot(options: BootOptions, progress: Progress, signal: AbortSignal): Promise<BootReport>;
  /** Looks whether what was recorded is the failure that is sought. */
  judge(options: JudgeOptions, signal: AbortSignal): Promise<Verdict>;
  /** The snapshots of this host. */
  snapshots(): Promise<SnapshotEntry[]>;
  /** Deletes a snapshot. Throws a `ClusterrrError` where there is none of that name. */
  removeSnapshot(name: string): void;
  /** Replays once and compares every frame. An abort throws `InterruptedError`. */
  replay(options: ReplayOptions, progress: Progress, signal: AbortSignal): Promise<ReplayReport>;
  /** Replays `runs` times and compares frames, checks and consoles. */
  verify(options: VerifyOptions, progress: Progress, signal: AbortSignal): Promise<VerifyReport>;
  /** Compares two runs up to their first difference, VM by VM. An abort throws `InterruptedError`. */
  diff(options: DiffOptions, progress: Progress, signal: AbortSignal): Promise<DiffReport>;
  /** Replays to a point and stops there. The caller closes the session. */
  openSession(
    options: SessionOptions,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<OpenedSession>;
  /** Has a session of this host, which may belong to another process, run a command. */
  askSession(
    words: readonly string[],
    session: string | undefined,
    signal: AbortSignal,
  ): Promise<{ text: string; value: unknown }>;
  /** Replays once and keeps snapshots of the cluster at checkpoints. */
  index(options: IndexOptions, progress: Progress, signal: AbortSignal): Promise<IndexReport>;
  /** Makes one portable file of a recording. An abort throws `InterruptedError`. */
  pack(options: PackOptions, progress: Progress, signal: AbortSignal): Promise<PackReport>;
  /** Makes a directory of such a file again. An abort throws `InterruptedError`. */
  unpack(options: UnpackOptions, progress: Progress, signal: AbortSignal): Promise<UnpackReport>;
  /** The events of a log in order. Stops when the caller stops taking them. */
  dump(options: DumpOptions, signal: AbortSignal): AsyncIterable<DumpItem>;
  /** What the VMs printed and received, in one order. */
  timeline(options: TimelineOptions, signal: AbortSignal): AsyncIterable<TimelineItem>;
  /** Removes what ended runs left on this host; returns what it removed, one line each. */
  clean(): Promise<string[]>;
  /** Many hosts: the processes, and an operator's side of them. */
  readonly cluster: ClusterOperations;
  /** Looks whether this host can do all this. */
  checkHost(): Promise<HostCheck[]>;
}

/** Where live numbers go while a command works. Calls are cheap: show as often as you like. */
export interface Progress {
  /** The state of the work now; replaces the one shown before. */
  show(state: ProgressState): void;
  /** A line that stays: a warning, a milestone. */
  note(line: string): void;
  /** Takes the live lines away; called at the end of the work, however it ends. */
  clear(): void;
}

export interface ProgressState {
  /** What is being done: "booting", "recording", "replaying", "sealing"… */
  readonly phase: string;
  /** How far the whole is, 0 to 1, where that is known. */
  readonly fraction?: number;
  readonly vms: readonly VmProgress[];
}

/** One VM's live numbers; those that are not known stay away. All count from the start of the run. */
export interface VmProgress {
  readonly name: string;
  /** Overrides the numbers: "paused", "ended". */
  readonly status?: string;
  /** Frames recorded, or compared in a replay. */
  readonly frames?: number;
  /** Bytes that its log takes on disk. */
  readonly storedBytes?: number;
  /** Bytes of QEMU's rr log: the display makes a rate of it. */
  readonly rrLogBytes?: number;
  /** How much of the recorded instructions has been replayed, 0 to 1. */
  readonly fraction?: number;
}

export interface BootOptions {
  /** The cluster file, as given. */
  readonly spec: string;
  /** The snapshot's name. */
  readonly save: string;
  /** Saves once every console has shown this text. */
  readonly until?: string;
  /** Saves after this time; with `until`, this long after the text. */
  readonly afterMs?: number;
  /** How long the text may take. */
  readonly timeoutMs: number;
  /** Replace a snapshot of that name. */
  readonly force: boolean;
}

export interface BootReport {
  readonly name: string;
  readonly directory: string;
  readonly bytes: number;
  readonly bootS: number;
  readonly vms: readonly {
    readonly name: string;
    readonly instructions: number;
    readonly stateBytes: number;
    /** Frames that were on their way to the VM: they reach it when a recording starts. */
    readonly framesInFlight: number;
  }[];
}

/** What makes a recorded run the failure that is sought: any of these. */
export interface FailureCriteria {
  /** A shell command that looks at the recording: it failed if this ends with another status than 0. */
  readonly command?: string;
  /** A console that says so. */
  readonly guests: boolean;
}

export interface JudgeOptions extends FailureCriteria {
  /** The recording. */
  readonly directory: string;
}

export interface Verdict {
  readonly failed: boolean;
  /** What says so, one line. */
  readonly reason: string;
}

export interface RecordOptions {
  /** The cluster file, as given; may be left out with `from`. */
  readonly spec?: string;
  /** The snapshot that the VMs start from; without it, they are powered on. */
  readonly from?: string;
  /** The directory to make, as given. */
  readonly out: string;
  /** The recording's name; default: the cluster's. */
  readonly name?: string;
  /** Ends the recording after this time; without it, when the VMs power off or on Ctrl-C. */
  readonly forMs?: number;
  /** Time between two checks of every VM's state; 0: none. */
  readonly digestEveryMs: number;
  /** The length of an epoch; 0: no epochs, and so no checkpoints. */
  readonly epochMs: number;
}

export type RecordingEnd = "poweroff" | "duration" | "interrupt" | "failure";

export interface RecordReport {
  readonly id: string;
  readonly name: string;
  readonly directory: string;
  readonly endedBy: RecordingEnd;
  /** Why it failed, when it did. */
  readonly message?: string;
  /** Whether every VM's log was closed. */
  readonly complete: boolean;
  readonly recordS: number;
  /** What the recorder in the kernel counted: nothing is lost silently. */
  readonly recorder?: Manifest["recorder"];
  readonly vms: readonly VmTotals[];
}

/** What was recorded of one VM. `null`: not known, since its log was not closed. */
export interface VmTotals {
  readonly name: string;
  readonly instructions: number | null;
  readonly bytes: {
    /** QEMU's own log would have taken this. */
    readonly rrLog: number | null;
    /** Our log before compression. */
    readonly hybrid: number | null;
    /** Our log on disk. */
    readonly stored: number | null;
  };
  readonly frames: {
    /** Received from recorded VMs, and stored as references. */
    readonly internal: number | null;
    /** Received from anything else. */
    readonly external: number | null;
    /** Received and stored whole: the external ones and those that could not be matched. */
    readonly stored: number | null;
    readonly sent: number | null;
  };
  readonly checks: number | null;
}

export interface ReplayOptions {
  readonly directory: string;
  /** A file to write what the replay observed to; see `lib/diff/FORMAT.md`. */
  readonly trace?: string;
  /** How many epochs a VM may be ahead of the slowest; `Infinity`: no bound. */
  readonly windowEpochs?: number;
}

export interface SessionOptions extends ReplayOptions {
  /** Default: before the first instruction. */
  readonly target?: SeekTarget;
  /** VMs that gdb may connect to. */
  readonly gdb?: readonly string[];
}

/** A replay that stands. */
export interface OpenedSession {
  /** By which other processes find it. */
  readonly name: string;
  /** Where gdb can connect, for each VM that was asked for. */
  readonly gdb: readonly { readonly vm: string; readonly address: string }[];
  /** Resolves when a command, from wherever, has ended it: to the answer of that. */
  readonly over: Promise<SessionAnswer>;
  /** Runs one of the commands of `lib/session`. @throws {ClusterrrError} */
  run(words: readonly string[]): Promise<SessionAnswer>;
  close(): Promise<void>;
}

/** What a replay's VM did. */
export interface VmReplay {
  readonly name: string;
  readonly framesRecorded: number;
  readonly framesMatched: number;
  readonly instructions: number;
  readonly consoleEqual: boolean;
  readonly replayS: number;
  /** What ended it: "end of log", "divergence"… */
  readonly endedBy: string;
}

export interface ReplayReport {
  readonly ok: boolean;
  readonly vms: readonly VmReplay[];
  readonly replayS: number;
  readonly recordS: number;
  /** The most bytes of frames that were held for VMs that had not come as far yet. */
  readonly queueBytesMax: number;
  /** Set where the recording is cut off: what is missing. */
  readonly incomplete?: string;
  readonly divergence?: Divergence;
}

export interface VerifyOptions extends ReplayOptions {
  /** How many replays, at least 1. */
  readonly runs: number;
  /** Replays the parts between snapshots at the same time. */
  readonly parallel?: {
    /** How many parts at once. */
    readonly jobs: number;
    /** Where there are no snapshots yet, how they are taken. */
    readonly every: number;
    readonly bytesMax: number;
  };
}

export interface IndexOptions {
  readonly directory: string;
  /** A snapshot at every so many checkpoints. */
  readonly every: number;
  /** The most that all snapshots may take on disk. */
  readonly bytesMax: number;
}

export interface IndexReport {
  /** All snapshots that there are now. */
  readonly checkpoints: readonly { readonly epoch: number; readonly bytes: number }[];
  /** How many were taken. */
  readonly taken: number;
  readonly lastCheckpoint: number;
  readonly bytes: number;
  readonly indexS: number;
}

export interface PackOptions {
  readonly directory: string;
  /** The file to make. */
  readonly file: string;
  /** Take along what the recording starts from: images, snapshot. */
  readonly images: boolean;
}

export interface PackReport {
  readonly file: string;
  /** The recording's. */
  readonly id: string;
  readonly name: string;
  /** Of the pack. */
  readonly bytes: number;
  readonly files: number;
  /** Of the files in it. */
  readonly contentBytes: number;
  readonly images: number;
  readonly snapshot: boolean;
  /** What lies in the recording's directory and was not packed. */
  readonly leftOut: readonly string[];
  readonly packS: number;
}

export interface UnpackOptions {
  readonly file: string;
  /** The directory to make. */
  readonly out: string;
}

export interface UnpackReport {
  readonly directory: string;
  readonly id: string;
  readonly name: string;
  readonly files: number;
  readonly bytes: number;
  readonly images: number;
  readonly snapshot: boolean;
  readonly unpackS: number;
}

/** The state of a VM compared at one instruction. */
export interface StateCheck {
  /** The recorded instruction count. */
  readonly at: number;
  /** Whether the replay stopped at that very count. */
  readonly icount: boolean;
  readonly registers: boolean;
  readonly ram: boolean;
  /** The replay ended before: nothing was compared, and the three above are false. */
  readonly notReached?: true;
}

export interface VmVerification {
  readonly name: string;
  readonly frames: { readonly recorded: number; readonly matched: number };
  readonly checks: readonly StateCheck[];
  /** Whether the console output was equal. */
  readonly console: boolean;
  readonly replayS: number;
  readonly recordS: number;
}

/** One replay of a verification. */
export interface VerifyRun {
  readonly ok: boolean;
  readonly replayS: number;
  readonly recordS: number;
  readonly vms: readonly VmVerification[];
  /** With `--parallel`: into how many parts it was cut; 1 where no snapshot lies in a useful place. */
  readonly parts?: number;
  readonly divergence?: Divergence;
}

/** All replays of a verification; per VM the worst of each. */
export interface VerifyReport {
  readonly ok: boolean;
  readonly runs: number;
  readonly vms: readonly VmVerification[];
  readonly perRun: readonly VerifyRun[];
  /** Set where the recording is cut off: what is missing. */
  readonly incomplete?: string;
}

export interface DiffOptions {
  readonly a: RunPlace;
  readonly b: RunPlace;
  /** Leave out what only QEMU's main loop notices. */
  readonly guestOnly: boolean;
  /** How many things before each difference to show. */
  readonly context: number;
}

export interface DumpOptions {
  /** A segment, a stock rr file, or a recording directory. */
  readonly path: string;
  /** Only this VM of a recording. */
  readonly vm?: string;
  /** The first instruction count of interest. */
  readonly fromIcount?: number;
  /** The most items to give. */
  readonly limit?: number;
}

/** One event of a log. */
export interface DumpItem {
  readonly vm: string;
  readonly icount: number;
  /** The event's kind: "INSTRUCTION", "reference", "send"… */
  readonly kind: string;
  /** Its contents in one line, without kind and count. */
  readonly text: string;
  /** Its contents as values, for `--json`. */
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface TimelineOptions {
  readonly directory: string;
  /** Received frames, beside the lines of the consoles. */
  readonly frames: boolean;
  /** Of these VMs; without it, of all. */
  readonly vms?: readonly string[];
}

/** A line on a console, or a received frame. */
export interface TimelineItem {
  readonly kind: "line" | "frame";
  readonly vm: string;
  /** Since the recording began, by the VM's clock. */
  readonly seconds: number;
  /** Where a replay stops just behind it; `null`: nowhere any more. */
  readonly icount: number | null;
  /** The line; what the frame is. */
  readonly text: string;
  /** Of a frame: the VM that sent it, `null` where it came from outside, and its number there. */
  readonly from?: string | null;
  readonly sendNumber?: number;
}

/** Something that a host must have, or should. */
export interface HostCheck {
  readonly name: string;
  readonly ok: boolean;
  /** Without it nothing works; otherwise it is advice. */
  readonly needed: boolean;
  readonly detail: string;
  /** The command or step that puts it right; "" where there is none. */
  readonly mend: string;
}
