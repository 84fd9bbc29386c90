/**
 * Every error that clusterrr throws on purpose.
 *
 * ```
 * ClusterrrError            something is wrong that a user can understand; exit status 1
 * ├── UsageError            the command line is off; exit status 2
 * ├── SpecError             a cluster file is wrong: file, line, path, what would be right
 * ├── FormatError           bytes that do not follow a format: file and offset
 * │   └── VersionError      a format, protocol or QEMU version this build does not know
 * ├── ProtocolError         a peer sent what the protocol does not allow
 * ├── RemoteError           a call failed on the other side: the peer, the error's name and data there
 * ├── QmpError              QEMU's monitor refused a command or went away
 * ├── HostError             a command on this host failed: command, exit code, stderr
 * ├── PeerFailedError       a replay over hosts failed on another host, or one was lost
 * ├── InterruptedError      the user ended the work (Ctrl-C, SIGTERM)
 * └── DivergenceError       a replay did something else than the recording says
 * ```
 *
 * Messages say what is wrong and what to do next. Broken invariants of our own throw plain `Error`.
 */

/** The root of the tree; `Deno.exit` status 1 unless a subclass says otherwise. */
export class ClusterrrError extends Error {
  override name = "ClusterrrError";
  /** The process's exit status when this error ends it. */
  readonly exitStatus: 1 | 2 = 1;
}

/** The command line is off. */
export class UsageError extends ClusterrrError {
  override name = "UsageError";
  override readonly exitStatus = 2;
}

/** One thing wrong in a cluster file. `line` and `column` count from 1; 0 where the place is unknown. */
export interface SpecProblem {
  readonly path: string;
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** A cluster file is wrong; `problems` holds every mistake found. */
export class SpecError extends ClusterrrError {
  override name = "SpecError";
  constructor(
    readonly file: string,
    readonly problems: readonly SpecProblem[],
    options?: ErrorOptions,
  ) {
    super(
      problems.map((p) =>
        `${file}:${p.line}:${p.column}: ${p.path ? p.path + ": " : ""}${p.message}`
      )
        .join("\n"),
      options,
    );
  }
}

/** Bytes that do not follow a format. `offset` counts bytes from the start of `file`. */
export class FormatError extends ClusterrrError {
  override name = "FormatError";
  constructor(
    readonly file: string,
    readonly offset: number,
    detail: string,
    options?: ErrorOptions,
  ) {
    super(`Cannot read ${file} at byte ${offset}: ${detail}`, options);
  }
}

/** A version this build does not know. */
export class VersionError extends FormatError {
  override name = "VersionError";
}

/** A peer sent what the protocol does not allow. */
export class ProtocolError extends ClusterrrError {
  override name = "ProtocolError";
}

/** A call failed on the other side of a channel. `remoteName` and `data` are that error's name and data. */
export class RemoteError extends ClusterrrError {
  override name = "RemoteError";
  constructor(
    readonly peer: string,
    readonly remoteName: string,
    message: string,
    readonly data?: unknown,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** QEMU's monitor refused a command, or went away while one was pending. */
export class QmpError extends ClusterrrError {
  override name = "QmpError";
  constructor(
    readonly command: string,
    readonly errorClass: string,
    detail: string,
    options?: ErrorOptions,
  ) {
    super(`QMP ${command} failed: ${detail} (${errorClass})`, options);
  }
}

/** A command or a system call on this host failed. `code` is an exit code or errno. */
export class HostError extends ClusterrrError {
  override name = "HostError";
  constructor(
    readonly command: string,
    readonly code: number,
    readonly stderr: string,
    advice = "",
    options?: ErrorOptions,
  ) {
    super(
      `${command} failed (${code})${stderr ? ": " + stderr.trim() : ""}${
        advice ? `\n${advice}` : ""
      }`,
      options,
    );
  }
}

/** A replay over several hosts cannot go on because of `peer`; the cause is reported there, if it lives. */
export class PeerFailedError extends ClusterrrError {
  override name = "PeerFailedError";
  constructor(readonly peer: string, readonly reason: string, options?: ErrorOptions) {
    super(`The replay on host ${peer} failed: ${reason}`, options);
  }
}

/** The user ended the work. */
export class InterruptedError extends ClusterrrError {
  override name = "InterruptedError";
}

/** What differed, where. `expected` and `actual` are printable: hex dumps, digests, register texts. */
export interface Divergence {
  readonly vm: string;
  readonly instructionCount: bigint;
  /** The send number of the frame that differed; `null` where no frame is concerned. */
  readonly sendNumber: number | null;
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
  readonly likelyCause: string;
}

/** A replay did something else than the recording says. */
export class DivergenceError extends ClusterrrError {
  override name = "DivergenceError";
  constructor(readonly divergence: Divergence, options?: ErrorOptions) {
    const d = divergence;
    const frame = d.sendNumber === null ? "" : `, frame ${d.sendNumber}`;
    super(
      `Replay diverged: VM ${d.vm}, instruction ${d.instructionCount}${frame}: ${d.what}\n` +
        `recorded:\n${d.expected}\nreplayed:\n${d.actual}\nlikely cause: ${d.likelyCause}`,
      options,
    );
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof SuppressedError) {
    return `${messageOf(error.suppressed)}; then ${messageOf(error.error)}`;
  }
  return error instanceof Error ? error.message : String(error);
}

/** The errno in the message of an error of Deno's, `(os error 28)`; `undefined` of any other. */
export function errnoOf(error: unknown): number | undefined {
  const errno = /\(os error (\d+)\)/.exec(messageOf(error))?.[1];
  return errno === undefined ? undefined : Number(errno);
}
