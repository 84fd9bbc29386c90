/** For tests: waiting for what comes about by itself. */
import assert from "node:assert/strict";
import { sleep } from "./sleep.ts";

/** Looks again and again until `condition` holds, `boundMs` at most. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  boundMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + boundMs;
  while (!await condition()) {
    assert.ok(performance.now() < deadline, "it did not come to that");
    await sleep(5);
  }
}
