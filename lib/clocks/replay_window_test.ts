/** The window by itself. That it never deadlocks: consistency_test.ts and window_model_test.ts. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ReplayWindow } from "./replay_window.ts";

Deno.test("a VM is let no more than the window ahead of the slowest", () => {
  const window = new ReplayWindow([1, 2], 2);
  assert.equal(window.slowest, 0);
  assert.equal(window.enter(1, 1), true);
  assert.equal(window.enter(1, 2), true);
  assert.equal(window.enter(1, 3), false);
  assert.equal(window.enter(1, 3), false, "asked again");
  assert.equal(window.enter(1, 2), true, "it is there already");
  assert.equal(window.enter(2, 1), true);
  assert.equal(window.slowest, 1);
  assert.equal(window.enter(1, 3), true);
  assert.equal(window.enter(1, 4), false);
});

Deno.test("a VM that has ended holds nobody up", () => {
  const window = new ReplayWindow([1, 2], 1);
  assert.equal(window.enter(1, 1), true);
  assert.equal(window.enter(1, 2), false);
  window.leave(2);
  window.leave(2);
  assert.equal(window.enter(1, 2), true);
  assert.equal(window.slowest, 2);
  assert.throws(() => window.enter(2, 1), /VM 2 is not in the window/);
  window.leave(1);
  assert.equal(window.slowest, Infinity);
});

Deno.test("a VM that left goes on in the epoch it was in", () => {
  const window = new ReplayWindow([1, 2], 1, 4);
  assert.equal(window.slowest, 4);
  assert.equal(window.enter(2, 4), true, "everyone begins there");
  assert.equal(window.enter(2, 5), true);
  window.leave(2);
  assert.equal(window.enter(1, 8), true);
  window.rejoin(2);
  window.rejoin(1);
  assert.equal(window.slowest, 5);
  assert.equal(window.enter(1, 9), false);
  assert.equal(window.enter(2, 9), true);
});

Deno.test("epochs that nobody has do not count: who holds at a cut has done with all before it", () => {
  const window = new ReplayWindow([1, 2, 3], 1);
  assert.equal(window.enter(1, 7), false);
  assert.equal(window.enter(2, 7), false);
  assert.equal(window.enter(3, 7), true);
  assert.equal(window.enter(3, 9), false);
  assert.equal(window.enter(1, 7), true);
  assert.equal(window.enter(2, 7), true);
});

Deno.test("a window has at least one epoch; without a bound nobody waits", () => {
  for (const wrong of [0, -1, NaN]) assert.throws(() => new ReplayWindow([1], wrong), /at least 1/);
  const window = new ReplayWindow([1, 2], Infinity);
  assert.equal(window.enter(1, 1_000_000), true);
});

Deno.test("property: the bound holds, asking again changes nothing, somebody may always go on", () =>
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 1, max: 4 }),
      fc.uniqueArray(fc.integer({ min: 1, max: 30 }), { minLength: 1 }),
      fc.infiniteStream(fc.nat(100)),
      (count, windowEpochs, ticked, choices) => {
        const vms = Array.from({ length: count }, (_, i) => i + 1);
        const epochs = ticked.toSorted((a, b) => a - b);
        const window = new ReplayWindow(vms, windowEpochs);
        const next = new Map(vms.map((vm) => [vm, 0]));
        let refused = 0;
        while (next.size > 0) {
          const live = [...next.keys()];
          const vm = live[(refused < 10 ? choices.next().value : refused) % live.length]!;
          const epoch = epochs[next.get(vm)!];
          if (epoch === undefined) {
            window.leave(vm);
            next.delete(vm);
            refused = 0;
            continue;
          }
          const answer = window.enter(vm, epoch);
          assert.equal(window.enter(vm, epoch), answer);
          if (answer) {
            assert(epoch - window.slowest <= windowEpochs);
            next.set(vm, next.get(vm)! + 1);
          }
          refused = answer ? 0 : refused + 1;
          assert(refused < 10 + 2 * live.length, "deadlock");
        }
      },
    ),
  ));
