/** The two ends of a link, without a network between them and with one that does what it likes. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../../lib/errors.ts";
import { type FrameStore, LinkReceiver } from "./link_receiver.ts";
import { LinkSender } from "./link_sender.ts";
import type { SpooledFrame } from "./spool.ts";
import { WantedFrames } from "./wanted_frames.ts";

const OPTIONS = { unacknowledgedBytesMax: 100, resendAfterMs: 10, resendAfterMsMax: 40 };

/** A spool in memory. */
class MemoryStore implements FrameStore {
  readonly frames = new Map<number, Uint8Array[]>();
  bytes = 0;
  count(vm: number): number {
    return this.frames.get(vm)?.length ?? 0;
  }
  append({ vm, sequence, bytes }: SpooledFrame): void {
    assert.equal(sequence, this.count(vm));
    this.frames.set(vm, [...this.frames.get(vm) ?? [], bytes.slice()]);
  }
  read(vm: number, sequence: number): Uint8Array | undefined {
    return this.frames.get(vm)?.[sequence];
  }
  close(): void {}
}

const bytesOf = (vm: number, sendNumber: number) => Uint8Array.of(vm, sendNumber, 1, 2);

/** A sender of VM 1 whose peer needs `uses`, at `position`. */
function openSender(uses: number[], position = 0): LinkSender {
  const sender = new LinkSender([1], OPTIONS);
  sender.want(1, WantedFrames.ofUses(uses));
  sender.position(1, position);
  sender.open();
  return sender;
}

const addAll = (sender: LinkSender, count: number) => {
  for (let i = 0; i < count; i++) sender.add(1, i, bytesOf(1, i));
};

/** The send numbers of all that can be sent now. */
function drain(sender: LinkSender, now = 0): number[] {
  const sent: number[] = [];
  for (let frame; (frame = sender.next(now)) !== undefined;) sent.push(frame.sendNumber);
  return sent;
}

Deno.test("sender: numbers the wanted frames, and keeps them until they are acknowledged", () => {
  const sender = openSender([1, 0, 2, 1]);
  addAll(sender, 3);
  assert.equal(sender.unacknowledgedBytes, 8);
  assert.deepEqual(sender.next(0), { vm: 1, sequence: 0, sendNumber: 0, bytes: bytesOf(1, 0) });
  assert.deepEqual(sender.next(0), { vm: 1, sequence: 1, sendNumber: 2, bytes: bytesOf(1, 2) });
  assert.equal(sender.next(0), undefined);
  sender.acknowledge(1, 1, 1);
  assert.equal(sender.unacknowledgedBytes, 4);
  sender.acknowledge(1, 0, 1); // an old one
  assert.throws(() => sender.acknowledge(1, 3, 1), ProtocolError);
  assert.throws(() => sender.acknowledge(9, 0, 1), ProtocolError);
});

Deno.test("sender: after a time-out it goes back to the first unacknowledged frame, ever later", () => {
  const sender = openSender([1, 1, 1]);
  addAll(sender, 3);
  assert.deepEqual(drain(sender, 0), [0, 1, 2]);
  sender.acknowledge(1, 1, 5);
  assert.equal(sender.dueAt, 15);
  assert.deepEqual(drain(sender, 14), []);
  assert.deepEqual(drain(sender, 15), [1, 2]);
  assert.equal(sender.dueAt, 35);
  assert.deepEqual(drain(sender, 35), [1, 2]);
  assert.equal(sender.dueAt, 75);
  assert.deepEqual(drain(sender, 75), [1, 2]);
  assert.equal(sender.dueAt, 115, "not beyond the maximum");
  assert.equal(sender.counters.retransmissions, 6);
  sender.acknowledge(1, 3, 80);
  assert.equal(sender.dueAt, Infinity);
  assert.equal(sender.unacknowledgedBytes, 0);
});

Deno.test("sender: a round trip longer than the time-out lengthens it", () => {
  const sender = openSender([1, 1]);
  addAll(sender, 2);
  drain(sender, 0);
  sender.acknowledge(1, 1, 5, 20);
  assert.equal(sender.dueAt, 85);
});

Deno.test("sender: at a reconnect it goes on at the peer's position", () => {
  const sender = openSender([1, 1, 1, 1]);
  addAll(sender, 3);
  assert.deepEqual(drain(sender), [0, 1, 2]);
  sender.acknowledge(1, 1, 1);
  sender.disconnected();
  assert.deepEqual([drain(sender, 1000), sender.dueAt], [[], Infinity]);
  sender.want(1, WantedFrames.ofUses([1, 1, 1, 1]));
  sender.position(1, 2);
  sender.open();
  assert.deepEqual(drain(sender), [2]);
  assert.throws(() => sender.want(1, WantedFrames.ofUses([1, 1])), /other frames of VM 1/);
  assert.throws(() => sender.position(1, 1), /it has 1 of 2 that it had acknowledged/);
  assert.throws(() => sender.position(1, 5), ProtocolError);
  assert.throws(() => sender.want(2, WantedFrames.ofUses([])), /not replayed here/);
});

Deno.test("sender: one that begins anew lets go what the peer has", () => {
  const sender = openSender([1, 1, 1, 1], 3);
  addAll(sender, 2);
  assert.deepEqual([drain(sender), sender.unacknowledgedBytes], [[], 0]);
  sender.acknowledge(1, 3, 0); // said again with a ping
  sender.add(1, 2, bytesOf(1, 2));
  sender.add(1, 3, bytesOf(1, 3));
  assert.deepEqual(drain(sender), [3]);
});

