import assert from "node:assert/strict";
import { type AnnouncedVm, SharedWindow } from "./shared_window.ts";

const log = (cuts: number[], lastReceive = 9): AnnouncedVm => ({
  cuts,
  lastReceive,
  complete: true,
});

/** A host with VM 1, whose window is one epoch; VM 2 is elsewhere. */
function open() {
  const changed: number[] = [];
  const window = new SharedWindow(
    new Map([[1, log([1, 2, 3, 4])]]),
    [2],
    1,
    0,
    (vm) => changed.push(vm),
  );
  return { window, changed };
}

const at = (serial: number, epoch: number, more = {}) => ({
  serial,
  epoch,
  away: false,
  ended: false,
  sent: 0,
  ...more,
});

Deno.test("shared window: nobody enters an epoch before all logs are known", () => {
  const { window, changed } = open();
  assert.equal(window.enter(1, 1), false);
  assert.deepEqual(changed, []);
  window.learn(2, log([1, 3]));
  assert.equal(window.enter(1, 1), true);
  assert.equal(window.progress(1).epoch, 1);
  assert.deepEqual(changed, [1]);
});

Deno.test("shared window: what is heard of others lets a VM go on, and nothing else", () => {
  const { window } = open();
  window.learn(2, log([1, 3, 4]));
  assert.equal(window.enter(1, 1), true);
  assert.equal(window.enter(1, 2), true, "2 is not common");
  assert.equal(window.enter(1, 3), false);
  assert.equal(window.progress(1).epoch, 2, "it holds at the end of 2");
  window.observe(2, at(5, 2));
  assert.equal(window.enter(1, 3), true);
  window.observe(2, at(4, 0));
  assert.equal(window.slowest, 2, "stale news is ignored");
  assert.equal(window.enter(1, 4), false);
  window.observe(2, at(6, 2, { away: true }));
  assert.equal(window.enter(1, 4), true, "nobody waits for one that is away");
  window.observe(2, at(7, 3));
  assert.equal(window.slowest, 3);
});

Deno.test("shared window: a host that begins anew is back at the start, and its serials with it", () => {
  const { window } = open();
  window.learn(2, log([1, 2, 3, 4]));
  window.observe(2, at(9, 3, { away: true, ended: true, sent: 12 }));
  assert.equal(window.heard(2)?.sent, 12);
  for (const epoch of [1, 2, 3, 4]) assert.equal(window.enter(1, epoch), true);
  window.restart(2);
  assert.equal(window.heard(2), undefined);
  assert.equal(window.slowest, 0);
  window.observe(2, at(1, 1));
  assert.equal(window.slowest, 1);
});

Deno.test("shared window: own VMs leave, rejoin and end, each told once", () => {
  const { window, changed } = open();
  window.learn(2, log([1]));
  window.leave(1);
  window.leave(1);
  assert.deepEqual(window.progress(1), at(1, 0, { away: true }));
  window.rejoin(1);
  assert.deepEqual(window.progress(1), at(2, 0));
  window.end(1, 7);
  assert.deepEqual(window.progress(1), at(3, 0, { away: true, ended: true, sent: 7 }));
  assert.deepEqual(changed, [1, 1, 1]);
});
