/** What a manifest has of a cluster, as it is read again. */
import assert from "node:assert/strict";
import { FormatError } from "../errors.ts";
import { clusterOf } from "./spec_schema.ts";
import { parse } from "./testing.ts";

const FULL = `
name: c
network: {uplink: {address: 10.77.0.254/24, nat: true, host: alpha}}
vms:
  - {name: a, host: alpha, memory: 1G, kernel: k, initrd: i, args: quiet, serialInput: hello}
  - {name: b, kernel: k, disks: [a.img, b.qcow2], mac: "52:54:00:00:00:01", onReboot: restart}
`;

Deno.test("whatever a cluster file may say is read again from a manifest", () => {
  const spec = parse(FULL);
  const cluster = JSON.parse(JSON.stringify(spec));
  assert.deepEqual(clusterOf({ cluster }, "/r"), spec);
});

Deno.test("a damaged cluster in a manifest is an error that names file and place", () => {
  const spec = parse(FULL);
  const damaged: [cluster: unknown, what: RegExp][] = [
    [undefined, /cluster: .*expected object/],
    [{ ...spec, qemu: undefined }, /cluster: qemu: .*expected object/],
    [{ ...spec, vms: [{ ...spec.vms[0], mac: "x" }] }, /cluster: vms\[0\]\.mac: /],
  ];
  for (const [cluster, what] of damaged) {
    assert.throws(
      () => clusterOf({ cluster }, "/r"),
      (error) =>
        error instanceof FormatError && error.message.includes("/r/manifest.json") &&
        what.test(error.message),
    );
  }
});