Deno.test("sender: frames from before it is known what is wanted", () => {
  const sender = new LinkSender([1], OPTIONS);
  assert.deepEqual([sender.knowsWanted(1), sender.mayNeed(1)], [false, true]);
  addAll(sender, 30);
  assert.equal(sender.full, true);
  sender.want(1, WantedFrames.ofUses([0, 1]));
  assert.deepEqual([sender.full, sender.unacknowledgedBytes], [false, 4]);
  assert.equal(sender.next(0), undefined, "not before the position");
  sender.position(1, 0);
  sender.open();
  assert.deepEqual(drain(sender), [1]);
  assert.equal(sender.mayNeed(1), true);
});

Deno.test("receiver: takes each frame once and in order, and acknowledges what is in the store", () => {
  const store = new MemoryStore();
  const receiver = new LinkReceiver(new Map([[1, WantedFrames.ofUses([1, 0, 1, 1])]]), store);
  const frame = (sequence: number, sendNumber: number) => ({
    vm: 1,
    sequence,
    sendNumber,
    bytes: bytesOf(1, sendNumber),
  });
  assert.equal(receiver.arrived(1), 0);
  assert.equal(receiver.take(frame(1, 2)), false, "too early");
  assert.equal(receiver.take(frame(0, 0)), true);
  assert.equal(receiver.arrived(1), 2, "nobody needs frame 1");
  assert.equal(receiver.frame(1, 2), undefined);
  assert.equal(receiver.take(frame(0, 0)), false, "again");
  assert.deepEqual(receiver.nextAcknowledgement(), { vm: 1, count: 1 });
  assert.equal(receiver.nextAcknowledgement(), undefined);
  assert.equal(receiver.take(frame(1, 2)), true);
  assert.equal(receiver.take(frame(2, 3)), true);
  assert.equal(receiver.arrived(1), 4);
  assert.deepEqual(receiver.frame(1, 3), bytesOf(1, 3));
  assert.deepEqual(receiver.nextAcknowledgement(), { vm: 1, count: 3 });
  receiver.repeat();
  assert.deepEqual(receiver.nextAcknowledgement(), { vm: 1, count: 3 });
  assert.equal(receiver.counters.duplicates, 1);
  for (const [sequence, sendNumber] of [[3, 4], [1, 1], [0, 2]]) {
    assert.throws(() => receiver.take(frame(sequence!, sendNumber!)), ProtocolError);
  }
  assert.throws(() => receiver.take({ ...frame(0, 0), vm: 2 }), ProtocolError);
});

Deno.test("property: whatever the network does, every wanted frame is taken once and in order", () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant("add" as const), vm: fc.nat(1) }) },
    { weight: 6, arbitrary: fc.record({ do: fc.constant("send" as const) }) },
    { weight: 6, arbitrary: fc.record({ do: fc.constant("deliver" as const), at: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("double" as const), at: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant("lose" as const), at: fc.nat() }) },
    { weight: 3, arbitrary: fc.record({ do: fc.constant("acknowledge" as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("reconnect" as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant("restart sender" as const) }) },
  );
  const uses = fc.array(fc.nat(1), { minLength: 1, maxLength: 20 });
  fc.assert(fc.property(uses, uses, fc.array(step, { maxLength: 300 }), (one, two, steps) => {
    const wanted = new Map([[1, WantedFrames.ofUses(one)], [2, WantedFrames.ofUses(two)]]);
    const store = new MemoryStore();
    const receiver = new LinkReceiver(wanted, store);
    let now = 0;
    let sender!: LinkSender;
    let produced!: number[];
    let wire: (() => void)[] = [];
    const connect = () => {
      wire = [];
      for (const [vm, frames] of wanted) sender.want(vm, frames);
      for (const { vm, count } of receiver.positions()) sender.position(vm, count);
      sender.open();
    };
    const begin = () => {
      sender = new LinkSender([1, 2], OPTIONS);
      produced = [0, 0];
      connect();
    };
    const add = (vm: number) => {
      const sendNumber = produced[vm]!;
      if (sendNumber >= [one, two][vm]!.length) return;
      produced[vm] = sendNumber + 1;
      sender.add(vm + 1, sendNumber, bytesOf(vm + 1, sendNumber));
    };
    const send = () => {
      const frame = sender.next(now);
      if (frame !== undefined) wire.push(() => receiver.take(frame));
    };
    const acknowledge = () => {
      const due = receiver.nextAcknowledgement();
      const to = sender;
      if (due !== undefined) wire.push(() => to.acknowledge(due.vm, due.count, now));
    };
    begin();
    for (const each of steps) {
      now++;
      if (each.do === "add") add(each.vm);
      else if (each.do === "send") send();
      else if (each.do === "acknowledge") acknowledge();
      else if (each.do === "reconnect") connect();
      else if (each.do === "restart sender") begin();
      else if (wire.length > 0) {
        const at = each.at % wire.length;
        if (each.do !== "lose") wire[at]!();
        if (each.do !== "double") wire.splice(at, 1);
      }
    }
    // From now on nothing is lost: all comes, and nothing is kept.
    for (let i = 0; i < 100; i++) {
      now += 10;
      for (const vm of [0, 1]) add(vm);
      for (let j = 0; j < 40; j++) send();
      receiver.repeat();
      for (let j = 0; j < 2; j++) acknowledge();
      for (const deliver of wire.splice(0)) deliver();
    }
    for (const [vm, frames] of wanted) {
      const numbers = Array.from({ length: frames.count }, (_, i) => frames.numberOf(i));
      assert.deepEqual(store.frames.get(vm) ?? [], numbers.map((number) => bytesOf(vm, number)));
      assert.equal(receiver.arrived(vm), frames.end);
    }
    assert.equal(sender.unacknowledgedBytes, 0);
    assert.equal(sender.dueAt, Infinity);
  }));
});
