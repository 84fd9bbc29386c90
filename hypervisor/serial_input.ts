/**
 * Text typed into a VM's serial console while it is recorded. QEMU's `-serial pipe:BASE` opens the
 * FIFOs BASE.in and BASE.out; what the guest prints goes on to the console file. In a replay the
 * input comes out of the rr log, and QEMU writes the console file itself.
 *
 * Typing begins with the guest's first output: what comes before, the serial driver throws away when
 * it sets the port up. The default guest arguments keep the kernel quiet, so that is init's.
 */
import {
  closeFd,
  type Fd,
  makeFifo,
  O_NONBLOCK,
  O_RDWR,
  openFd,
  readFd,
  writeFd,
} from "../host/libc.ts";
import { diskError } from "../lib/recording/disk_error.ts";

/** Both ends of a VM's serial console. */
export class SerialInput {
  readonly #input: Fd;
  readonly #output: Fd;
  readonly #console: Deno.FsFile;
  readonly #buffer = new Uint8Array(64 << 10);
  #rest: Uint8Array<ArrayBuffer>;
  #begun = false;
  #failed = false;

  /**
   * Makes the FIFO pair at `base`, before QEMU is started with it.
   * @param path the console file
   * @param text what is typed
   */
  constructor(base: string, private readonly path: string, text: string) {
    makeFifo(`${base}.in`);
    makeFifo(`${base}.out`);
    this.#input = openFd(`${base}.in`, O_RDWR | O_NONBLOCK);
    this.#output = openFd(`${base}.out`, O_RDWR | O_NONBLOCK);
    this.#console = Deno.openSync(path, { write: true, create: true, truncate: true });
    this.#rest = new TextEncoder().encode(text);
  }

  /** Takes what the guest printed and types what fits. @throws {HostError} where the console cannot be written */
  move(): void {
    this.#takeOutput();
    if (!this.#begun || this.#rest.length === 0) return;
    // One character a turn, as a person types: of more, QEMU 7.2's UART holds back what is behind its
    // FIFO until something else arrives.
    const n = writeFd(this.#input, this.#rest.subarray(0, 1));
    if (typeof n === "number") this.#rest = this.#rest.subarray(n);
  }

  #takeOutput(): void {
    while (true) {
      const n = readFd(this.#output, this.#buffer);
      if (typeof n !== "number") return;
      this.#begun = true;
      try {
        for (let part = this.#buffer.subarray(0, n); part.length > 0;) {
          part = part.subarray(this.#console.writeSync(part));
        }
      } catch (cause) {
        this.#failed = true;
        throw diskError("write to", this.path, cause);
      }
    }
  }

  close(): void {
    try {
      if (!this.#failed) this.#takeOutput(); // an error is told once
    } finally {
      closeFd(this.#input);
      closeFd(this.#output);
      this.#console.close();
    }
  }
}
