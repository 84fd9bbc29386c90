import assert from "node:assert/strict";
import fc from "fast-check";
import { specDifferences } from "./spec_differences.ts";

Deno.test("differences: each value that differs has a line with its path", () => {
  const booted = {
    name: "pair",
    vms: [{ memoryMiB: 128, disks: [] }],
    network: { uplink: { a: 1 } },
  };
  assert.deepEqual(
    specDifferences(booted, {
      name: "pair",
      vms: [{ memoryMiB: 96, disks: [{ image: "/x" }] }, { memoryMiB: 64 }],
      network: {},
    }),
    [
      "vms[0].memoryMiB: 128 was booted, now 96",
      'vms[0].disks[0]: nothing was booted, now {"image":"/x"}',
      'vms[1]: nothing was booted, now {"memoryMiB":64}',
      'network.uplink: {"a":1} was booted, now nothing',
    ],
  );
  assert.deepEqual(specDifferences({ a: [] }, { a: {} }), ["a: [] was booted, now {}"]);
});

Deno.test("differences: none exactly where the JSON is equal, whatever the order of keys", () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    const text = JSON.stringify(value);
    assert.deepEqual(specDifferences(JSON.parse(text), JSON.parse(text)), []);
  }));
  assert.deepEqual(specDifferences({ a: 1, b: 2 }, { b: 2, a: 1 }), []);
  fc.assert(fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
    const [x, y] = [a, b].map((value) => JSON.parse(JSON.stringify(value)));
    let equal = true;
    try {
      assert.deepStrictEqual(x, y);
    } catch {
      equal = false;
    }
    assert.equal(specDifferences(x, y).length === 0, equal);
  }));
});
