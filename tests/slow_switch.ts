/**
 * A switch that takes its time: what comes in at one port goes out at all others, each frame after a random
 * time of its own. So frames overtake each other, as the queueing disciplines of some kernels cannot do.
 */
import {
  closeFd,
  errno,
  type Fd,
  inNetns,
  libc,
  O_CLOEXEC,
  O_NONBLOCK,
  readFd,
  writeFd,
} from "../host/libc.ts";
import { HostError } from "../lib/errors.ts";
import { ifindexOf } from "../net/tap.ts";
import { Random } from "./simulation/random.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const ETH_P_ALL_BE = 0x0300; // 3, big-endian
const FRAME_BYTES_MAX = 65_536;

interface Delayed {
  readonly dueMs: number;
  readonly to: Fd;
  readonly frame: Uint8Array<ArrayBuffer>;
}

export class SlowSwitch {
  /** Frames that went out. */
  frames = 0;
  /** Those that had come in after one that went out later. */
  overtaken = 0;
  readonly #sockets: Fd[];
  readonly #random: Random;
  readonly #waiting: (Delayed & { readonly number: number })[] = [];
  readonly #buffer = new Uint8Array(FRAME_BYTES_MAX);
  readonly #timer: ReturnType<typeof setInterval>;
  #numbers = 0;
  #highest = 0;

  /** @param ports devices in the namespace `netnsPath`; the kernel must not join them too */
  constructor(
    netnsPath: string,
    ports: readonly string[],
    private readonly delayMsMax: number,
    seed: number,
  ) {
    this.#random = new Random(seed);
    this.#sockets = ports.map((port) => openPort(netnsPath, port));
    this.#timer = setInterval(() => this.#turn(), 1);
  }

  close(): void {
    clearInterval(this.#timer);
    for (const fd of this.#sockets.splice(0)) closeFd(fd);
  }

  #turn(): void {
    const now = performance.now();
    for (const from of this.#sockets) {
      for (
        let n = readFd(from, this.#buffer);
        typeof n === "number";
        n = readFd(from, this.#buffer)
      ) {
        const frame = this.#buffer.slice(0, n);
        const dueMs = now + this.#random.below(this.delayMsMax * 1000 + 1) / 1000;
        const number = this.#numbers++;
        for (const to of this.#sockets) {
          if (to !== from) this.#waiting.push({ dueMs, to, frame, number });
        }
      }
    }
    this.#waiting.sort((a, b) => a.dueMs - b.dueMs);
    let due = 0;
    while (due < this.#waiting.length && this.#waiting[due]!.dueMs <= now) due++;
    for (const { to, frame, number } of this.#waiting.splice(0, due)) {
      if (number < this.#highest) this.overtaken++;
      this.#highest = Math.max(this.#highest, number);
      this.frames++;
      writeFd(to, frame); // a port that is full loses it
    }
  }
}

function openPort(netnsPath: string, port: string): Fd {
  const ifindex = ifindexOf(netnsPath, port);
  return inNetns(netnsPath, () => {
    const fd = libc().socket(AF_PACKET, SOCK_RAW | O_CLOEXEC | O_NONBLOCK, ETH_P_ALL_BE);
    if (fd < 0) throw new HostError("socket AF_PACKET", errno(), "");
    const address = new Uint8Array(20); // struct sockaddr_ll
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setUint16(2, ETH_P_ALL_BE, true);
    view.setInt32(4, ifindex, true);
    if (libc().bind(fd, address, address.length) < 0) {
      closeFd(fd);
      throw new HostError(`bind to ${port}`, errno(), "");
    }
    return fd;
  });
}
