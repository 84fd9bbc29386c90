/**
 * The frames that a VM's NIC sends, in order, in recording and in replay alike: QEMU's `filter-mirror`
 * writes each to a Unix socket as a big-endian u32 length and the bytes.
 * Source: QEMU net/filter-mirror.c (`filter_send`, no vnet header).
 */
import { closeFd, connectUnix, type Fd, readFd } from "../host/libc.ts";
import { ProtocolError } from "../lib/errors.ts";

/** The largest frame QEMU's net layer passes (NET_BUFSIZE). */
const FRAME_BYTES_MAX = 4096 + 65536;

/** Splits the byte stream of a capture into frames, at any chunk boundary. */
export class FrameSplitter {
  #buffer = new Uint8Array(0);

  /** Takes the next bytes; every complete frame is a copy of its own. @throws {ProtocolError} */
  push(chunk: Uint8Array, take: (frame: Uint8Array) => void): number {
    let bytes = chunk;
    if (this.#buffer.length > 0) {
      bytes = new Uint8Array(this.#buffer.length + chunk.length);
      bytes.set(this.#buffer);
      bytes.set(chunk, this.#buffer.length);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let at = 0;
    let count = 0;
    while (bytes.length - at >= 4) {
      const length = view.getUint32(at);
      if (length === 0 || length > FRAME_BYTES_MAX) {
        throw new ProtocolError(`QEMU's capture filter announced a frame of ${length} bytes`);
      }
      if (bytes.length - at - 4 < length) break;
      take(bytes.slice(at + 4, at + 4 + length));
      at += 4 + length;
      count++;
    }
    this.#buffer = bytes.slice(at);
    return count;
  }
}

/** The capture of one VM. */
export class Capture {
  readonly fd: Fd;
  readonly #splitter = new FrameSplitter();
  readonly #chunk: Uint8Array<ArrayBuffer>;
  #open = true;

  /** `buffer` may be shared by captures of one thread. @throws {HostError} when nobody listens */
  constructor(path: string, buffer: Uint8Array<ArrayBuffer>) {
    this.#chunk = buffer;
    this.fd = connectUnix(path);
  }

  /** Hands over the frames that wait; returns how many. */
  read(take: (frame: Uint8Array) => void): number {
    let count = 0;
    while (this.#open) {
      const n = readFd(this.fd, this.#chunk);
      if (n === "again") break;
      if (n === "closed") this.#open = false;
      else count += this.#splitter.push(this.#chunk.subarray(0, n), take);
    }
    return count;
  }

  close(): void {
    closeFd(this.fd);
  }
}
