/** Where the cuts of one VM stand, case by case. What makes a cut consistent: consistency_test.ts. */
import assert from "node:assert/strict";
import { CutPlacer } from "./cut_placer.ts";
import { epochStart } from "./lamport.ts";

/** A time of `epoch`. */
const timeIn = (epoch: number, counter = 5n) => epochStart(epoch) + counter;

Deno.test("a cut stands at the first boundary behind the tick and what QEMU's buffer holds", () => {
  const placer = new CutPlacer();
  assert.equal(placer.dueAt, Infinity);
  placer.tick(1, 1000);
  assert.equal(placer.dueAt, 1000 + 4097);
  assert.deepEqual(placer.atBoundary(1001), []);
  assert.deepEqual(
    placer.atBoundary(1000 + 4096),
    [],
    "instructions before it may not be logged yet",
  );
  assert.deepEqual(placer.atBoundary(1000 + 4097), [1]);
  assert.deepEqual(placer.atBoundary(9000), [], "once");
  assert.equal(placer.pending, 0);
});

Deno.test("a receive of the epoch forces the cut, and all cuts before it", () => {
  const placer = new CutPlacer();
  placer.tick(1, 0);
  placer.tick(2, 0);
  placer.tick(4, 10);
  assert.deepEqual(placer.beforeReceive(timeIn(0), 20), []);
  assert.deepEqual(placer.beforeReceive(timeIn(2, 0n), 40), [1, 2]);
  assert.deepEqual(placer.beforeReceive(timeIn(3), 60), [], "nobody ticked epoch 3");
  assert.deepEqual(placer.atBoundary(4097), []);
  assert.deepEqual(placer.atBoundary(4107), [4]);
});

Deno.test("several cuts stand at one boundary when the log was silent", () => {
  const placer = new CutPlacer({ bufferBytes: 64 });
  for (const epoch of [1, 2, 3]) placer.tick(epoch, 100);
  placer.tick(9, 130);
  assert.deepEqual(placer.atBoundary(170), [1, 2, 3]);
  assert.deepEqual(placer.atBoundary(200), [9]);
});

Deno.test("a cut waits for frames that entered the tap before it", () => {
  let oldest: bigint | undefined = timeIn(0);
  const placer = new CutPlacer({ bufferBytes: 64, oldestDelivery: () => oldest });
  placer.tick(1, 0);
  assert.deepEqual(placer.atBoundary(100), []);
  assert.deepEqual(placer.beforeReceive(timeIn(0), 100), []);
  oldest = timeIn(1, 1n);
  assert.deepEqual(placer.atBoundary(200), [1]);
  assert.deepEqual(placer.beforeReceive(oldest, 200), []);
});

Deno.test("a cut does not wait for ever for a frame that the log never shows", () => {
  const placer = new CutPlacer({
    bufferBytes: 64,
    patienceEpochs: 2,
    oldestDelivery: () => timeIn(0),
  });
  placer.tick(1, 0);
  placer.tick(2, 100);
  assert.deepEqual(placer.atBoundary(1000), []);
  placer.tick(3, 1000);
  assert.deepEqual(placer.atBoundary(1064), []);
  assert.deepEqual(placer.atBoundary(1065), [1]);
  placer.tick(4, 1100);
  assert.deepEqual(placer.atBoundary(1200), [2]);
  assert.deepEqual(placer.beforeReceive(timeIn(0), 1200), [], "late, and no harm");
});

Deno.test("an epoch has no cut where a frame of unknown time may belong on either side", () => {
  const placer = new CutPlacer({ bufferBytes: 64 });
  placer.tick(1, 0);
  assert.deepEqual(placer.beforeReceive(undefined, 20), []);
  assert.deepEqual(placer.atBoundary(100), [], "a later frame may tell");
  placer.tick(2, 100);
  assert.deepEqual(placer.atBoundary(200), [2], "unknown before the tick: of no later epoch");
  assert.equal(placer.voided, 1);
  placer.tick(3, 200);
  assert.deepEqual(placer.beforeReceive(undefined, 210), []);
  assert.deepEqual(placer.beforeReceive(timeIn(2), 230), [], "it tells: both are old");
  assert.deepEqual(placer.atBoundary(300), [3]);
  placer.tick(4, 300);
  assert.deepEqual(placer.beforeReceive(undefined, 310), []);
  assert.deepEqual(placer.beforeReceive(timeIn(4), 330), []);
  assert.equal(placer.voided, 2);
  placer.tick(5, 400);
  assert.deepEqual(placer.beforeReceive(undefined, 410), []);
  assert.deepEqual(placer.atEnd(420), []);
  assert.equal(placer.voided, 3);
});

Deno.test("a frame from a host that was ticked earlier brings the epoch along", () => {
  const placer = new CutPlacer({ bufferBytes: 64, remoteEpochs: true });
  assert.deepEqual(placer.beforeReceive(timeIn(1), 50), [1]);
  placer.tick(1, 60);
  assert.deepEqual(placer.atBoundary(500), []);
  assert.deepEqual(placer.beforeReceive(undefined, 500), []);
  assert.deepEqual(placer.beforeReceive(timeIn(2), 550), []);
  assert.equal(placer.voided, 1);
  assert.deepEqual(placer.beforeReceive(undefined, 600), []);
  placer.tick(3, 600);
  placer.tick(4, 600);
  assert.deepEqual(placer.atBoundary(700), [4], "epoch 4 begins when 3 was ticked everywhere");
  assert.equal(placer.voided, 2);
});

Deno.test("the end of a log takes the cuts that are left", () => {
  const placer = new CutPlacer();
  placer.tick(1, 0);
  placer.tick(2, 0);
  assert.deepEqual(placer.atEnd(10), [1, 2]);
  assert.deepEqual(placer.atEnd(10), []);
  placer.tick(3, 10);
  assert.deepEqual(placer.atEnd(10), [3], "a VM that has ended has cuts too");
});

Deno.test("ticks that are not new change nothing, wrong ones throw", () => {
  const placer = new CutPlacer();
  placer.tick(3, 0);
  placer.tick(3, 10);
  placer.tick(2, 10);
  placer.tick(0, 10);
  assert.equal(placer.pending, 1);
  assert.throws(() => placer.tick(1.5, 10), /not an epoch/);
  placer.atBoundary(20);
  assert.throws(() => placer.atBoundary(19), /goes back from 20 to 19/);
  assert.throws(() => placer.beforeReceive(timeIn(0), 19), /goes back/);
});
