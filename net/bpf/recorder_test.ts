import assert from "node:assert/strict";
import { HostError } from "../../lib/errors.ts";
import { sleep } from "../../lib/sleep.ts";
import { run } from "../../host/command.ts";
import { namesOf } from "../names.ts";
import {
  freshRun,
  freshUplinkAddress,
  macOf,
  openPacketSocket,
  openTaps,
  testFrame,
} from "../tap_fixture.ts";
import type { WriterOrder } from "../tap_writer.ts";
import { createNetwork, type Network, type NetworkPlan } from "../topology.ts";
import type { RecorderSink } from "../../lib/roles/ports.ts";
import { armRecorder } from "./recorder.ts";
import { Notes, withBench } from "./recorder_fixture.ts";

Deno.test("a broadcast has one send number and reaches two VMs", async () => {
  await withBench({}, async ({ tap, drain, recorder }) => {
    tap(1).send(testFrame(macOf(1), "hello"));
    assert.deepEqual(await tap(2).payloads(1), ["hello"]);
    assert.deepEqual(await tap(3).payloads(1), ["hello"]);
    const notes = drain();
    assert.deepEqual(notes.sendsOf(1).map(({ n, length, lamport }) => [n, length, lamport]), [
      [0, 60, 1n],
    ]);
    for (const vm of [2, 3]) {
      assert.deepEqual(notes.identitiesTo(vm), [[0, 1, 0]]);
      assert.equal(notes.deliveriesTo(vm)[0]!.lamport, 2n);
      assert.equal(notes.deliveriesTo(vm)[0]!.length, 60);
    }
    assert.deepEqual(notes.deliveriesTo(1), []);
    assert.equal("source" in notes.all[0]!, false); // the send comes first
    assert.deepEqual(recorder.counters(), {
      sent: 1n,
      delivered: 2n,
      lostSends: 0n,
      lostReceives: 0n,
    });
  });
});

Deno.test("a unicast reaches one VM once the bridge has learnt where it is", async () => {
  await withBench({}, async ({ tap, drain }) => {
    tap(2).send(testFrame(macOf(2), "here I am"));
    tap(1).send(testFrame(macOf(1), "for two", macOf(2)));
    assert.deepEqual(await tap(2).payloads(1), ["for two"]);
    assert.deepEqual(await tap(3).payloads(1), ["here I am"]);
    assert.equal(tap(3).poll(), undefined);
    const notes = drain();
    assert.deepEqual(notes.identitiesTo(2), [[0, 1, 0]]);
    assert.deepEqual(notes.identitiesTo(3), [[0, 2, 0]]);
    assert.deepEqual(notes.identitiesTo(1), [[0, 2, 0]]);
    // VM 1's clock: received at 2 (VM 2 sent at 1), sends at 3; VM 2 receives it at 4.
    assert.equal(notes.sendsOf(1)[0]!.lamport, 3n);
    assert.equal(notes.deliveriesTo(2)[0]!.lamport, 4n);
  });
});

Deno.test("VM numbers may be large and have gaps", async () => {
  await withBench({ vms: [300, 9999] }, async ({ tap, drain }) => {
    tap(9999).send(testFrame(macOf(9999), "far"));
    assert.deepEqual(await tap(300).payloads(1), ["far"]);
    assert.deepEqual(drain().identitiesTo(300), [[0, 9999, 0]]);
  });
});

Deno.test("the length counts a VLAN tag, which the kernel keeps beside the frame", async () => {
  await withBench({ vms: [1, 2] }, async ({ tap, drain }) => {
    const plain = testFrame(macOf(1), "x".repeat(500));
    const tagged = new Uint8Array(plain.length + 4);
    tagged.set(plain.subarray(0, 12));
    tagged.set([0x81, 0, 0, 7], 12);
    tagged.set(plain.subarray(12), 16);
    tap(1).send(tagged);
    assert.deepEqual(await tap(2).receive(), tagged);
    assert.deepEqual(drain().all.map((note) => note.length), [518, 518]);
  });
});

