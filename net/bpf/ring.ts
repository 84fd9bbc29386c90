/**
 * Reads a BPF ring buffer through mapped memory: what the programs submitted comes in, one call a
 * record goes out, in the order in which the programs reserved.
 *
 * ```
 * consumer page (ours to write) │ producer page │ data … │ data again (so a record never wraps)
 *                                                 ├ u32 length | flags, u32, record, padding to 8 ┤
 * ```
 * Positions count bytes since the start and never wrap. Layout and flags: the kernel's
 * `kernel/bpf/ringbuf.c` and `BPF_RINGBUF_*` in `include/uapi/linux/bpf.h`.
 */
import type { Fd } from "../../host/libc.ts";
import { mapMemory, type Mapping, PAGE_BYTES } from "./bpf_syscall.ts";

const RECORD_HEADER_BYTES = 8;
const BUSY = 0x8000_0000; // reserved, not yet submitted
const DISCARDED = 0x4000_0000;
const LENGTH_MASK = 0x3fff_ffff;

/** The memory of a ring. `data` holds the ring's bytes twice, one copy behind the other. */
export interface RingMemory {
  readonly consumer: BigInt64Array;
  readonly producer: BigInt64Array;
  readonly data: DataView<ArrayBuffer>;
  /** Bytes in the ring, a power of two. */
  readonly bytes: number;
}

/** Takes records out of a ring. One reader a ring. */
export class RingReader {
  readonly #memory: RingMemory;
  readonly #headers: Int32Array;
  #position: bigint;
  #isBusy = false;

  constructor(memory: RingMemory) {
    this.#memory = memory;
    this.#headers = new Int32Array(memory.data.buffer, memory.data.byteOffset);
    this.#position = Atomics.load(memory.consumer, 0);
  }

  /** Whether the last call of {@link drain} ended at a record that a program was still writing. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  /**
   * Hands over the records that are there at the time of the call and returns how many. A record that
   * a program is still writing ends the call; it and those behind it come with the next one. When
   * `record` throws, the records up to that one are taken out.
   */
  drain(record: (data: DataView<ArrayBuffer>, offset: number, length: number) => void): number {
    const { consumer, producer, data, bytes } = this.#memory;
    const available = Number(Atomics.load(producer, 0) - this.#position);
    const start = Number(this.#position & BigInt(bytes - 1));
    let used = 0;
    let records = 0;
    this.#isBusy = false;
    try {
      while (used < available) {
        const at = (start + used) & (bytes - 1);
        const header = Atomics.load(this.#headers, at >> 2) >>> 0;
        if ((header & BUSY) !== 0) {
          this.#isBusy = true;
          break;
        }
        const length = header & LENGTH_MASK;
        used += (RECORD_HEADER_BYTES + length + 7) & ~7;
        if ((header & DISCARDED) !== 0) continue;
        records++;
        record(data, at + RECORD_HEADER_BYTES, length);
      }
    } finally {
      this.#position += BigInt(used);
      Atomics.store(consumer, 0, this.#position);
    }
    return records;
  }
}

/** Maps the ring buffer map `fd` of `bytes` bytes. @throws {HostError} */
export function mapRing(fd: Fd, bytes: number): { memory: RingMemory; unmap(): void } {
  const consumer = mapMemory(fd, PAGE_BYTES, 0, true);
  let rest: Mapping;
  try {
    rest = mapMemory(fd, PAGE_BYTES + 2 * bytes, PAGE_BYTES, false);
  } catch (error) {
    consumer.unmap();
    throw error;
  }
  return {
    memory: {
      consumer: new BigInt64Array(consumer.buffer, 0, 1),
      producer: new BigInt64Array(rest.buffer, 0, 1),
      data: new DataView(rest.buffer, PAGE_BYTES),
      bytes,
    },
    unmap: () => {
      consumer.unmap();
      rest.unmap();
    },
  };
}
