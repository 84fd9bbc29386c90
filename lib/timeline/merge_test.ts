/** The order of all VMs' moments: each VM's own, causality, the clock. */
import assert from "node:assert/strict";
import { mergeMoments, type Moment } from "./merge.ts";

interface Named extends Moment {
  readonly name: string;
}

const line = (vm: number, ns: number, name: string): Named => ({ vm, ns, name });
const receive = (vm: number, ns: number, lamport: bigint, name: string): Named => ({
  vm,
  ns,
  lamport,
  name,
});
const order = (...sequences: Named[][]) =>
  [...mergeMoments(sequences)].map(({ name }) => name).join(" ");

Deno.test("timeline: lines go by the clock, received frames by Lamport time", () => {
  assert.equal(
    order([line(1, 10, "a"), line(1, 30, "c")], [line(2, 20, "b"), line(2, 40, "d")]),
    "a b c d",
  );
  // The clock of VM 2 is behind: the Lamport times say what came first.
  assert.equal(
    order([receive(1, 50, 5n, "first")], [receive(2, 10, 6n, "second"), line(2, 11, "after")]),
    "first second after",
  );
  // A line before a received frame stays there, whatever the clocks say.
  assert.equal(
    order([line(1, 90, "line"), receive(1, 91, 5n, "first")], [receive(2, 10, 6n, "second")]),
    "line first second",
  );
  assert.equal(order([], [line(2, 1, "alone")]), "alone");
  assert.equal(order(), "");
});

Deno.test("timeline: any moments are merged whole, each VM's in order, receives by Lamport time", () => {
  for (let seed = 1; seed <= 300; seed++) {
    let state = seed;
    const random = (below: number) => (state = (state * 48271) % 2147483647) % below;
    const sequences = Array.from({ length: 1 + random(4) }, (_, vm) => {
      let [ns, lamport] = [0, 0n];
      return Array.from({ length: random(12) }, (_, i) => {
        ns += random(5);
        lamport += BigInt(1 + random(9));
        const name = `${vm}/${i}`;
        return random(2) === 0 ? line(vm, ns, name) : receive(vm, ns, lamport, name);
      });
    });
    const merged = [...mergeMoments(sequences)];
    for (const [vm, sequence] of sequences.entries()) {
      assert.deepEqual(merged.filter((moment) => moment.vm === vm), sequence, `seed ${seed}`);
    }
    const times = merged.map(({ lamport }) => lamport).filter((lamport) => lamport !== undefined);
    assert.ok(times.every((time, i) => i === 0 || times[i - 1]! <= time), `seed ${seed}`);
  }
});