Deno.test("three VMs that send at once: events in the order in which each VM gets the frames", async () => {
  await withBench({}, async ({ tap, drain, network }) => {
    const PER_VM = 3000; // 6,000 wait in each tap's queue of 10,000
    const gate = new SharedArrayBuffer(4);
    const workers = [1, 2, 3].map((vm) => {
      const worker = new Worker(new URL("../tap_writer.ts", import.meta.url), { type: "module" });
      const done = new Promise((resolve, reject) => {
        worker.onmessage = resolve;
        worker.onerror = reject;
      });
      worker.postMessage(
        { gate, writers: 3, fd: tap(vm).fd, vm, count: PER_VM } satisfies WriterOrder,
      );
      return { worker, done };
    });
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("the writers did not end in 30 s")), 30_000);
    });
    try {
      await Promise.race([Promise.all(workers.map(({ done }) => done)), late]);
    } finally {
      clearTimeout(timer);
      workers.forEach(({ worker }) => worker.terminate());
    }
    const got = await Promise.all([1, 2, 3].map((vm) => tap(vm).payloads(2 * PER_VM)));
    const notes = drain();
    for (const vm of [1, 2, 3]) {
      const deliveries = notes.deliveriesTo(vm);
      assert.deepEqual(deliveries.map((d) => `${d.source}:${d.sendNumber}`), got[vm - 1]);
      assert.deepEqual(deliveries.map((d) => d.n), got[vm - 1]!.map((_, i) => i));
      assert.deepEqual(notes.sendsOf(vm).map((s) => s.n), [...Array(PER_VM).keys()]);
    }
    assertLamport(notes);
    const statistics = JSON.parse(await run([...network.enter, "ip", "-s", "-j", "link", "show"]));
    for (const link of statistics.filter((l: { ifname: string }) => /v\d$/.test(l.ifname))) {
      assert.equal(link.stats64.tx.dropped, 0);
    }
  });
});

/** A receive is later than its send, and later than all the VM did before in the same direction. */
function assertLamport(notes: Notes): void {
  const clock = new Map<string, bigint>();
  const sendTime = new Map<string, bigint>();
  const seen = new Set<string>();
  for (const note of notes.all) {
    const receive = "source" in note;
    const direction = `${note.vm} ${receive}`;
    assert.ok(note.lamport > (clock.get(direction) ?? 0n), direction);
    clock.set(direction, note.lamport);
    assert.equal(seen.has(`${note.vm} ${note.lamport}`), false, "one time, two events of a VM");
    seen.add(`${note.vm} ${note.lamport}`);
    if (!receive) sendTime.set(`${note.vm}:${note.n}`, note.lamport);
    else if (note.source !== 0) {
      assert.ok(note.lamport > sendTime.get(`${note.source}:${note.sendNumber}`)!);
    }
  }
}

Deno.test("send numbers go on above 65,536", async () => {
  await withBench({ vms: [1, 2] }, async ({ tap, recorder }) => {
    const BATCH = 1000;
    const BATCHES = 70;
    let next = 0;
    const wrong: unknown[] = [];
    const sink: RecorderSink = {
      sent: () => {},
      delivered: (vm, delivery, source, sendNumber) => {
        if (vm !== 2 || delivery !== next || source !== 1 || sendNumber !== next) {
          wrong.push([vm, delivery, source, sendNumber]);
        }
        next++;
      },
    };
    const frame = testFrame(macOf(1), "again");
    for (let batch = 0; batch < BATCHES; batch++) {
      for (let i = 0; i < BATCH; i++) tap(1).send(frame);
      assert.equal((await tap(2).payloads(BATCH)).length, BATCH);
      recorder.drain(sink);
    }
    assert.deepEqual(wrong, []);
    assert.equal(next, BATCH * BATCHES);
    assert.equal(recorder.counters().sent, 70_000n);
  });
});

/** The kernel tells a bridge of a port's carrier a little later; until then it forwards nothing from there. */
async function linkUp(network: Network, link: string): Promise<void> {
  const isUp = async () =>
    / state UP /.test(await run([...network.enter, "ip", "link", "show", link]));
  while (!await isUp()) await sleep(20);
}

