import assert from "node:assert/strict";
import { namesOf, runOf, tapName } from "./names.ts";

Deno.test("every device name fits in 15 bytes", () => {
  const names = namesOf("ab12cd");
  for (const name of [names.bridge, names.uplinkPort, names.tunnel, tapName("ab12cd", 9999)]) {
    assert.ok(name.length <= 15, name);
  }
  assert.equal(tapName("ab12cd", 9999), "clrrab12cdv9999");
});

Deno.test("a tap needs a VM number that fits", () => {
  for (const vm of [0, -1, 1.5, 10_000, NaN]) assert.throws(() => tapName("ab12cd", vm), /no tap/);
});

Deno.test("a run id is six characters, so that names cannot be paths or other people's", () => {
  for (const run of ["", "ab12c", "ab12cde", "AB12CD", "../../", "ab 2cd", "ab12cd\n"]) {
    assert.throws(() => namesOf(run), /not a run id/, run);
  }
});

Deno.test("runOf finds the run in our names only", () => {
  const names = namesOf("ab12cd");
  assert.equal(runOf("netns", names.netns), "ab12cd");
  assert.equal(runOf("pins", names.pins.split("/").at(-1)!), "ab12cd");
  assert.equal(runOf("uplink", names.uplink), "ab12cd");
  assert.equal(runOf("natTable", names.natTable), "ab12cd");
  assert.equal(runOf("tunnel", names.tunnel), "ab12cd");
  assert.equal(runOf("tunnel", names.uplink), undefined);
  assert.equal(runOf("uplink", names.tunnel), undefined);
  assert.equal(runOf("uplink", names.uplinkPort), undefined);
  assert.equal(runOf("uplink", names.bridge), undefined);
  assert.equal(runOf("uplink", "eth0"), undefined);
  assert.equal(runOf("netns", "clrr-somebody"), undefined);
});
