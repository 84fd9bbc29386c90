import assert from "node:assert/strict";
import { settleAll } from "./settle_all.ts";
import { sleep } from "./sleep.ts";

Deno.test("all are waited for, also behind a failure, and the first reason is thrown", async () => {
  let ended = 0;
  const late = async (ms: number, error?: Error) => {
    await sleep(ms);
    ended++;
    if (error !== undefined) throw error;
    return ms;
  };
  assert.deepEqual(await settleAll([late(3), late(1)]), [3, 1]);
  const [first, other] = [new Error("first"), new Error("other")];
  await assert.rejects(settleAll([late(9), late(5, first), late(1, other)]), first);
  assert.equal(ended, 5);
});
