/**
 * A VM that boots for a snapshot: it runs, is paused, its state saved. Nothing of the run is recorded.
 *
 * ```
 * tap queue ──▶ QEMU ──(filter-mirror)──▶ Capture: the last frame that it took
 *     └── the descriptor is ours as well: what QEMU has not taken is still there after its end
 * ```
 * A paused QEMU takes exactly one more frame from its tap, holds it back and then stops reading
 * (QEMU net/tap.c `tap_send`, net/queue.c). So the frames in flight are the last one it took and those
 * that are left in the queue. For that to hold there has to be one to take: a marker, put into every
 * tap behind the last real frame.
 */
import { dirname } from "node:path";
import { closeFd, type Fd, readFd } from "../host/libc.ts";
import { ClusterrrError } from "../lib/errors.ts";
import type { VmEnd } from "../lib/roles/ports.ts";
import type { VmNumber } from "../lib/units.ts";
import { Capture } from "./capture.ts";
import { buildCommandLine, SNAPSHOT_TAG } from "./qemu/command_line.ts";
import { QemuProcess } from "./qemu/process.ts";
import { queryReplay, queryStatus, saveSnapshot } from "./qmp/commands.ts";
import { SerialInput } from "./serial_input.ts";
import type { VmRun } from "./vm.ts";

/** The largest frame a tap hands out. */
const FRAME_BYTES_MAX = 1 << 17;
const END_GRACE_MS = 5_000;
/** Turns of QEMU's main loop after which a waiting frame has been taken. */
const TURNS = 4;

const captureBuffer = new Uint8Array(1 << 20);

/** One VM from its start to its saved state. */
export class BootedVm {
  readonly #run: VmRun & { readonly state: string };
  readonly #tap: Fd;
  readonly #serial: SerialInput | undefined;
  #process: QemuProcess | undefined;
  #capture: Capture | undefined;
  /** The frame that QEMU took last. */
  #last: Uint8Array | undefined;
  #end: VmEnd | undefined;
  /** Why we ended it. */
  #failure: ClusterrrError | undefined;
  #closed = false;

  /**
   * @param run `overlays` and `state` are the files of the snapshot
   * @param tap an inheritable descriptor of the VM's tap, which this object closes
   * @param serialInput text that is typed into the serial console
   */
  constructor(run: VmRun & { readonly state: string }, tap: Fd, serialInput?: string) {
    this.#run = run;
    this.#tap = tap;
    if (serialInput !== undefined) {
      this.#serial = new SerialInput(this.#file("tty"), run.console, serialInput);
    }
  }

  get number(): VmNumber {
    return this.#run.hardware.number;
  }

  get name(): string {
    return this.#run.hardware.name;
  }

  /** How its process has ended, if it has. */
  get ended(): VmEnd | undefined {
    return this.#end;
  }

  #file(kind: string): string {
    return `${this.#run.directory}/${this.number}.${kind}`;
  }

  get #qemu(): QemuProcess {
    if (this.#process === undefined) throw new Error(`VM ${this.name} has not been started`);
    return this.#process;
  }

  /** Starts QEMU, paused; on failure no process is left. */
  async start(): Promise<void> {
    const { hardware, qemu, console, overlays, state, enter, signal } = this.#run;
    const received = this.#file("rcv");
    const argv = buildCommandLine(hardware, { kind: "boot", tapFd: this.#tap, received }, {
      qmp: this.#file("qmp"),
      console,
      overlays,
      state,
      serialInput: this.#file("tty"),
    }, { qemu });
    const process = await QemuProcess.start({
      name: this.name,
      argv,
      enter,
      qmpPath: this.#file("qmp"),
      logPath: this.#file("log"),
      signal,
    });
    this.#process = process;
    process.exited.then(({ code, signal }) => {
      this.#end = {
        code: signal === null ? code : null,
        signal,
        stderr: process.lastOutput,
        ...(this.#failure && { failure: this.#failure }),
      };
    });
    process.qmp.on("BLOCK_IO_ERROR", ({ data }) => this.#diskFailed(data));
    this.#run.started(process.pid);
    this.#capture = new Capture(received, captureBuffer);
  }

  /** QEMU stops a VM whose disk has no room for what it writes. */
  #diskFailed({ action, reason }: Readonly<Record<string, unknown>>): void {
    if (action !== "stop" || this.#failure !== undefined) return;
    this.#failure = new ClusterrrError(
      `VM ${this.name} cannot write to its disk: ${reason}\n` +
        `What it writes is in ${dirname(this.#run.overlays[0]!)}: make room there.`,
    );
    this.#qemu.end(0).catch(() => {}); // as it ends, its failure is heard of
  }

  async resume(): Promise<void> {
    await this.#qemu.cont();
  }

  async pause(): Promise<void> {
    await this.#qemu.stop();
  }

  /** Moves what QEMU hands out; to be called every few milliseconds, or QEMU waits. */
  move(): void {
    this.#serial?.move();
    this.#capture?.read((frame) => this.#last = frame);
  }

  /** Saves the paused VM's state; false where it has to run on for a moment first. */
  async save(): Promise<boolean> {
    const timeoutMs = 60_000 + this.#run.hardware.memoryMiB * 100;
    return await saveSnapshot(this.#qemu.qmp, SNAPSHOT_TAG, timeoutMs);
  }

  /** The paused VM's instruction count. */
  async icount(): Promise<number> {
    return Number((await queryReplay(this.#qemu.qmp)).icount);
  }

  /**
   * Ends the paused VM and returns the frames that were on their way to it, in order.
   * @param marker the frame that was put into its tap last; what is behind it came later
   */
  async endInFlight(marker: Uint8Array): Promise<Uint8Array[]> {
    for (let turn = 0; turn < TURNS; turn++) await queryStatus(this.#qemu.qmp);
    this.move();
    await this.#qemu.end(END_GRACE_MS);
    this.move();
    const frames: Uint8Array[] = [];
    for (let frame = this.#last; frame !== undefined; frame = this.#readTap()) {
      if (equalBytes(frame, marker)) return frames;
      frames.push(frame);
    }
    throw new Error(`VM ${this.name}: the marker is not among the frames in flight`);
  }

  #readTap(): Uint8Array | undefined {
    const buffer = new Uint8Array(FRAME_BYTES_MAX);
    const n = readFd(this.#tap, buffer);
    return typeof n === "number" ? buffer.slice(0, n) : undefined;
  }

  /** Ends the process if it still runs and closes what is open. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#process?.end(0);
    this.#capture?.close();
    this.#serial?.close();
    closeFd(this.#tap);
  }
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
