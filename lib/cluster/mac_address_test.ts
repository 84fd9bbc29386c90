import assert from "node:assert/strict";
import fc from "fast-check";
import { isUnicast, makeMac } from "./mac_address.ts";

Deno.test("a made address never changes", () => {
  assert.equal(makeMac("trio", "alpha", new Set()), "52:54:00:f8:69:a7");
  assert.equal(makeMac("trio", "beta", new Set()), "52:54:00:c7:e9:9c");
});

Deno.test("made addresses are unicast, well formed and step aside for taken ones", () => {
  fc.assert(fc.property(fc.string(), fc.string(), (cluster, vm) => {
    const taken = new Set<string>();
    for (let i = 0; i < 4; i++) {
      const mac = makeMac(cluster, vm, taken);
      assert.match(mac, /^52:54:00(:[0-9a-f]{2}){3}$/);
      assert(isUnicast(mac) && !taken.has(mac));
      taken.add(mac);
    }
  }));
});

Deno.test("group addresses and zero are not unicast", () => {
  assert(isUnicast("02:00:00:00:00:01"));
  for (const mac of ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"]) {
    assert(!isUnicast(mac), mac);
  }
});
