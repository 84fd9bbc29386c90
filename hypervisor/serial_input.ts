/**
 * Text typed into a VM's serial console while it is recorded. QEMU's `-serial pipe:BASE` opens the
 * FIFOs BASE.in and BASE.out; what the guest prints goes on to the console file. In a replay the
 * input comes out of the rr log, and QEMU writes the console file itself.
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

/** Both ends of a VM's serial console. */
export class SerialInput {
  readonly #input: Fd;
  readonly #output: Fd;
  readonly #console: Deno.FsFile;
  readonly #buffer = new Uint8Array(64 << 10);
  #rest: Uint8Array<ArrayBuffer>;

  /** Makes the FIFO pair at `base`, before QEMU is started with it. */
  constructor(base: string, console: string, text: string) {
    makeFifo(`${base}.in`);
    makeFifo(`${base}.out`);
    this.#input = openFd(`${base}.in`, O_RDWR | O_NONBLOCK);
    this.#output = openFd(`${base}.out`, O_RDWR | O_NONBLOCK);
    this.#console = Deno.openSync(console, { write: true, create: true, truncate: true });
    this.#rest = new TextEncoder().encode(text);
  }

  /** Types what fits and takes what the guest printed. */
  move(): void {
    if (this.#rest.length > 0) {
      const n = writeFd(this.#input, this.#rest);
      if (typeof n === "number") this.#rest = this.#rest.subarray(n);
    }
    while (true) {
      const n = readFd(this.#output, this.#buffer);
      if (typeof n !== "number") return;
      for (let part = this.#buffer.subarray(0, n); part.length > 0;) {
        part = part.subarray(this.#console.writeSync(part));
      }
    }
  }

  close(): void {
    this.move();
    closeFd(this.#input);
    closeFd(this.#output);
    this.#console.close();
  }
}