Deno.test("the uplink's frames are external, whatever mark they carry", async () => {
  await withBench(
    { vms: [1, 2], uplink: freshUplinkAddress() },
    async ({ tap, drain, network, plan }) => {
      const names = namesOf(plan.run);
      using outside = openPacketSocket("/proc/self/ns/net", names.uplink);
      tap(1).send(testFrame(macOf(1), "out"));
      assert.deepEqual(await outside.payloads(1), ["out"]);
      await tap(2).payloads(1);
      outside.send(testFrame(macOf(99), "in"));
      assert.deepEqual(await tap(2).payloads(1), ["in"]);
      assert.deepEqual(drain().identitiesTo(2).at(-1), [1, 0, -1]);

      // A veth inside one namespace keeps the mark; 1 is that of VM 1's frame 0.
      await run(["ip", "link", "set", names.uplink, "netns", names.netns]);
      await run([...network.enter, "ip", "link", "set", names.uplink, "up"]);
      await linkUp(network, names.uplinkPort);
      using forger = openPacketSocket(network.netns, names.uplink, 1);
      forger.send(testFrame(macOf(99), "forged"));
      assert.deepEqual(await tap(2).payloads(1), ["forged"]);
      assert.deepEqual(drain().identitiesTo(2).at(-1), [2, 0, -1]);

      // Without the program on the uplink it would be taken for that frame: the test sees marks.
      await run([...network.enter, "tc", "qdisc", "delete", "dev", names.uplinkPort, "clsact"]);
      forger.send(testFrame(macOf(99), "forged"));
      assert.deepEqual(await tap(2).payloads(1), ["forged"]);
      assert.deepEqual(drain().identitiesTo(2).at(-1), [3, 1, 0]);
    },
  );
});

Deno.test("a frame overtaken by more than inFlight others is external, never another frame", async () => {
  await withBench({ inFlight: 4 }, async ({ tap, drain, network }) => {
    // A slow tap: the first frame passes, the others wait in the queue while more are stamped.
    const slow = ["root", "tbf", "rate", "8kbit", "burst", "100", "limit", "100000"];
    await run([...network.enter, "tc", "qdisc", "replace", "dev", network.tapOf(2), ...slow]);
    for (let i = 0; i < 12; i++) tap(1).send(testFrame(macOf(1), `${i}`));
    const texts = [...Array(12).keys()].map(String);
    assert.deepEqual(await tap(2).payloads(12), texts);
    assert.deepEqual(await tap(3).payloads(12), texts);
    const notes = drain();
    assert.deepEqual(notes.identitiesTo(3), texts.map((_, i) => [i, 1, i]));
    const kept = (i: number) => i === 0 || i >= 8;
    assert.deepEqual(
      notes.identitiesTo(2),
      texts.map((_, i) => kept(i) ? [i, 1, i] : [i, 0, -1]),
    );
    assertLamport(notes);
  });
});

Deno.test("a full ring loses events, counts them and leaves gaps, and the frames pass", async () => {
  await withBench({ vms: [1, 2], ringBytes: 4096 }, async ({ tap, drain, recorder, notes }) => {
    for (let i = 0; i < 100; i++) tap(1).send(testFrame(macOf(1), `${i}`));
    assert.deepEqual(await tap(2).payloads(100), [...Array(100).keys()].map(String));
    assert.equal(recorder.drain(notes), 63); // 64 bytes an event, and the ring is never quite full
    assert.deepEqual(recorder.counters(), {
      sent: 100n,
      delivered: 100n,
      lostSends: 68n,
      lostReceives: 69n,
    });
    tap(1).send(testFrame(macOf(1), "after"));
    await tap(2).payloads(1);
    drain();
    assert.deepEqual(notes.sendsOf(1).map((s) => s.n), [...Array(32).keys(), 100]);
    assert.deepEqual(notes.identitiesTo(2).at(-2), [30, 1, 30]);
    assert.deepEqual(notes.identitiesTo(2).at(-1), [100, 1, 100]);
  });
});

Deno.test("a tick raises every clock before the next frame is stamped", async () => {
  await withBench(
    { uplink: freshUplinkAddress() },
    async ({ tap, notes, recorder, drain, plan }) => {
      const send = async () => {
        notes.all.length = 0;
        tap(1).send(testFrame(macOf(1), "x"));
        await Promise.all([tap(2).payloads(1), tap(3).payloads(1)]);
        return drain().all.map((note) => note.lamport);
      };
      const floor = (epoch: bigint) => epoch << 40n;
      assert.deepEqual(await send(), [1n, 2n, 2n]);
      recorder.tick(1);
      assert.deepEqual(await send(), [floor(1n) + 1n, floor(1n) + 2n, floor(1n) + 2n]);
      assert.deepEqual(await send(), [floor(1n) + 2n, floor(1n) + 3n, floor(1n) + 3n]);
      recorder.tick(7);
      recorder.tick(2); // too late: changes nothing
      using outside = openPacketSocket("/proc/self/ns/net", namesOf(plan.run).uplink);
      notes.all.length = 0;
      outside.send(testFrame(macOf(99), "external"));
      await tap(3).payloads(1);
      assert.equal(drain().deliveriesTo(3)[0]!.lamport, floor(7n) + 1n);
      recorder.tick(2 ** 23 - 1);
      await tap(2).payloads(1);
      assert.equal((await send())[0], floor(2n ** 23n - 1n) + 1n);
      for (const epoch of [-1, 0.5, 2 ** 23, NaN]) {
        assert.throws(
          () => recorder.tick(epoch),
          /epoch/,
        );
      }
    },
  );
});

