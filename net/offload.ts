/** Turns the checksum offload of a device off, as `ethtool -K DEVICE tx off` does, by ioctl. */
import { HostError } from "../lib/errors.ts";
import { closeFd, cString, errno, libc } from "../host/libc.ts";

const SIOCETHTOOL = 0x8946n; // include/uapi/linux/sockios.h
const ETHTOOL_STXCSUM = 0x17; // include/uapi/linux/ethtool.h
const AF_INET = 2;
const SOCK_DGRAM = 2;
const IFREQ_BYTES = 40;
const IFREQ_DATA = 16;

/**
 * From now on what leaves `device`, a device of this process's namespace, has its checksums in place.
 * @throws {HostError} with errno
 */
export function disableChecksumOffload(device: string): void {
  const value = new Uint8Array(new Uint32Array([ETHTOOL_STXCSUM, 0]).buffer); // struct ethtool_value
  const request = new Uint8Array(IFREQ_BYTES); // struct ifreq
  request.set(cString(device));
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(value));
  new DataView(request.buffer).setBigUint64(IFREQ_DATA, BigInt(address), true);
  const fd = libc().socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0) throw new HostError("socket", errno(), "");
  try {
    if (libc().ioctl(fd, SIOCETHTOOL, request) < 0) {
      throw new HostError(`turning off the checksum offload of ${device}`, errno(), "");
    }
  } finally {
    closeFd(fd);
    value.fill(0); // it had to live until here
  }
}
