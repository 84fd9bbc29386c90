import assert from "node:assert/strict";
import { packing, restoreEnvironment } from "./launch.ts";

Deno.test("from sources, the environment stays as it is", () => {
  assert.equal(packing(), "sources");
  const before = Deno.env.toObject();
  restoreEnvironment();
  assert.deepEqual(Deno.env.toObject(), before);
});
