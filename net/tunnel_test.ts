/** Frames between hosts on a real kernel: what a VM gets, and what the recorders say of it. */
import assert from "node:assert/strict";
import { hashKeyed } from "../lib/roles/keyed_hash.ts";
import { run } from "../host/command.ts";
import { namesOf } from "./names.ts";
import { freshUplinkAddress, macOf, openPacketSocket, testFrame } from "./tap_fixture.ts";
import {
  exchange,
  planSite,
  randomFrame,
  type Site,
  tunnelLosses,
  UPLINK_MAC,
  withTunnels,
} from "./tunnel_fixture.ts";
import { armRecorder, type Recorder } from "./bpf/recorder.ts";
import { createNetwork } from "./topology.ts";

/** An IPv6 packet. */
function ipv6(from: number, to: number, length: number): Uint8Array<ArrayBuffer> {
  const frame = randomFrame(from, to, length);
  frame.set([0x86, 0xdd, 0x60, 0, 0, 0, (length - 54) >> 8, (length - 54) & 255, 17, 64], 12);
  frame.set([0x20, 1, 0xd, 0xb8, 0, 0, 0, from], 22);
  frame.set([0x20, 1, 0xd, 0xb8, 0, 0, 0, to], 38);
  return frame;
}

/** An IPv4 packet that must not be fragmented, as every TCP segment is one. */
function unfragmentable(from: number, to: number, length: number): Uint8Array<ArrayBuffer> {
  const frame = randomFrame(from, to, length);
  frame.set([8, 0, 0x45, 0, (length - 14) >> 8, (length - 14) & 255, 0, 1, 0x40, 0, 64, 17], 12);
  frame.set([198, 51, 100, from, 198, 51, 100, to], 26);
  return frame;
}

/** The frame with 802.1Q tags behind its addresses, the outermost first. */
function tagged(frame: Uint8Array, ...vlans: number[]): Uint8Array<ArrayBuffer> {
  const tags = vlans.flatMap((vlan) => [0x81, 0, 0xa0 | vlan >> 8, vlan & 255]);
  return Uint8Array.from([...frame.subarray(0, 12), ...tags, ...frame.subarray(12)]);
}

/** Lets larger frames than Ethernet's through bridges and tunnels. */
async function raiseMtu(sites: readonly Site[], mtu: number): Promise<void> {
  for (const { network, plan } of sites) {
    for (const device of [network.tapOf(plan.vms[0]!.number), namesOf(plan.run).tunnel]) {
      await run([...network.enter, "ip", "link", "set", device, "mtu", `${mtu}`]);
    }
  }
}

Deno.test("frames of every length reach a VM of another host as the frames they are", async () => {
  await withTunnels({ vms: [[1], [2]] }, async (bench) => {
    const { tap, notesOf, cookie } = bench;
    let n = 0;
    for (let length = 14; length <= 1518; length++) {
      const frame = randomFrame(1, 2, length);
      tap(1).send(frame);
      assert.deepEqual(await tap(2).receive(), frame);
      const delivery = notesOf(2).deliveriesTo(2).at(-1)!;
      const { source, sendNumber, remoteHash } = delivery;
      assert.deepEqual([delivery.n, source, sendNumber, delivery.length], [n, 1, n, length]);
      assert.equal(remoteHash, hashKeyed(frame, cookie), `hash of ${length} bytes`);
      n++;
    }
    const sent = notesOf(1).sendsOf(1);
    for (const [i, { lamport }] of notesOf(2).deliveriesTo(2).entries()) {
      assert.ok(lamport > sent[i]!.lamport, "received after it was sent");
    }
    assert.deepEqual(tunnelLosses(bench), [[0n, 0n, 0n], [0n, 0n, 0n]]);
    const [out, back] = bench.sites.map(({ recorder }) => recorder.counters().tunnel!);
    assert.deepEqual([out!.out, out!.in, back!.out, back!.in], [1505n, 0n, 0n, 1505n]);
  });
});

Deno.test("a packet that must not be fragmented passes an underlay with an MTU of 1500", async () => {
  await withTunnels({ vms: [[1], [2]] }, async (bench) => {
    const { tap } = bench;
    for (const make of [unfragmentable, ipv6]) {
      for (const length of [1300, 1390, 1400, 1410, 1500, 1514]) {
        const frame = make(1, 2, length);
        tap(1).send(frame);
        assert.deepEqual(await tap(2).receive(), frame, `${make.name} of ${length} bytes`);
      }
    }
    assert.equal(tap(1).poll(), undefined, "nobody answers");
    assert.deepEqual(tunnelLosses(bench), [[0n, 0n, 0n], [0n, 0n, 0n]]);
  });
});

