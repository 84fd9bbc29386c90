/** A run's own disk: guests write into a qcow2 overlay, never into the user's image. */
import { run } from "../../host/command.ts";

export type ImageFormat = "qcow2" | "raw";

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
  await run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", format, overlay], {
    advice: `Check the disk image ${image} and its format, and that the disk has space.\n` +
      "qemu-img comes with: apt-get install qemu-utils",
  });
}
