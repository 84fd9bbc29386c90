/** What prints a whole log can be ended before it is through. */
import assert from "node:assert/strict";
import { encodeEvent } from "../hypervisor/rr_log/events.ts";
import { tableForVersion } from "../hypervisor/rr_log/tables.ts";
import {
  RR_LOG_VERSION,
  type SyntheticItem,
  writeRun,
} from "../lib/diff/testdata/synthetic_run.ts";
import { InterruptedError } from "../lib/errors.ts";
import { dump } from "./dump.ts";
import { timeline } from "./timeline.ts";

/** Takes far longer to read than the turns of the event loop are apart. */
const EVENTS = 1_000_000;

async function withLongRecording(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clrr-long-" });
  const table = tableForVersion(RR_LOG_VERSION);
  const kind = table.kinds.findIndex(({ name }) => name === "INTERRUPT");
  const bytes = encodeEvent({ kind, type: "plain" }, table);
  const event: SyntheticItem = { item: "event", bytes, instructions: 0 };
  try {
    await work(writeRun(directory, [{ name: "left", items: Array(EVENTS).fill(event) }]));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** How many items come until a signal that comes with the next turn of the event loop is heeded. */
async function itemsUntilInterrupted(
  make: (signal: AbortSignal) => AsyncIterable<unknown>,
): Promise<number> {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new InterruptedError("interrupted")));
  let count = 0;
  await assert.rejects(async () => {
    for await (const _ of make(controller.signal)) count++;
  }, InterruptedError);
  return count;
}

Deno.test("dump and timeline heed a signal while they read", () =>
  withLongRecording(async (directory) => {
    const dumped = await itemsUntilInterrupted((signal) => dump({ path: directory }, signal));
    assert.ok(dumped < EVENTS, `${dumped} of ${EVENTS} were printed`);
    const told = await itemsUntilInterrupted((signal) =>
      timeline({ directory, frames: true }, signal)
    );
    assert.equal(told, 0, "it had not read the log yet");
  }));

Deno.test("timeline names a VM that the recording does not have", () =>
  withLongRecording(async (directory) => {
    const items = timeline({ directory, frames: false, vms: ["lfet"] }, AbortSignal.timeout(5000));
    await assert.rejects(() => Array.fromAsync(items), /no VM lfet\. It has: left\./);
  }));