Deno.test("VLAN tags pass and are hashed; a frame too long for a hash passes without one", async () => {
  await withTunnels({ vms: [[1], [2]] }, async (bench) => {
    const { tap, notesOf, cookie, sites } = bench;
    const plain = [60, 61, 1000, 1514].map((length) => randomFrame(1, 2, length));
    for (const frame of plain.flatMap((one) => [tagged(one, 7), tagged(one, 2000, 7)])) {
      tap(1).send(frame);
      assert.deepEqual(await tap(2).receive(), frame);
      const { length, remoteHash, source } = notesOf(2).deliveriesTo(2).at(-1)!;
      assert.deepEqual([source, length, remoteHash], [1, frame.length, hashKeyed(frame, cookie)]);
    }
    await raiseMtu(sites, 4000);
    for (const length of [1522, 1523, 3000]) {
      const frame = randomFrame(1, 2, length);
      tap(1).send(frame);
      assert.deepEqual(await tap(2).receive(), frame);
      const { source, remoteHash } = notesOf(2).deliveriesTo(2).at(-1)!;
      assert.deepEqual([source, remoteHash], [1, hashKeyed(frame, cookie)]);
      assert.equal(remoteHash === undefined, length > 1522);
    }
  });
});

Deno.test("a frame that takes no trailer is dropped and counted", async () => {
  await withTunnels({ vms: [[1], [2]] }, async (bench) => {
    const { tap, sites } = bench;
    await raiseMtu(sites, 40_000);
    tap(1).send(randomFrame(1, 2, 30_000)); // more than the kernel lets a program make
    tap(1).send(testFrame(macOf(1), "next", macOf(2)));
    assert.deepEqual(await tap(2).payloads(1), ["next"]);
    assert.deepEqual(tunnelLosses(bench), [[0n, 1n, 0n], [0n, 0n, 0n]]);
    assert.equal(sites[0]!.recorder.counters().tunnel!.out, 1n);
  });
});

Deno.test("of three hosts a broadcast reaches all, a unicast only the one that has the VM", async () => {
  await withTunnels({ vms: [[1, 2], [130, 199], [200]] }, async (bench) => {
    const { tap, notesOf, sites } = bench;
    tap(130).send(testFrame(macOf(130), "all"));
    for (const vm of [1, 2, 199, 200]) {
      assert.deepEqual(await tap(vm).payloads(1), ["all"]);
      assert.deepEqual(notesOf(vm).identitiesTo(vm), [[0, 130, 0]]);
      const { lamport, remoteHash } = notesOf(vm).deliveriesTo(vm)[0]!;
      assert.equal(lamport, 2n);
      assert.equal(remoteHash === undefined, vm === 199, "a hash only from another host");
    }
    const before = sites[1]!.recorder.counters().tunnel!.in;
    tap(1).send(testFrame(macOf(1), "for 200", macOf(200)));
    assert.deepEqual(await tap(200).payloads(1), ["for 200"]);
    assert.deepEqual(notesOf(200).identitiesTo(200).at(-1), [1, 1, 0]);
    // Its clock was at 2: sent at 3, received at 4.
    assert.equal(notesOf(200).deliveriesTo(200).at(-1)!.lamport, 4n);
    assert.equal(sites[1]!.recorder.counters().tunnel!.in, before);
    assert.equal(sites[0]!.recorder.counters().tunnel!.out, 1n);
    assert.deepEqual(tunnelLosses(bench), [[0n, 0n, 0n], [0n, 0n, 0n], [0n, 0n, 0n]]);
  });
});

Deno.test("a clock that is an epoch ahead raises the clock of the receiver on another host", async () => {
  await withTunnels({ vms: [[1], [2]] }, async ({ tap, notesOf, sites }) => {
    sites[0]!.recorder.tick(3);
    tap(1).send(testFrame(macOf(1), "ahead", macOf(2)));
    await tap(2).payloads(1);
    assert.equal(notesOf(1).sendsOf(1)[0]!.lamport, (3n << 40n) + 1n);
    assert.equal(notesOf(2).deliveriesTo(2)[0]!.lamport, (3n << 40n) + 2n);
    tap(2).send(testFrame(macOf(2), "back", macOf(1)));
    await tap(1).payloads(1);
    assert.equal(notesOf(1).deliveriesTo(1)[0]!.lamport, (3n << 40n) + 4n);
  });
});

Deno.test("thousands of frames both ways at once keep their identity and their order in time", async () => {
  await withTunnels({ vms: [[1, 2], [3]] }, async (bench) => {
    const COUNT = 3000;
    const { got } = await exchange(bench, [1, 2, 3], COUNT);
    for (const vm of [1, 2, 3]) {
      assert.equal(got.get(vm)!.length, 2 * COUNT, `VM ${vm} got everything`);
    }
    assert.deepEqual(tunnelLosses(bench), [[0n, 0n, 0n], [0n, 0n, 0n]]);
  });
});

Deno.test("frames of the uplink's host are external on every host, and go back only there", async () => {
  const uplink = freshUplinkAddress();
  await withTunnels({ vms: [[1], [2], [3]], uplink }, async (bench) => {
    const { tap, notesOf, sites } = bench;
    const { host, plan } = sites[0]!;
    const netns = `/run/netns/${host.netns}`;
    using outside = openPacketSocket(netns, namesOf(plan.run).uplink);
    outside.send(testFrame(UPLINK_MAC, "in"));
    for (const vm of [1, 2, 3]) {
      assert.deepEqual(await tap(vm).payloads(1), ["in"]);
      assert.deepEqual(notesOf(vm).identitiesTo(vm), [[0, 0, -1]]);
      assert.equal(notesOf(vm).deliveriesTo(vm)[0]!.remoteHash, undefined);
    }
    tap(3).send(testFrame(macOf(3), "out", UPLINK_MAC));
    assert.deepEqual(await outside.payloads(1), ["out"]);
    assert.equal(sites[1]!.recorder.counters().tunnel!.in, 1n, "host 2 has seen the first only");
  });
});

