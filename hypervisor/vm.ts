/**
 * A VM under QEMU as the roles see it: process, monitor, log FIFO and capture in one object.
 *
 * record   QEMU ──rr log──▶ LogReader      QEMU ──sent frames──▶ Capture
 * replay   LogWriter ──rr log──▶ QEMU      QEMU ──sent frames──▶ Capture
 */
import { dirname } from "node:path";
import { CpuSharing } from "../host/cpu_sharing.ts";
import { cpuTimeMs, isBlockedReading } from "../host/libc.ts";
import { ClusterrrError, HostError } from "../lib/errors.ts";
import type { MachineState, RecordedVm, ReplayedVm, VmEnd, VmPort } from "../lib/roles/ports.ts";
import { instructionCount, type VmNumber } from "../lib/units.ts";
import { Capture } from "./capture.ts";
import { LogReader, LogWriter } from "./log_fifo.ts";
import {
  buildCommandLine,
  type CommandLineOptions,
  type RunMode,
  type VmHardware,
  type VmPaths,
} from "./qemu/command_line.ts";
import { ramRanges } from "./qemu/memory_map.ts";
import { QemuProcess } from "./qemu/process.ts";
import type { RamCopier } from "./qemu/ram_digest.ts";
import { saveSnapshot, SNAPSHOT_TAG } from "./qemu/snapshot.ts";
import { isDisconnect, type QmpClient } from "./qmp/client.ts";
import { diskAtWork, interruptWaits, queryReplay, registers, replayBreak } from "./qmp/commands.ts";
import type { Readiness } from "./readiness.ts";
import { SerialInput } from "./serial_input.ts";
import { Waker } from "./waker.ts";

/** Where a VM's run keeps its files, and how its QEMU is started. */
export interface VmRun {
  readonly hardware: VmHardware;
  readonly qemu: CommandLineOptions["qemu"];
  /** Sockets, FIFOs, QEMU's messages. */
  readonly directory: string;
  /** Copies the RAM of all VMs of the run. */
  readonly ramCopier: RamCopier;
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

const cpuSharing = new CpuSharing();

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

/** What recording and replay share. A VM is made first, with its FIFOs, and then started, paused. */
abstract class QemuVm implements VmPort {
  readonly ended: Promise<VmEnd>;
  protected readonly paths: ReturnType<typeof pathsOf>;
  readonly #setEnd: (end: VmEnd) => void;
  #process: QemuProcess | undefined;
  #endedEarly = false;
  #failure: ClusterrrError | undefined;
  #capture: Capture | undefined;

  constructor(protected readonly run: VmRun) {
    this.paths = pathsOf(run);
    const { promise, resolve } = Promise.withResolvers<VmEnd>();
    this.ended = promise;
    this.#setEnd = resolve;
  }

  /** What QEMU is started with. */
  abstract commandLine(): string[];

  get number(): VmNumber {
    return this.run.hardware.number;
  }

  get name(): string {
    return this.run.hardware.name;
  }

  /** Of a QEMU that ended by itself before it was up: that it has {@link ended}. */
  protected endedEarly(): void {
    this.#endedEarly = true;
    this.#setEnd({ code: 0, signal: null, stderr: "" });
  }

  /** Starts QEMU, paused, and connects its capture; on failure no process is left. */
  async start(): Promise<void> {
    const process = await QemuProcess.start({
      name: this.name,
      argv: this.commandLine(),
      enter: this.run.enter,
      qmpPath: this.paths.qmp,
      logPath: this.paths.messages,
      signal: this.run.signal,
    });
    this.#process = process;
    process.exited.then(({ code, signal }) =>
      this.#setEnd({
        code: signal === null ? code : null,
        signal,
        stderr: process.lastOutput,
        ...(this.#failure && { failure: this.#failure }),
      })
    );
    process.qmp.on("BLOCK_IO_ERROR", ({ data }) => this.#diskFailed(data));
    this.run.started(process.pid);
    process.exited.then(cpuSharing.join(process.pid));
    this.#capture = new Capture(this.paths.capture, captureBuffer);
  }

