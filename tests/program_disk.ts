/** C programs for guests: built without libraries, and given to them as a disk that holds nothing else. */
import { fileURLToPath } from "node:url";
import { run } from "../host/command.ts";
import type { TestBed } from "./end_to_end_fixture.ts";

const SECTOR_BYTES = 512;

/** Builds `guests/NAME.c`; returns what goes under `disk:` in a cluster file. */
export async function programDisk(
  bed: TestBed,
  name: string,
): Promise<{ readonly image: string; readonly format: "raw" }> {
  const source = fileURLToPath(new URL(`guests/${name}.c`, import.meta.url));
  const image = bed.path(`${name}.raw`);
  await run(["gcc", "-O2", "-static", "-s", "-Wall", "-Werror", "-o", image, source]);
  const { size } = await Deno.stat(image);
  await Deno.truncate(image, Math.ceil(size / SECTOR_BYTES) * SECTOR_BYTES);
  return { image, format: "raw" };
}
