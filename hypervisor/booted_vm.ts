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
 * tap behind the last real frame, where there is room for it.
 */
import { closeFd, type Fd, readFd } from "../host/libc.ts";
import { equalBytes } from "../lib/bytes/equal_bytes.ts";
import { BOOT_TAG, buildCommandLine } from "./qemu/command_line.ts";
import { QemuVm, type VmRun } from "./qemu_vm.ts";
import { queryStatus, saveVm } from "./qmp/commands.ts";

/** The largest frame a tap hands out. */
const FRAME_BYTES_MAX = 1 << 17;
/** Turns of QEMU's main loop after which a waiting frame has been taken. */
const TURNS = 4;

/** One VM from its start to its saved state. */
export class BootedVm extends QemuVm {
  readonly #tap: Fd;
  /** The frame that QEMU took last. */
  #last: Uint8Array | undefined;
  #closed = false;

  /**
   * @param run `overlays` and `state` are the files of the snapshot
   * @param tap an inheritable descriptor of the VM's tap, which this object closes
   * @param serialInput text that is typed into the serial console
   */
  constructor(run: VmRun & { readonly state: string }, tap: Fd, serialInput?: string) {
    super(run, serialInput);
    this.#tap = tap;
  }

  /** `state` is the file that it saves to. */
  protected override loadsState(): boolean {
    return false;
  }

  protected override commandLine(): string[] {
    const { hardware, qemu } = this.run;
    const mode = { kind: "boot", tapFd: this.#tap, received: this.paths.capture } as const;
    return buildCommandLine(hardware, mode, this.paths, { qemu });
  }

  protected override roomAdvice(directory: string): string {
    return `What it writes is in ${directory}: make room there.`;
  }

  /** Moves what QEMU hands out; to be called every few milliseconds, or QEMU waits. */
  move(): void {
    this.serial?.move();
    this.readSent((frame) => this.#last = frame);
  }

  /** Saves the paused VM's state; false where it has to run on for a moment first. */
  async save(): Promise<boolean> {
    const timeoutMs = 60_000 + this.run.hardware.memoryMiB * 100;
    return await saveVm(this.qmp, BOOT_TAG, timeoutMs);
  }

  /**
   * Ends the paused VM and returns the frames that were on their way to it, in order.
   * @param marker the frame that was put into its tap last; what is behind it came later
   * @param queueFrames how many frames a tap's queue takes: where it was full, it had no room for the marker
   */
  async endInFlight(marker: Uint8Array, queueFrames: number): Promise<Uint8Array[]> {
    for (let turn = 0; turn < TURNS; turn++) await queryStatus(this.qmp);
    this.move();
    await this.quit();
    this.move();
    const frames: Uint8Array[] = [];
    for (let frame = this.#last; frame !== undefined; frame = this.#readTap()) {
      if (equalBytes(frame, marker)) return frames;
      frames.push(frame);
    }
    if (frames.length >= queueFrames) return frames;
    throw new Error(`VM ${this.name}: the marker is not among the frames in flight`);
  }

  #readTap(): Uint8Array | undefined {
    const buffer = new Uint8Array(FRAME_BYTES_MAX);
    const n = readFd(this.#tap, buffer);
    return typeof n === "number" ? buffer.slice(0, n) : undefined;
  }

  override async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await super.close();
    } finally {
      closeFd(this.#tap);
    }
  }
}
