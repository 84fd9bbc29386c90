/**
 * Writes a replay's trace: what the replay's roles observe in, JSON Lines out. Format: `FORMAT.md`.
 *
 * Lines are gathered and written when there are enough of them, so a replay is hardly slowed down; a
 * process that is killed loses the last few, and the trace says so by lacking its `close`.
 */
import { hash } from "node:crypto";
import { ClusterrrError, type Divergence, messageOf } from "../errors.ts";
import type { ObservedCheck, ObservedSend, ReplayObserver } from "../roles/replay_observer.ts";
import type { ConsoleDigest } from "./consoles.ts";
import { TRACE_HEAD_BYTES, type TraceHeader, type TraceRecord } from "./trace.ts";

const WRITE_CHARACTERS = 64 * 1024;
/** Hex dumps of a divergence; a line must stay below its limit. */
const TEXT_CHARACTERS_MAX = 100_000;

export class TraceWriter implements ReplayObserver, Disposable {
  readonly #file: Deno.FsFile;
  readonly #encoder = new TextEncoder();
  #waiting = "";
  #open = true;

  /** @throws {ClusterrrError} where `path` cannot be made; an existing file is replaced */
  constructor(private readonly path: string, header: TraceHeader) {
    try {
      this.#file = Deno.openSync(path, { write: true, create: true, truncate: true });
    } catch (cause) {
      throw new ClusterrrError(`Cannot write the trace ${path}: ${messageOf(cause)}`, { cause });
    }
    this.#line(header);
  }

  sent(vm: string, send: ObservedSend): void {
    const { number, frame, hash, near, lamport } = send;
    this.#record({
      type: "send",
      vm,
      number,
      length: frame.length,
      hash: hash.toHex(),
      head: frame.subarray(0, TRACE_HEAD_BYTES).toHex(),
      near,
      ...(lamport === undefined ? {} : { lamport: String(lamport) }),
    });
  }

  checked(vm: string, { icount, registers, ramDigest }: ObservedCheck): void {
    this.#record({
      type: "check",
      vm,
      icount,
      registers: hash("sha256", registers),
      ram: ramDigest,
    });
  }

  diverged({ vm, instructionCount, what, expected, actual }: Divergence): void {
    this.#record({
      type: "divergence",
      vm,
      icount: Number(instructionCount),
      what,
      expected: expected.slice(0, TEXT_CHARACTERS_MAX),
      actual: actual.slice(0, TEXT_CHARACTERS_MAX),
    });
  }

  ended(vm: string, complete: boolean, reason: string): void {
    this.#record({ type: "end", vm, complete, reason });
  }

  printed(vm: string, { bytes, sha256 }: ConsoleDigest): void {
    this.#record({ type: "console", vm, bytes, sha256 });
  }

  /** Ends the trace in order. */
  finish(): void {
    this.#record({ type: "close" });
    this.close();
  }

  /** Closes the file as it is; without `finish` the trace is incomplete. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    try {
      this.#flush();
    } finally {
      this.#file.close();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #record(record: TraceRecord): void {
    if (!this.#open) return; // a VM's last words behind the end of the replay
    this.#line(record);
  }

  #line(value: unknown): void {
    this.#waiting += JSON.stringify(value) + "\n";
    if (this.#waiting.length >= WRITE_CHARACTERS) this.#flush();
  }

  #flush(): void {
    let rest = this.#encoder.encode(this.#waiting);
    this.#waiting = "";
    try {
      while (rest.length > 0) rest = rest.subarray(this.#file.writeSync(rest));
    } catch (cause) {
      throw new ClusterrrError(`Cannot write the trace ${this.path}: ${messageOf(cause)}`, {
        cause,
      });
    }
  }
}
