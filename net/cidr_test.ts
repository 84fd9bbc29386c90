import assert from "node:assert/strict";
import { ClusterrrError } from "../lib/errors.ts";
import { parseCidr, subnetOf, subnetsOverlap } from "./cidr.ts";

Deno.test("an address becomes its subnet", () => {
  assert.equal(subnetOf(parseCidr("10.77.0.254/24")), "10.77.0.0/24");
  assert.equal(subnetOf(parseCidr("192.168.255.255/20")), "192.168.240.0/20");
  assert.equal(subnetOf(parseCidr("255.255.255.255/1")), "128.0.0.0/1");
  assert.equal(subnetOf(parseCidr("10.0.0.7/30")), "10.0.0.4/30");
});

Deno.test("what is no address with a prefix length is refused with an example", () => {
  const wrong = ["", "10.77.0.254", "10.77.0.256/24", "10.77.0/24", "10.77.0.1/0", "10.77.0.1/31"];
  for (const text of [...wrong, "10.77.0.1/24 ", "::1/64", "10.77.0.1/24\n"]) {
    const expected = (e: unknown) =>
      e instanceof ClusterrrError && /10\.77\.0\.254\/24/.test(e.message);
    assert.throws(() => parseCidr(text), expected, text);
  }
});

Deno.test("subnets overlap when one holds the other", () => {
  const overlap = (a: string, b: string) => subnetsOverlap(parseCidr(a), parseCidr(b));
  assert.equal(overlap("10.77.0.254/24", "10.77.0.1/24"), true);
  assert.equal(overlap("10.77.0.254/24", "10.77.200.1/16"), true);
  assert.equal(overlap("10.77.200.1/16", "10.77.0.254/24"), true);
  assert.equal(overlap("10.77.0.254/24", "10.77.1.1/24"), false);
});