Deno.test("after close frames pass unseen, even on taps that stay open", async () => {
  await withBench({ vms: [1, 2] }, async ({ tap, recorder, plan, notes }) => {
    tap(1).send(testFrame(macOf(1), "before"));
    await tap(2).payloads(1);
    const counters = recorder.counters();
    await recorder.close();
    await recorder.close();
    tap(1).send(testFrame(macOf(1), "after"));
    assert.deepEqual(await tap(2).payloads(1), ["after"]);
    assert.deepEqual(recorder.counters(), counters);
    assert.throws(() => recorder.drain(notes), /closed/);
    assert.throws(() => recorder.tick(1), /closed/);
    assert.throws(() => Deno.statSync(namesOf(plan.run).pins), Deno.errors.NotFound);
  });
});

Deno.test("a recorder can be armed again after close, and not twice at a time", async () => {
  const plan: NetworkPlan = {
    run: freshRun(),
    vms: [1, 2].map((n) => ({ number: n, name: `v${n}` })),
  };
  const network = await createNetwork(plan);
  try {
    const first = await armRecorder(network, plan);
    await assert.rejects(armRecorder(network, plan), /has a recorder, or a crash left one/);
    await first.close();
    const second = await armRecorder(network, plan);
    const taps = await openTaps(network, [1, 2]);
    taps[0]!.send(testFrame(macOf(1), "x"));
    assert.deepEqual(await taps[1]!.payloads(1), ["x"]);
    const notes = new Notes();
    assert.equal(second.drain(notes), 2);
    taps.forEach((tap) => tap[Symbol.dispose]());
    await second.close();
  } finally {
    await network.remove();
  }
});

Deno.test("a recorder closes after its network is gone", async () => {
  const plan: NetworkPlan = { run: freshRun(), vms: [{ number: 1, name: "one" }] };
  const network = await createNetwork(plan);
  try {
    const recorder = await armRecorder(network, plan);
    await network.remove();
    await recorder.close();
    assert.equal(recorder.counters().sent, 0n);
  } finally {
    await network.remove();
  }
});

Deno.test("arming a network whose tap is open fails, says why, and leaves nothing", async () => {
  const plan: NetworkPlan = {
    run: freshRun(),
    vms: [1, 2].map((n) => ({ number: n, name: `v${n}` })),
  };
  const network = await createNetwork(plan);
  try {
    const [tap] = await openTaps(network, [2]);
    try {
      await assert.rejects(
        armRecorder(network, plan),
        (error: unknown) =>
          error instanceof HostError && error.code === 16 &&
          /before QEMU starts/.test(error.message),
      );
      const devices = await run([...network.enter, "tc", "qdisc", "show"]);
      assert.equal(devices.includes("clsact"), false);
      assert.throws(() => Deno.statSync(namesOf(plan.run).pins), Deno.errors.NotFound);
    } finally {
      tap![Symbol.dispose]();
    }
  } finally {
    await network.remove();
  }
});

Deno.test("sizes that no ring or array can have are refused", async () => {
  const plan: NetworkPlan = { run: freshRun(), vms: [] };
  const nothing = async () => {};
  const network: Network = {
    netns: "",
    enter: [],
    notes: [],
    tapOf: () => "",
    cut: nothing,
    remove: nothing,
  };
  for (
    const options of [{ ringBytes: 2048 }, { ringBytes: 5000 }, { inFlight: 3 }, { inFlight: 0 }]
  ) {
    await assert.rejects(armRecorder(network, plan, options), /not a power of two/);
  }
});
