/** One end of a link beside the other: in which order it says what is due. */
import assert from "node:assert/strict";
import type { LinkMessage } from "../../lib/protocol/link_messages.ts";
import { SharedWindow } from "../../lib/roles/shared_window.ts";
import { type FrameStore, LinkReceiver } from "./link_receiver.ts";
import { LinkSender } from "./link_sender.ts";
import { PeerLink } from "./peer_link.ts";
import { WantedFrames } from "./wanted_frames.ts";

const LIMITS = { unacknowledgedBytesMax: 1000, resendAfterMs: 1000, resendAfterMsMax: 1000 };
const LOG = { cuts: [], lastReceive: 0, complete: true };
const FRAME = Uint8Array.of(1, 2, 3);

/** Counts, and keeps nothing. */
class CountingStore implements FrameStore {
  bytes = 0;
  #count = 0;
  count(): number {
    return this.#count;
  }
  append(): void {
    this.#count++;
  }
  read(): undefined {
    return undefined;
  }
  close(): void {}
}

/** The end of the host with VM `own`, which needs four frames of VM `other`. */
function endOf(own: number, other: number): PeerLink {
  const vms = new Map([[own, LOG]]);
  const link = new PeerLink(
    { name: `host${other}`, vms: [other] },
    { runId: "run", incarnation: 1, vms, state: "running", text: "", moves: 0 },
    new SharedWindow(vms, [other], 1, 0, () => {}),
    new LinkSender([own], LIMITS),
    new LinkReceiver(new Map([[other, WantedFrames.ofUses([1, 1, 1, 1])]]), new CountingStore()),
    10_000,
  );
  link.connected(0);
  return link;
}

/** Everything that `link` has to say now. */
function sayAll(link: PeerLink, now: number): LinkMessage[] {
  const said: LinkMessage[] = [];
  for (let message; (message = link.next(now)) !== undefined;) said.push(message);
  return said;
}

/** Two ends that have said all they have to say at first. */
function openPair(): [PeerLink, PeerLink] {
  const [a, b] = [endOf(1, 2), endOf(2, 1)];
  for (let i = 0; i < 4; i++) {
    for (const message of sayAll(a, 0)) b.receive(message, 0);
    for (const message of sayAll(b, 0)) a.receive(message, 0);
  }
  assert.ok(a.isOpen && b.isOpen);
  return [a, b];
}

const typesOf = (messages: readonly LinkMessage[]) => messages.map(({ type }) => type);

Deno.test("an acknowledgement goes behind the frame that answers, not before it", () => {
  const [a, b] = openPair();
  a.sender.add(1, 0, FRAME);
  for (const message of sayAll(a, 1)) b.receive(message, 1);
  assert.deepEqual(sayAll(b, 1), [], "nothing goes at once");
  b.sender.add(2, 0, FRAME);
  const said = sayAll(b, 1.5);
  assert.deepEqual(typesOf(said), ["frame", "acknowledge"]);
  for (const message of said) a.receive(message, 2);
  assert.equal(a.sender.unacknowledgedBytes, 0);
  assert.deepEqual(typesOf(sayAll(b, 100)), [], "it is said once");
});

Deno.test("an acknowledgement without a frame that it could go with waits 2 ms, for several frames", () => {
  const [a, b] = openPair();
  for (let n = 0; n < 2; n++) {
    a.sender.add(1, n, FRAME);
    for (const message of sayAll(a, 1 + n)) b.receive(message, 1 + n);
  }
  assert.deepEqual(sayAll(b, 2.9), []);
  assert.equal(b.dueAt, 3);
  assert.deepEqual(sayAll(b, 3), [{ type: "acknowledge", vm: 1, count: 2 }]);
  assert.ok(b.dueAt > 1000, "until the next ping");
});
