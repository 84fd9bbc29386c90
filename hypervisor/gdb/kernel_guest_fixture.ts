/** For the debugger's tests: the test kernel's recording, once for all tests of a file. */
import assert from "node:assert/strict";
import {
  buildKernel,
  guestHardware,
  type RecordedGuest,
  recordGuest,
} from "./recorded_guest_fixture.ts";

export interface KernelGuest {
  /** The kernel's ELF file, with symbols. */
  readonly kernel: string;
  readonly guest: RecordedGuest;
}

let recorded: Promise<KernelGuest> | undefined;
const directories: string[] = [];

/** The kernel's usual five rounds. */
export function recordedKernel(): Promise<KernelGuest> {
  return recorded ??= recordKernel(5);
}

/** Builds and records a kernel of so many rounds. */
export async function recordKernel(rounds: number): Promise<KernelGuest> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-debugger-" });
  directories.push(directory);
  const kernel = await buildKernel(directory, rounds);
  const guest = await recordGuest(guestHardware(kernel), directory);
  assert.match(guest.console, /^start\r?\nbalance \d+\r?\n$/);
  return { kernel, guest };
}

/** For the end of a test file. */
export function removeKernels(): void {
  for (const path of directories) Deno.removeSync(path, { recursive: true });
}

/** The line of a source file of the kernel that holds `text`. */
export async function lineOf(file: string, text: string): Promise<number> {
  const source = await Deno.readTextFile(new URL(`testdata/${file}`, import.meta.url));
  return source.split("\n").findIndex((line) => line.includes(text)) + 1;
}
