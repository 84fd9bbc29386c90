/**
 * What tests put in the place of VMs and of the host's traffic: taps and packet sockets as plain file
 * descriptors. No QEMU is needed to send a frame from a VM or to see what reaches it.
 */
import { HostError } from "../lib/errors.ts";
import type { VmNumber } from "../lib/units.ts";
import { run } from "../host/command.ts";
import {
  closeFd,
  errno,
  type Fd,
  inNetns,
  libc,
  O_NONBLOCK,
  readFd,
  writeFd,
} from "../host/libc.ts";
import { openTap } from "./tap.ts";
import type { Network } from "./topology.ts";

/** An EtherType for experiments (IEEE 802), so that tests see their own frames only. */
const TEST_ETHERTYPE = 0x88b5;
const HEADER_BYTES = 14;
const FRAME_BYTES_MAX = 65_536;
const BROADCAST = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/** Six random characters for a run id. */
export function freshRun(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  return Array.from(bytes, (byte) => (byte % 36).toString(36)).join("");
}

/** A subnet that hardly anybody uses: 10.200–10.249, third byte random; the host's end of it. */
export function freshUplinkAddress(): string {
  const [a, b] = crypto.getRandomValues(new Uint8Array(2));
  return `10.${200 + a! % 50}.${b}.254/24`;
}

/** The guest's MAC address of VM `vm`. */
export function macOf(vm: VmNumber): number[] {
  return [0x52, 0x54, 0, 0x77, vm >> 8, vm & 0xff];
}

/** A frame of at least 60 bytes from `source` to `destination` (default: everybody). */
export function testFrame(
  source: readonly number[],
  payload: string,
  destination: readonly number[] = BROADCAST,
): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(payload);
  const frame = new Uint8Array(Math.max(60, HEADER_BYTES + text.length));
  frame.set(destination);
  frame.set(source, 6);
  frame.set([TEST_ETHERTYPE >> 8, TEST_ETHERTYPE & 0xff], 12);
  frame.set(text, HEADER_BYTES);
  return frame;
}

/** The text of a frame made by {@link testFrame}; `undefined` for other frames. */
export function payloadOf(frame: Uint8Array): string | undefined {
  if ((frame[12]! << 8 | frame[13]!) !== TEST_ETHERTYPE) return undefined;
  return new TextDecoder().decode(frame.subarray(HEADER_BYTES)).replace(/\0+$/, "");
}

/** A descriptor that carries frames. */
export class FramePort implements Disposable {
  readonly #buffer = new Uint8Array(FRAME_BYTES_MAX);
  #open = true;

  constructor(readonly fd: Fd) {}

  send(frame: Uint8Array<ArrayBuffer>): void {
    const written = writeFd(this.fd, frame);
    if (written !== frame.length) throw new Error(`frame not sent: ${written}`);
  }

  /** The next frame that is there now. */
  poll(): Uint8Array<ArrayBuffer> | undefined {
    const length = readFd(this.fd, this.#buffer);
    return typeof length === "number" ? this.#buffer.slice(0, length) : undefined;
  }

  /** The next frame, for which it waits. @throws {Error} after `timeoutMs` */
  async receive(timeoutMs = 3000): Promise<Uint8Array<ArrayBuffer>> {
    const deadline = performance.now() + timeoutMs;
    while (performance.now() < deadline) {
      const frame = this.poll();
      if (frame !== undefined) return frame;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    throw new Error(`no frame within ${timeoutMs} ms`);
  }

  /** The texts of the next `count` test frames. @throws {Error} if they do not come in time */
  async payloads(count: number, timeoutMs = 5000): Promise<string[]> {
    const texts: string[] = [];
    while (texts.length < count) {
      const text = payloadOf(await this.receive(timeoutMs));
      if (text !== undefined) texts.push(text);
    }
    return texts;
  }

  [Symbol.dispose](): void {
    if (this.#open) closeFd(this.fd);
    this.#open = false;
  }
}

/** Opens the taps of `vms`, as their QEMUs would, and waits until the bridge forwards to them. */
export async function openTaps(network: Network, vms: readonly VmNumber[]): Promise<FramePort[]> {
  const ports = vms.map((vm) => new FramePort(openTap(network.netns, network.tapOf(vm))));
  const wanted = vms.map((vm) => network.tapOf(vm));
  const deadline = performance.now() + 5000;
  while (performance.now() < deadline) {
    const links: { ifname: string; operstate: string; linkinfo?: SlaveInfo }[] = JSON.parse(
      await run([...network.enter, "ip", "-j", "-d", "link", "show"]),
    );
    const ready = links.filter((link) =>
      link.operstate === "UP" && link.linkinfo?.info_slave_data?.state === "forwarding"
    ).map((link) => link.ifname);
    if (wanted.every((tap) => ready.includes(tap))) return ports;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  ports.forEach((port) => port[Symbol.dispose]());
  throw new Error(`the bridge does not forward to ${wanted.join(", ")}`);
}

interface SlaveInfo {
  readonly info_slave_data?: { readonly state: string };
}

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SO_MARK = 36;
const SOCKADDR_LL_BYTES = 20;

const socketSymbols = {
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
} as const;

/**
 * A raw packet socket on device `name` of the namespace `netnsPath`; its frames carry `mark`, and it
 * receives those of `ethertype`.
 */
export function openPacketSocket(
  netnsPath: string,
  name: string,
  mark = 0,
  ethertype = TEST_ETHERTYPE,
): FramePort {
  const sockets = Deno.dlopen("libc.so.6", socketSymbols);
  try {
    return inNetns(netnsPath, () => {
      const ifindex = libc().if_nametoindex(new TextEncoder().encode(name + "\0"));
      const protocol = (ethertype & 0xff) << 8 | ethertype >> 8; // network byte order
      const fd = libc().socket(AF_PACKET, SOCK_RAW | O_NONBLOCK, protocol);
      const address = new Uint8Array(SOCKADDR_LL_BYTES); // struct sockaddr_ll
      const view = new DataView(address.buffer);
      view.setUint16(0, AF_PACKET, true);
      view.setUint16(2, protocol, true);
      view.setInt32(4, ifindex, true);
      const value = new Uint8Array(new Uint32Array([mark]).buffer);
      if (
        fd < 0 || sockets.symbols.bind(fd, address, address.length) < 0 ||
        sockets.symbols.setsockopt(fd, SOL_SOCKET, SO_MARK, value, 4) < 0
      ) throw new HostError(`packet socket on ${name}`, errno(), "");
      return new FramePort(fd);
    });
  } finally {
    sockets.close();
  }
}
