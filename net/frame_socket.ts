/**
 * Puts frames onto a device by hand: on a tap, they go into the queue of the VM behind it, in order,
 * as if the bridge had sent them. Such a frame bears no recorder's mark: it counts as external.
 */
import { HostError } from "../lib/errors.ts";
import { closeFd, errno, inNetns, libc, O_CLOEXEC, writeFd } from "../host/libc.ts";
import { ifindexOf } from "./tap.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCKADDR_LL_BYTES = 20; // include/uapi/linux/if_packet.h
const SOCKADDR_LL_IFINDEX = 4;

/**
 * Sends `frames` out of `device` in the namespace `netnsPath`.
 * @throws {HostError} with errno, also where the device does not take a frame
 */
export function sendFrames(
  netnsPath: string,
  device: string,
  frames: Iterable<Uint8Array>,
): void {
  const ifindex = ifindexOf(netnsPath, device);
  inNetns(netnsPath, () => {
    // Protocol 0: the socket receives nothing.
    const fd = libc().socket(AF_PACKET, SOCK_RAW | O_CLOEXEC, 0);
    if (fd < 0) throw new HostError("socket AF_PACKET", errno(), "");
    try {
      const address = new Uint8Array(SOCKADDR_LL_BYTES);
      const view = new DataView(address.buffer);
      view.setUint16(0, AF_PACKET, true);
      view.setInt32(SOCKADDR_LL_IFINDEX, ifindex, true);
      if (libc().bind(fd, address, address.length) < 0) {
        throw new HostError(`bind to ${device}`, errno(), "");
      }
      for (const frame of frames) {
        const written = writeFd(fd, new Uint8Array(frame));
        if (written !== frame.length) {
          throw new HostError(`sending a frame to ${device}`, errno(), `${written}`);
        }
      }
    } finally {
      closeFd(fd);
    }
  });
}
