/**
 * A QEMU that we run: its process, its monitor, what its guest sends, and how it ends. Made first, with its FIFOs,
 * and then started, paused.
 */
import { dirname } from "node:path";
import { ClusterrrError } from "../lib/errors.ts";
import type { VmEnd } from "../lib/roles/ports.ts";
import type { VmNumber } from "../lib/units.ts";
import { Capture } from "./capture.ts";
import type { CommandLineOptions, VmHardware, VmPaths } from "./qemu/command_line.ts";
import { QemuProcess, START_TIMEOUT_MS } from "./qemu/process.ts";
import type { QmpClient } from "./qmp/client.ts";
import { queryReplay } from "./qmp/commands.ts";
import { SerialInput } from "./serial_input.ts";

/** Where a VM's run keeps its files, and how its QEMU is started. */
export interface VmRun {
  readonly hardware: VmHardware;
  readonly qemu: CommandLineOptions["qemu"];
  /** Sockets, FIFOs, QEMU's messages. */
  readonly directory: string;
  readonly console: string;
  readonly overlays: readonly string[];
  /** Starts from a snapshot: the run's own overlay of its state. */
  readonly state?: string;
  /** Whether its disks are those of a snapshot. Default: whether it starts from one. */
  readonly disksNested?: boolean;
  /** A command prefix that enters the network namespace of the taps. */
  readonly enter: readonly string[];
  readonly signal: AbortSignal;
  /** Told of the process as soon as it runs. */
  readonly started: (pid: number) => void;
}

/** How long QEMU may take to end by itself before it is made to. */
const END_GRACE_MS = 5_000;

const captureBuffer = new Uint8Array(1 << 20);

function pathsOf(
  run: VmRun,
): VmPaths & {
  log: string;
  capture: string;
  messages: string;
  waker: string;
  gdb: string;
} {
  const base = `${run.directory}/${run.hardware.number}`;
  return {
    qmp: `${base}.qmp`,
    console: run.console,
    overlays: run.overlays,
    ...(run.state === undefined ? {} : { state: run.state }),
    disksNested: run.disksNested ?? run.state !== undefined,
    serialInput: `${base}.tty`,
    log: `${base}.rr`,
    capture: `${base}.cap`,
    waker: `${base}.wake`,
    gdb: `${base}.gdb`,
    messages: `${base}.log`,
  };
}

/** What VMs that record, replay and boot for a snapshot share. */
export abstract class QemuVm {
  readonly ended: Promise<VmEnd>;
  protected readonly paths: ReturnType<typeof pathsOf>;
  protected readonly serial: SerialInput | undefined;
  readonly #setEnd: (end: VmEnd) => void;
  #end: VmEnd | undefined;
  #process: QemuProcess | undefined;
  #capture: Capture | undefined;
  /** Why we ended it. */
  #failure: ClusterrrError | undefined;

  /** @param serialInput text that is typed into the serial console */
  constructor(protected readonly run: VmRun, serialInput?: string) {
    this.paths = pathsOf(run);
    const { promise, resolve } = Promise.withResolvers<VmEnd>();
    this.ended = promise;
    this.#setEnd = (end) => {
      this.#end = end;
      resolve(end);
    };
    if (serialInput !== undefined) {
      this.serial = new SerialInput(this.paths.serialInput!, run.console, serialInput);
    }
  }

  /** What QEMU is started with. */
  protected abstract commandLine(): string[];

  /** What to do where there is no room in the directory that its disks' overlays are in. */
  protected abstract roomAdvice(directory: string): string;

  get number(): VmNumber {
    return this.run.hardware.number;
  }

  get name(): string {
    return this.run.hardware.name;
  }

  /** How its process has ended, if it has: what {@link ended} resolves to. */
  get end(): VmEnd | undefined {
    return this.#end;
  }

  /** The monitor; a VM that stands can be looked at. */
  get qmp(): QmpClient {
    return this.process.qmp;
  }

  /** Starts QEMU, paused, and connects its capture; on failure no process is left. */
  async start(): Promise<void> {
    const process = await QemuProcess.start({
      name: this.name,
      argv: this.commandLine(),
      enter: this.run.enter,
      qmpPath: this.paths.qmp,
      logPath: this.paths.messages,
      timeoutMs: this.#startTimeoutMs(),
      signal: this.run.signal,
    });
    this.#process = process;
    process.exited.then(({ code, signal }) => {
      if (process.endedBy !== undefined) {
        const who = `QEMU of VM ${this.name} was ended from outside, by ${process.endedBy}.`;
        this.#failure ??= new ClusterrrError(who);
      }
      this.#setEnd({
        code: signal === null ? code : null,
        signal,
        stderr: process.lastOutput,
        ...(this.#failure && { failure: this.#failure }),
      });
    });
    process.qmp.on("BLOCK_IO_ERROR", ({ data }) => this.#diskFailed(data));
    this.run.started(process.pid);
    this.#capture = new Capture(this.paths.capture, captureBuffer);
  }

  /** QEMU loads a saved state, at some 100 MB/s on a slow disk, before its monitor answers. */
  #startTimeoutMs(): number {
    return START_TIMEOUT_MS + (this.loadsState() ? this.run.hardware.memoryMiB * 10 : 0);
  }

  /** Whether it starts from a state that was saved. */
  protected loadsState(): boolean {
    return this.run.state !== undefined;
  }

  /**
   * QEMU could not write what the guest wrote to a disk. Where there was no room it stops the VM, and nobody
   * would let it go on; other errors are the guest's, as those of a real disk are.
   */
  #diskFailed({ action, reason }: Readonly<Record<string, unknown>>): void {
    if (action !== "stop" || this.#failure !== undefined) return;
    this.#failure = new ClusterrrError(
      `VM ${this.name} cannot write to its disk: ${reason}\n` +
        this.roomAdvice(dirname(this.run.overlays[0]!)),
    );
    this.kill().catch(() => {}); // as it ends, its failure is heard of
  }

  async resume(): Promise<void> {
    await this.process.cont();
  }

  async pause(): Promise<void> {
    await this.process.stop();
  }

  /** The paused VM's instruction count. */
  async icount(): Promise<number> {
    return (await queryReplay(this.qmp)).icount;
  }

  readSent(take: (frame: Uint8Array) => void): number {
    return this.#capture?.read(take) ?? 0;
  }

  async quit(): Promise<void> {
    await this.process.end(END_GRACE_MS);
  }

  async kill(): Promise<void> {
    await this.#process?.end(0);
  }

  /** Ends the process if it still runs and closes what is open. */
  async close(): Promise<void> {
    await this.kill();
    this.#capture?.close();
    this.serial?.close();
  }

  /** It came to its end before its monitor answered. */
  protected endedEarly(): void {
    this.#setEnd({ code: 0, signal: null, stderr: "" });
  }

  protected get process(): QemuProcess {
    if (this.#process === undefined) throw new Error(`VM ${this.name} has not been started`);
    return this.#process;
  }

  protected get capture(): Capture | undefined {
    return this.#capture;
  }
}