Deno.test("frames of strangers are dropped and counted, also with the right VNI", async () => {
  const setup = { vms: [[1], [2]], strangers: 1 };
  await withTunnels(setup, async ({ tap, notesOf, sites, underlay, cookie }) => {
    const stranger = underlay.hosts[2]!;
    const foreign = planSite({ vms: [[1], [2], [77]] }, underlay.hosts, 2, cookie ^ 1n);
    const network = await stranger.act(() => createNetwork(foreign));
    let recorder: Recorder | undefined;
    try {
      // Straight out of the VXLAN device, and with a trailer of another recording.
      using raw = openPacketSocket(network.netns, namesOf(foreign.run).tunnel);
      for (const text of ["raw", "x".repeat(200)]) raw.send(testFrame(macOf(77), text, macOf(2)));
      raw.send(new Uint8Array(14).fill(2)); // for nobody in particular: goes to both hosts
      recorder = await armRecorder(network, foreign);
      using bridged = openPacketSocket(network.netns, namesOf(foreign.run).bridge);
      bridged.send(testFrame(macOf(77), "stamped", macOf(2)));
      assert.equal(recorder.counters().tunnel!.out, 1n);
      tap(1).send(testFrame(macOf(1), "ours", macOf(2)));
      assert.deepEqual(await tap(2).payloads(1), ["ours"]);
    } finally {
      await recorder?.close();
      await stranger.act(() => network.remove());
    }
    assert.equal(tap(2).poll(), undefined);
    assert.deepEqual(notesOf(2).identitiesTo(2), [[0, 1, 0]]);
    const { foreign: dropped, in: taken } = sites[1]!.recorder.counters().tunnel!;
    assert.deepEqual([dropped, taken], [4n, 1n]);
    assert.equal(sites[0]!.recorder.counters().tunnel!.foreign, 1n);
  });
});

Deno.test("loss, duplicates and another order on the way change no frame's identity", async () => {
  await withTunnels({ vms: [[1], [2]] }, async (bench) => {
    const { sites, underlay } = bench;
    const [one, two] = underlay.hosts;
    const COUNT = 3000;
    for (const { netns, device } of [one!, two!]) {
      const rules = `table ip faults {
        chain loss { type filter hook prerouting priority raw
          ip protocol udp numgen random mod 100 < 5 drop
        }
        chain order { type route hook output priority raw
          meta l4proto udp meta priority set numgen random mod 2 map { 0 : 1:1, 1 : 1:2 }
        }
      }`;
      const queues = [
        `qdisc add dev ${device} root handle 1: htb default 1`,
        `class add dev ${device} parent 1: classid 1:1 htb rate 1gbit`,
        `class add dev ${device} parent 1: classid 1:2 htb rate 40mbit burst 15kb`,
      ];
      const enter = ["ip", "netns", "exec", netns];
      await run([...enter, "nft", "-f", "-"], { stdin: rules });
      await run(["tc", "-n", netns, "-batch", "-"], { stdin: queues.join("\n") });
    }
    const copies = `table netdev faults {
      chain copies { type filter hook ingress device ${one!.port} priority 0
        ip protocol udp numgen random mod 100 < 5 dup to ${two!.port}
      }
    }`;
    await run(["ip", "netns", "exec", underlay.netns, "nft", "-f", "-"], { stdin: copies });
    const { got } = await exchange(bench, [1, 2], COUNT, { lossy: true, bytes: 1400 });
    const numbersOf = (vm: number) => got.get(vm)!.map((text) => Number(text.split(":")[1]));
    for (const vm of [1, 2]) {
      const numbers = numbersOf(vm);
      assert.ok(new Set(numbers).size < COUNT * 0.99, "some are lost");
      assert.ok(numbers.some((n, i) => i > 0 && n < numbers[i - 1]!), "some are out of order");
    }
    const twice = numbersOf(2);
    assert.ok(new Set(twice).size < twice.length, "some come twice");
    assert.deepEqual(tunnelLosses(bench), [[0n, 0n, 0n], [0n, 0n, 0n]]);
    assert.ok(sites[1]!.recorder.counters().tunnel!.in > 1000n);
  });
});

Deno.test("after close no frame passes between the hosts", async () => {
  await withTunnels({ vms: [[1], [2]] }, async ({ tap, sites }) => {
    tap(1).send(testFrame(macOf(1), "before", macOf(2)));
    assert.deepEqual(await tap(2).payloads(1), ["before"]);
    await sites[1]!.recorder.close();
    assert.equal(sites[1]!.recorder.counters().tunnel!.in, 1n);
    tap(1).send(testFrame(macOf(1), "after", macOf(2)));
    await assert.rejects(tap(2).receive(200), /no frame/);
  });
});