  /**
   * QEMU could not write what the guest wrote to a disk. Where there was no room it stops the VM, and nobody
   * would let it go on; other errors are the guest's, as those of a real disk are.
   */
  #diskFailed({ action, reason }: Readonly<Record<string, unknown>>): void {
    if (action !== "stop" || this.#failure !== undefined) return;
    const directory = dirname(this.run.overlays[0]!);
    this.#failure = new ClusterrrError(
      `VM ${this.name} cannot write to its disk: ${reason}\n` +
        `What the VMs write is in ${directory} meanwhile. Make room there, or name another directory ` +
        "with CLUSTERRR_SCRATCH.",
    );
    this.kill().catch(() => {}); // as it ends, its failure is heard of
  }

  async resume(): Promise<void> {
    await this.unlessEnded(() => this.process.cont());
  }

  async pause(): Promise<void> {
    await this.unlessEnded(() => this.process.stop());
  }

  async quit(): Promise<void> {
    await this.process.end(END_GRACE_MS);
  }

  async kill(): Promise<void> {
    await this.#process?.end(0);
  }

  async state(): Promise<MachineState> {
    const { qmp } = this.process;
    const { icount } = await queryReplay(qmp);
    const cpu = await registers(qmp);
    const ranges = ramRanges(this.run.hardware.machine, this.run.hardware.memoryMiB);
    const bytes = ranges.reduce((sum, range) => sum + range.size, 0);
    const copy = await this.run.ramCopier.copy(this.process, ranges);
    const ram = copy.hash().then((sha256) => ({ sha256, bytes })); // it lets the next copy begin
    ram.catch(() => {}); // its failure shows where it is awaited
    return {
      icount: Number(icount),
      registers: cpu,
      // A frame may have come in while it was halted: its RAM is then not that of before.
      idle: /\bHLT=1\b/.test(cpu) && !await interruptWaits(qmp),
      ram,
    };
  }

  readSent(take: (frame: Uint8Array) => void): number {
    return this.#capture?.read(take) ?? 0;
  }

  /** The monitor; a VM that stands can be looked at. */
  get qmp(): QmpClient {
    return this.process.qmp;
  }

  /** Ends the process if it still runs and closes what is open. */
  async close(): Promise<void> {
    await this.kill();
    this.#capture?.close();
  }

