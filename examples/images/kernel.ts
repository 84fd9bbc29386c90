/**
 * The kernel out of its compressed image: QEMU starts an ELF `vmlinux` through the PVH entry, without
 * the guest decompressing it. That takes 100 of the 640 million instructions of a boot away, and as
 * much of every recording and replay.
 *
 * The layout is that of the x86 boot protocol (Linux, Documentation/arch/x86/boot.rst): the place of
 * the payload is in the setup header.
 */
import { run } from "../../host/command.ts";
import { ClusterrrError } from "../../lib/errors.ts";

const SETUP_SECTS = 0x1f1;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR_BYTES = 512;
/** Behind the payload stands its size before compression. */
const SIZE_BYTES = 4;
/** How the payload starts, and what unpacks it from standard input. */
const FORMATS: readonly { readonly magic: string; readonly argv: readonly string[] }[] = [
  { magic: "02214c18", argv: ["lz4", "-d", "-q", "-f"] },
  { magic: "28b52ffd", argv: ["zstd", "-d", "-q", "-f"] },
];

/**
 * Writes the ELF kernel inside the bzImage `source` to `target`.
 * @throws {ClusterrrError} where it is none, or is compressed in another way
 */
export async function unpackKernel(source: string, target: string): Promise<void> {
  const image = await Deno.readFile(source);
  const view = new DataView(image.buffer);
  const setup = (view.getUint8(SETUP_SECTS) + 1) * SECTOR_BYTES;
  const start = setup + view.getUint32(PAYLOAD_OFFSET, true);
  const payload = image.subarray(start, start + view.getUint32(PAYLOAD_LENGTH, true) - SIZE_BYTES);
  const magic = payload.subarray(0, 4).toHex();
  const format = FORMATS.find((each) => each.magic === magic);
  if (format === undefined) {
    throw new ClusterrrError(
      `${source}: the kernel's payload begins with ${magic}: not LZ4 or zstd`,
    );
  }
  const packed = `${target}.packed`;
  await Deno.writeFile(packed, payload);
  try {
    await run([...format.argv, packed, target], { advice: `apt-get install ${format.argv[0]}` });
  } finally {
    await Deno.remove(packed);
  }
}
