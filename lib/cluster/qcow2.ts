/** How a qcow2 image is told from others, QEMU's `docs/interop/qcow2.txt`. */

/** `QFI\xfb`, big-endian. */
const MAGIC = 0x514649fb;

/** How many of a file's first bytes say it. */
export const QCOW2_MAGIC_BYTES = 4;

/** Whether a file that begins with `head` says that it is a qcow2 image. */
export function isQcow2(head: DataView): boolean {
  return head.byteLength >= QCOW2_MAGIC_BYTES && head.getUint32(0) === MAGIC;
}
