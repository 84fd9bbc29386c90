/**
 * The FIFOs through which QEMU writes its rr log while recording and reads it in a replay.
 * Descriptors are non-blocking: a pending FIFO operation would hold one of Deno's blocking threads.
 */
import {
  closeFd,
  type Fd,
  makeFifo,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  openFd,
  readFd,
  setPipeSize,
  unreadBytes,
  writeFd,
} from "../host/libc.ts";

/** Large enough that QEMU does not wait for a turn of the pump; the kernel may give less. */
const PIPE_BYTES = 1 << 20;

/** The rr log of a VM that is being recorded. */
export class LogReader {
  readonly #fd: Fd;
  readonly #buffer = new Uint8Array(PIPE_BYTES);
  #open = true;
  #begun = false;

  /** Makes the FIFO at `path`, before QEMU is started with it. */
  constructor(path: string) {
    makeFifo(path);
    this.#fd = openFd(path, O_RDONLY | O_NONBLOCK);
    setPipeSize(this.#fd, PIPE_BYTES);
  }

  /**
   * What waits, up to 1 MiB, valid until the next call.
   * @param writerGone whether QEMU has ended: before its first byte, an empty FIFO is no end
   */
  read(writerGone: boolean): Uint8Array | "again" | "closed" {
    if (!this.#open) return "closed";
    let filled = 0;
    while (filled < this.#buffer.length) {
      const n = readFd(this.#fd, this.#buffer.subarray(filled));
      if (n === "again") break;
      if (n === "closed") {
        if (filled > 0) break; // said again by the next call
        if (!this.#begun && !writerGone) return "again";
        this.close();
        return "closed";
      }
      this.#begun = true;
      filled += n;
    }
    return filled === 0 ? "again" : this.#buffer.subarray(0, filled);
  }

  /** Bytes that wait. */
  unread(): number {
    return this.#open ? unreadBytes(this.#fd) : 0;
  }

  close(): void {
    if (this.#open) closeFd(this.#fd);
    this.#open = false;
  }
}

/** The rr log of a VM that is being replayed. */
export class LogWriter {
  /** Open for reading too, so that opening does not wait for QEMU. */
  readonly fd: Fd;
  #open = true;

  /** Makes the FIFO at `path`, before QEMU is started with it. */
  constructor(path: string) {
    makeFifo(path);
    this.fd = openFd(path, O_RDWR | O_NONBLOCK);
  }

  write(bytes: Uint8Array): number | "again" | "closed" {
    if (!this.#open) return "closed";
    return writeFd(this.fd, bytes as Uint8Array<ArrayBuffer>);
  }

  /** Bytes that QEMU has not taken. */
  unread(): number {
    return this.#open ? unreadBytes(this.fd) : 0;
  }

  close(): void {
    if (this.#open) closeFd(this.fd);
    this.#open = false;
  }
}
