/** Opens a queue of an existing tap: frames as whole reads and writes on a file descriptor. */
import { HostError } from "../lib/errors.ts";
import {
  closeFd,
  ENXIO,
  errno,
  type Fd,
  inNetns,
  libc,
  O_NONBLOCK,
  O_RDWR,
  openFd,
} from "../host/libc.ts";

const TUNSETIFF = 0x400454can; // _IOW('T', 202, int), include/uapi/linux/if_tun.h
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFREQ_BYTES = 40;
const IFREQ_FLAGS = 16;
const EBUSY = 16;

const ADVICE: Record<number, string> = {
  [EBUSY]: "A VM has this tap open already: arm the recorder before QEMU starts.",
  [ENXIO]: "The tap does not exist: has the run's network been removed?",
};

/**
 * Opens tap `name` in the namespace `netnsPath`, non-blocking, with plain Ethernet frames (no virtio
 * header), and gives its carrier to the bridge as long as it is open.
 * @throws {HostError} with errno; 16 where it is open already
 */
export function openTap(netnsPath: string, name: string): Fd {
  return inNetns(netnsPath, () => {
    // A name that does not exist would make a new device that ends with the descriptor.
    if (ifindexHere(name) === 0) {
      throw new HostError(`opening tap ${name}`, ENXIO, "", ADVICE[ENXIO]);
    }
    const fd = openFd("/dev/net/tun", O_RDWR | O_NONBLOCK);
    const request = new Uint8Array(IFREQ_BYTES); // struct ifreq
    request.set(new TextEncoder().encode(name));
    new DataView(request.buffer).setUint16(IFREQ_FLAGS, IFF_TAP | IFF_NO_PI, true);
    if (libc().ioctl(fd, TUNSETIFF, request) < 0) {
      const code = errno();
      closeFd(fd);
      throw new HostError(`opening tap ${name}`, code, "", ADVICE[code]);
    }
    return fd;
  });
}

function ifindexHere(name: string): number {
  return libc().if_nametoindex(new TextEncoder().encode(name + "\0"));
}

/** The index of device `name` in the namespace `netnsPath`. @throws {HostError} where there is none */
export function ifindexOf(netnsPath: string, name: string): number {
  const index = inNetns(netnsPath, () => ifindexHere(name));
  if (index === 0) throw new HostError(`looking up device ${name}`, ENXIO, "", ADVICE[ENXIO]);
  return index;
}
