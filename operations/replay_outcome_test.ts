/** What a replay made of the recorded checks. */
import assert from "node:assert/strict";
import type { CheckPoint } from "../lib/recording/hybrid_log.ts";
import { checksOf } from "./replay_outcome.ts";

Deno.test("checks that a replay did not make were not reached", () => {
  const checks = [10, 20].map((icount) => ({ icount }) as CheckPoint);
  const made = { icount: true, registers: false, ram: true };
  assert.deepEqual(checksOf({ checks }, [{ at: 10, ...made, difference: "- RIP=1" }]), [
    { at: 10, ...made },
    { at: 20, icount: false, registers: false, ram: false, notReached: true },
  ]);
});
