import assert from "node:assert/strict";
import { capturedNumbers } from "./captured_numbers.ts";

const hosts = [{ name: "alpha", vms: [1, 2] }, { name: "beta", vms: [3] }];

Deno.test("references to VMs of other hosts are moved by the sender's last drift before them", () => {
  const sendDrifts = [{
    vm: 1,
    drifts: [
      { from: 10, frames: 2, doubtFrom: 10 },
      { from: 20, frames: 5, doubtFrom: 18 },
    ],
  }];
  const numbers = capturedNumbers({ hosts, sendDrifts }, 3)!;
  assert.deepEqual([0, 9, 10, 17, 20, 400].map((n) => numbers(1, n)), [0, 9, 12, 19, 25, 405]);
  for (const doubtful of [18, 19]) assert.throws(() => numbers(1, doubtful), /cannot be told/);
  assert.equal(numbers(2, 15), 15, "another sender has its own");
});

Deno.test("references between VMs of one host, or of a recording of one, stay as they are", () => {
  const sendDrifts = [{ vm: 1, drifts: [{ from: 0, frames: 2, doubtFrom: 0 }] }];
  assert.equal(capturedNumbers({ hosts, sendDrifts }, 2), undefined);
  assert.equal(capturedNumbers({ hosts, sendDrifts: [] }, 3), undefined);
  assert.equal(capturedNumbers({}, 3), undefined);
});
