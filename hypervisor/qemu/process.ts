/**
 * One QEMU process: started, driven through its monitor, and always reaped.
 *
 * ```
 *  start ──spawned──▶ starting ──monitor answers──▶ up ──guest powers off, end()──▶ exited
 *                        │ exits, time is up, signal                                  ▲
 *                        └──────────────────── (start throws) ────────────────────────┘
 * ```
 *
 * It cannot outlive us: `setpriv --pdeathsig KILL` has the kernel kill it with its parent. The
 * kernel means the parent *thread* (prctl(2), PR_SET_PDEATHSIG), so start it from the main thread or
 * from a Worker that lives as long as the VM. Until the monitor answers, QEMU may wait for the other
 * end of its event log's FIFO: open that first.
 */
import { HostError, messageOf, ProtocolError, QmpError } from "../../lib/errors.ts";
import { isDisconnect, QmpClient } from "../qmp/client.ts";

const STDERR_KEPT_BYTES = 4096;
export const START_TIMEOUT_MS = 30_000;

export interface QemuStart {
  /** The VM's name, for messages. */
  readonly name: string;
  /** The program and its arguments; `-mon` with a socket at `qmpPath` among them. */
  readonly argv: readonly string[];
  /** A command prefix that enters the VM's namespaces, or nothing. */
  readonly enter: readonly string[];
  readonly qmpPath: string;
  /** Gets the command line and everything QEMU prints. */
  readonly logPath: string;
  /** Until the monitor answers. Default 30 s. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** How QEMU ended: `code` is 128 + the signal's number where a signal ended it. */
export interface QemuExit {
  readonly code: number;
  readonly signal: Deno.Signal | null;
}

export class QemuProcess {
  /** Resolves when QEMU has ended and its output is in the log. */
  readonly exited: Promise<QemuExit>;
  readonly name: string;
  readonly #child: Deno.ChildProcess;
  readonly #output: OutputLog;
  #qmp: QmpClient | undefined;
  #ending: Promise<QemuExit> | undefined;

  private constructor(options: QemuStart, child: Deno.ChildProcess, output: OutputLog) {
    this.name = options.name;
    this.#child = child;
    this.#output = output;
    this.exited = this.#reap();
  }

