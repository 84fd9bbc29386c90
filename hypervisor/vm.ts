/**
 * A VM under QEMU as the roles see it: process, monitor, log FIFO and capture in one object.
 *
 * record   QEMU ──rr log──▶ LogReader      QEMU ──sent frames──▶ Capture
 * replay   LogWriter ──rr log──▶ QEMU      QEMU ──sent frames──▶ Capture
 */
import { CpuSharing } from "../host/cpu_sharing.ts";
import { cpuTimeMs, isBlockedReading } from "../host/libc.ts";
import { HostError } from "../lib/errors.ts";
import { RAM_ALGORITHM } from "../lib/recording/ram_digest.ts";
import type { MachineState, RecordedVm, ReplayedVm, VmPort } from "../lib/roles/ports.ts";
import { LogReader, LogWriter } from "./log_fifo.ts";
import { buildCommandLine, type RunMode } from "./qemu/command_line.ts";
import { ramRanges } from "./qemu/memory_map.ts";
import { digestRam } from "./qemu/ram_digest.ts";
import { saveSnapshot } from "./qemu/snapshot.ts";
import { QemuVm, type VmRun } from "./qemu_vm.ts";
import { isDisconnect } from "./qmp/client.ts";
import { diskAtWork, interruptWaits, registers, replayBreak } from "./qmp/commands.ts";
import type { Readiness } from "./readiness.ts";
import { Waker } from "./waker.ts";

const cpuSharing = new CpuSharing();

/** What recording and replay share: a VM that may power itself off at any moment. */
abstract class PortedVm extends QemuVm implements VmPort {
  override async start(): Promise<void> {
    await super.start();
    const { exited, pid } = this.process;
    exited.then(cpuSharing.join(pid));
  }

  protected override roomAdvice(directory: string): string {
    return `What the VMs write is in ${directory} meanwhile. Make room there, or name another directory ` +
      "with CLUSTERRR_SCRATCH.";
  }

  override async resume(): Promise<void> {
    await this.unlessEnded(() => super.resume());
  }

  override async pause(): Promise<void> {
    await this.unlessEnded(() => super.pause());
  }

  async state(algorithm = RAM_ALGORITHM): Promise<MachineState> {
    const { qmp } = this;
    const icount = await this.icount();
    const cpu = await registers(qmp);
    const ranges = ramRanges(this.run.hardware.machine, this.run.hardware.memoryMiB);
    return {
      icount,
      registers: cpu,
      // A frame may have come in while it was halted: its RAM is then not that of before.
      idle: /\bHLT=1\b/.test(cpu) && !await interruptWaits(qmp),
      ramDigest: await digestRam(this.process, ranges, this.run.directory, algorithm),
      ramBytes: ranges.reduce((sum, range) => sum + range.size, 0),
    };
  }

  /** What a VM that powered itself off meanwhile no longer answers is no error. */
  protected async unlessEnded(command: () => Promise<void>): Promise<void> {
    if (this.end !== undefined) return;
    try {
      await command();
    } catch (error) {
      if (!isDisconnect(error)) throw error;
      await this.ended;
    }
  }
}

/** A VM that is being recorded. */
export class RecordedQemu extends PortedVm implements RecordedVm {
  readonly #log: LogReader;

  /**
   * Makes the FIFOs.
   * @param serialInput text that is typed into the serial console
   */
  constructor(run: VmRun, private readonly tap: string, serialInput?: string) {
    super(run, serialInput);
    this.#log = new LogReader(this.paths.log);
  }

  protected override commandLine(): string[] {
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
    this.serial?.move();
    const chunk = this.#log.read(this.end !== undefined);
    if (chunk === "closed") this.serial?.move(); // what it printed last: what cannot be written shall be heard of
    return chunk;
  }

  unreadLog(): number {
    return this.#log.unread();
  }

  override async close(): Promise<void> {
    try {
      await super.close();
    } finally {
      this.#log.close();
    }
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
export class ReplayedQemu extends PortedVm implements ReplayedVm {
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

  protected override loadsState(): boolean {
    return this.options.snapshot !== undefined || super.loadsState();
  }

  protected override commandLine(): string[] {
    const { log, capture, waker } = this.paths;
    const { snapshot, gdb } = this.options;
    const mode: RunMode = {
      kind: "replay",
      rrLog: log,
      capture,
      waker,
      ...(snapshot && { snapshot }),
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
    await this.unlessEnded(() => replayBreak(this.process.qmp, icount));
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

  override async close(): Promise<void> {
    await this.kill();
    if (this.capture !== undefined) this.readiness.removeCapture(this.capture.fd);
    this.readiness.removeLog(this.number);
    this.#log.close();
    this.#waker?.close();
    await super.close();
  }
}
