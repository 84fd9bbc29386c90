/** For tests: waiting for what comes about by itself. */
import assert from "node:assert/strict";
import { sleep } from "./sleep.ts";

const BOUND_MS = 30_000;

/** Looks again and again until `condition` holds, half a minute at most. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + BOUND_MS;
  while (!await condition()) {
    assert.ok(performance.now() < deadline, "it did not come to that");
    await sleep(5);
  }
}