  /**
   * Starts QEMU and waits until its monitor answers. On any failure no process is left.
   * @throws {HostError} where QEMU refuses to start, with what it printed
   * @throws {QmpError} where its monitor does not answer in time
   */
  static async start(options: QemuStart): Promise<QemuProcess> {
    options.signal?.throwIfAborted();
    const command = ["--pdeathsig", "KILL", "--", ...options.enter, ...options.argv];
    const heading = `$ setpriv ${command.map(shellWord).join(" ")}\n`;
    const output = new OutputLog(options.logPath, heading);
    let child: Deno.ChildProcess;
    try {
      child = new Deno.Command("setpriv", {
        args: command,
        stdin: "null",
        stdout: "null",
        stderr: "piped",
        detached: true, // Ctrl-C at a terminal is meant for us: it would end the VMs one by one
      }).spawn();
    } catch (cause) {
      output.close();
      if (!(cause instanceof Deno.errors.NotFound)) throw cause;
      throw new HostError("setpriv", 127, "no such program", "apt-get install util-linux", {
        cause,
      });
    }
    const process = new QemuProcess(options, child, output);
    await process.#connect(options);
    return process;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** The monitor. */
  get qmp(): QmpClient {
    if (!this.#qmp) throw new Error("the monitor is not connected yet");
    return this.#qmp;
  }

  /** The last 4 KiB of what QEMU printed. */
  get lastOutput(): string {
    return this.#output.tail();
  }

  /**
   * `signal 15 from pid 1 (systemd)`, where somebody else asked QEMU to end: it does so in order, with status 0, as if
   * its guest had powered off. Source: QEMU softmmu/runstate.c, `qemu_kill_report`.
   */
  get endedBy(): string | undefined {
    if (this.#ending !== undefined) return undefined;
    return /terminating on (signal \d+.*)/.exec(this.lastOutput)?.[1];
  }

  /** Pauses the guest, which then executes nothing any more. @throws {QmpError} */
  async stop(): Promise<void> {
    await this.qmp.execute("stop");
  }

  /** Lets the guest run. @throws {QmpError} */
  async cont(): Promise<void> {
    await this.qmp.execute("cont");
  }

  /**
   * Ends QEMU, politely first: `quit`, then SIGTERM, then SIGKILL, each after another `graceMs`.
   * While a recording quits, it writes the rest of its event log: keep reading it.
   */
  end(graceMs: number): Promise<QemuExit> {
    return this.#ending ??= this.#end(graceMs);
  }

  async #end(graceMs: number): Promise<QemuExit> {
    if (this.#qmp) {
      const polite = this.#qmp.execute("quit", {}, { timeoutMs: graceMs }).catch(ignoreQmpError);
      if (await this.#exitsWithin(graceMs)) return await this.exited;
      this.#signal("SIGTERM");
      await polite;
      if (await this.#exitsWithin(graceMs)) return await this.exited;
    }
    this.#signal("SIGKILL");
    return await this.exited;
  }

  /** Waits for the monitor; where QEMU ends first, its own message is the better error. */
  async #connect(options: QemuStart): Promise<void> {
    const gone = new AbortController();
    const signal = options.signal ? AbortSignal.any([gone.signal, options.signal]) : gone.signal;
    const exitsEarly = this.exited.then((exit) => gone.abort(this.#startError(exit)));
    try {
      this.#qmp = await QmpClient.connect(options.qmpPath, {
        timeoutMs: options.timeoutMs ?? START_TIMEOUT_MS,
        signal,
      });
    } catch (cause) {
      // A QEMU that gives up closes its socket an instant before it ends.
      if (isDisconnect(cause) && await this.#exitsWithin(1_000)) await exitsEarly;
      await this.end(0);
      if (gone.signal.aborted && isDisconnect(cause)) throw gone.signal.reason;
      throw cause;
    }
  }

  #startError(exit: QemuExit): HostError {
    const advice = `QEMU of VM ${this.name} did not start; its log is ${this.#output.path}`;
    return new HostError(`QEMU of VM ${this.name}`, exit.code, this.lastOutput, advice);
  }

  async #reap(): Promise<QemuExit> {
    for await (const bytes of this.#child.stderr) this.#output.append(bytes);
    const { code, signal } = await this.#child.status;
    this.#output.close();
    await this.#qmp?.close();
    return { code, signal };
  }

  async #exitsWithin(timeoutMs: number): Promise<boolean> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<false>((resolve) => {
      timer = setTimeout(() => resolve(false), timeoutMs);
    });
    const exited = await Promise.race([this.exited.then(() => true), timeout]);
    clearTimeout(timer);
    return exited;
  }

  #signal(signal: Deno.Signal): void {
    try {
      this.#child.kill(signal);
    } catch (cause) {
      if (!/terminated|No such process/.test(messageOf(cause))) throw cause;
    }
  }
}

/** The log file, and the end of what QEMU printed in memory. */
class OutputLog {
  readonly path: string;
  readonly #file: Deno.FsFile;
  #tail = new Uint8Array();

  constructor(path: string, heading: string) {
    this.path = path;
    this.#file = Deno.openSync(path, { create: true, write: true, truncate: true });
    this.#write(new TextEncoder().encode(heading));
  }

  append(bytes: Uint8Array): void {
    this.#write(bytes);
    this.#tail = new Uint8Array([...this.#tail, ...bytes].slice(-STDERR_KEPT_BYTES));
  }

  tail(): string {
    return new TextDecoder().decode(this.#tail);
  }

  close(): void {
    this.#file.close();
  }

  /** A log that cannot grow, on a full disk, must not keep us from reaping QEMU: the tail remains. */
  #write(bytes: Uint8Array): void {
    try {
      for (let rest = bytes; rest.length > 0;) rest = rest.subarray(this.#file.writeSync(rest));
    } catch {
      return;
    }
  }
}

function ignoreQmpError(cause: unknown): void {
  if (!(cause instanceof QmpError || cause instanceof ProtocolError)) throw cause;
}

function shellWord(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
