import assert from "node:assert/strict";
import { hashKeyed } from "../lib/roles/keyed_hash.ts";
import { macOf, testFrame } from "./tap_fixture.ts";
import { type TunnelBench, withTunnels } from "./tunnel_fixture.ts";

/** A frame of `length` bytes with random content. */
function randomFrame(from: number, to: number, length: number): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(length);
  crypto.getRandomValues(frame);
  frame.set(testFrame(macOf(from), "", macOf(to)).subarray(0, 14));
  return frame;
}

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

const failures = ({ sites }: TunnelBench) =>
  sites.map(({ recorder }) => {
    const { foreign, failedOut, failedIn } = recorder.counters().tunnel!;
    return [foreign, failedOut, failedIn];
  });

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
    assert.deepEqual(failures(bench), [[0n, 0n, 0n], [0n, 0n, 0n]]);
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
    assert.deepEqual(failures(bench), [[0n, 0n, 0n], [0n, 0n, 0n]]);
  });
});
