/** A run's own disk: guests write into a qcow2 overlay, never into the user's image. */
import { run } from "../../host/command.ts";

export type ImageFormat = "qcow2" | "raw";

/** Of a qcow2 file, by default. */
const CLUSTER_BYTES = 64 << 10;
/** More than any guest writes in a run; an overlay takes no space for what is not written. */
const ROOM_BYTES = 2 ** 40;

/**
 * Creates an empty overlay of `image`. Recording and replay each start from a fresh one: the disk's
 * content at the start is part of what a replay repeats.
 * @param image absolute: QEMU resolves a relative name against the overlay's directory
 * @throws {HostError} also where `image` is not of that format
 */
export async function createOverlay(
  image: string,
  format: ImageFormat,
  overlay: string,
): Promise<void> {
  await create(
    ["-b", image, "-F", format, overlay],
    `Check the disk image ${image} and its format`,
  );
}

/**
 * Creates an overlay of the qcow2 file `file` as a whole, with the snapshots in it (`nested` in
 * `command_line.ts`). What QEMU writes, it appends: the overlay has room for that.
 * @param file absolute
 * @throws {HostError}
 */
export async function createFileOverlay(file: string, overlay: string): Promise<void> {
  const { size } = await Deno.stat(file);
  const bytes = Math.ceil(size / CLUSTER_BYTES) * CLUSTER_BYTES + ROOM_BYTES;
  await create(["-b", file, "-F", "raw", overlay, `${bytes}`], `Check the snapshot's file ${file}`);
}

/**
 * Has an overlay name another file with the same content as what it is based on.
 * @param image absolute
 * @throws {HostError}
 */
export async function rebase(overlay: string, image: string, format: ImageFormat): Promise<void> {
  await changeBacking(["-f", "qcow2", overlay], image, format);
}

/**
 * {@link rebase} of the qcow2 file that is seen through its overlay ({@link createFileOverlay}): the
 * change goes into the overlay.
 */
export async function rebaseNested(
  overlay: string,
  image: string,
  format: ImageFormat,
): Promise<void> {
  const file = { driver: "qcow2", file: { driver: "file", filename: overlay } };
  await changeBacking([`json:${JSON.stringify({ driver: "qcow2", file })}`], image, format);
}

async function changeBacking(
  file: readonly string[],
  image: string,
  format: ImageFormat,
): Promise<void> {
  await run(["qemu-img", "rebase", "-q", "-u", "-F", format, "-b", image, ...file], {
    advice: `Check the disk image ${image}.\nqemu-img comes with: apt-get install qemu-utils`,
  });
}

/** Creates an empty file that QEMU can save a VM's state to. @throws {HostError} */
export async function createStateFile(path: string): Promise<void> {
  await create([path, "1M"], `Check the directory of ${path}`);
}

async function create(args: readonly string[], advice: string): Promise<void> {
  await run(["qemu-img", "create", "-q", "-f", "qcow2", ...args], {
    advice: `${advice}, and that the disk has space.\n` +
      "qemu-img comes with: apt-get install qemu-utils",
  });
}