  protected get process(): QemuProcess {
    if (this.#process === undefined) throw new Error(`VM ${this.name} has not been started`);
    return this.#process;
  }

  protected get capture(): Capture | undefined {
    return this.#capture;
  }

  /** What a VM that powered itself off meanwhile no longer answers is no error. */
  protected async unlessEnded(command: () => Promise<void>): Promise<void> {
    if (this.#endedEarly) return;
    try {
      await command();
    } catch (error) {
      if (!isDisconnect(error)) throw error;
      await this.ended;
    }
  }
}

/** A VM that is being recorded. */
export class RecordedQemu extends QemuVm implements RecordedVm {
  readonly #log: LogReader;
  readonly #serial: SerialInput | undefined;
  #gone = false;

  /**
   * Makes the FIFOs.
   * @param serialInput text that is typed into the serial console
   */
  constructor(run: VmRun, private readonly tap: string, serialInput?: string) {
    super(run);
    this.#log = new LogReader(this.paths.log);
    if (serialInput !== undefined) {
      this.#serial = new SerialInput(this.paths.serialInput!, run.console, serialInput);
    }
    this.ended.then(() => this.#gone = true);
  }

  override commandLine(): string[] {
    const mode: RunMode = {
      kind: "record",
      tap: this.tap,
      rrLog: this.paths.log,
      capture: this.paths.capture,
    };
    return buildCommandLine(this.run.hardware, mode, this.paths, { qemu: this.run.qemu });
  }

  async settled(): Promise<boolean> {
    return this.run.hardware.disks.length === 0 || !await diskAtWork(this.process.qmp);
  }

  readLog(): Uint8Array | "again" | "closed" {
    this.#serial?.move();
    return this.#log.read(this.#gone);
  }

  unreadLog(): number {
    return this.#log.unread();
  }

  override async close(): Promise<void> {
    await super.close();
    this.#serial?.close();
    this.#log.close();
  }
}

/** How a VM is replayed. */
export interface ReplayedQemuOptions {
  /**
   * A file that {@link ReplayedQemu.save} made, and that is QEMU's alone from now on; without it the
   * replay begins at the start.
   */
  readonly snapshot?: string;
  /** Whether gdb's remote protocol can be spoken with it. */
  readonly gdb?: boolean;
  /** Its log was cut off: perhaps so early that QEMU is at its end before its monitor answers. */
  readonly cutOff?: boolean;
}

/** A VM that is being replayed. */
export class ReplayedQemu extends QemuVm implements ReplayedVm {
  readonly #log: LogWriter;
  #waker: Waker | undefined;
  /** Stopped at a break. Woken then, QEMU would go on in its log and lose the timer it waits for. */
  #standing = false;
  #stops = 0;
  #stopsTaken = 0;
  #wakeStopped: () => void = () => {};

  /**
   * Makes the FIFO, so that the start of the log can be written before QEMU reads it.
   */
  constructor(
    run: VmRun,
    private readonly readiness: Readiness,
    private readonly options: ReplayedQemuOptions = {},
  ) {
    super(run);
    this.#log = new LogWriter(this.paths.log);
    readiness.addLog(this.number, this.#log.fd);
  }

  override commandLine(): string[] {
    const { log, capture, waker } = this.paths;
    const { snapshot, gdb } = this.options;
    const mode: RunMode = {
      kind: "replay",
      rrLog: log,
      capture,
      waker,
      ...(snapshot && { snapshot: { file: snapshot, tag: SNAPSHOT_TAG } }),
      ...(gdb && { gdb: this.paths.gdb }),
    };
    return buildCommandLine(this.run.hardware, mode, this.paths, { qemu: this.run.qemu });
  }

  override async start(): Promise<void> {
    try {
      await super.start();
    } catch (error) {
      if (!this.options.cutOff || !(error instanceof HostError) || error.code !== 0) throw error;
      this.endedEarly();
      return;
    }
    this.readiness.addCapture(this.capture!.fd);
    this.#waker = new Waker(this.paths.waker);
    this.process.qmp.on("RESUME", () => this.#standing = false);
    this.process.qmp.on("STOP", () => {
      this.#standing = true;
      this.#stops++;
      this.#wakeStopped();
    });
  }

  writeLog(bytes: Uint8Array): number | "again" | "closed" {
    return this.#log.write(bytes);
  }

  unreadLog(): number {
    return this.#log.unread();
  }

  awaitsLog(): boolean {
    return isBlockedReading(this.process.pid, this.paths.log);
  }

  cpuMs(): number {
    return cpuTimeMs(this.process.pid) ?? 0;
  }

  nudge(): void {
    if (!this.#standing) this.#waker?.wake();
  }

  async breakAt(icount: number): Promise<void> {
    this.#stopsTaken = this.#stops; // those before, also by a debugger, are over
    await this.unlessEnded(() => replayBreak(this.process.qmp, instructionCount(icount)));
  }

  async stopped(): Promise<boolean> {
    const ended = this.ended.then(() => false);
    while (this.#stopsTaken === this.#stops) {
      const stop = new Promise<boolean>((resolve) => this.#wakeStopped = () => resolve(true));
      if (!await Promise.race([stop, ended])) return false;
    }
    this.#stopsTaken++;
    return true;
  }

  /**
   * Saves the VM's state, which must stand inside a run of instructions; false where that cannot be done here.
   * @param file what to make
   * @param overlays where the copies of its disks go
   */
  async save(file: string, overlays: readonly string[]): Promise<boolean> {
    const copies = this.run.overlays.map((from, i) => ({ from, to: overlays[i]! }));
    return await saveSnapshot(this.process.qmp, file, copies);
  }

  /** The Unix socket of its gdbstub, if it has one. */
  get gdbPath(): string {
    return this.paths.gdb;
  }

  async icount(): Promise<number> {
    return Number((await queryReplay(this.process.qmp)).icount);
  }

  override async close(): Promise<void> {
    await this.kill();
    if (this.capture !== undefined) this.readiness.removeCapture(this.capture.fd);
    this.readiness.removeLog(this.number);
    this.#log.close();
    this.#waker?.close();
    await super.close();
  }
}
