/** Links in real time, over channels in one process: who connects, what ends them, how long a frame takes. */
import assert from "node:assert/strict";
import { PeerFailedError, ProtocolError } from "../../lib/errors.ts";
import type { Channel } from "../../lib/protocol/channel.ts";
import {
  encodeLinkMessage,
  LINK_KINDS,
  type LinkMessage,
} from "../../lib/protocol/link_messages.ts";
import type { LogCensus } from "../../lib/roles/log_census.ts";
import { type LinksOptions, ReplayLinks } from "./replay_links.ts";

type Body = { kind: number; body: Uint8Array };

/** A channel in this process: in order, and lossless until it is closed. */
class LocalChannel implements Channel {
  readonly peer;
  readonly closed: Promise<void>;
  other!: LocalChannel;
  /** Takes messages and delivers none. */
  mute = false;
  #inbox: Body[] = [];
  #reader: ((next: Body | undefined) => void) | undefined;
  #open = true;
  readonly #setClosed: () => void;

  constructor(name: string) {
    this.peer = { role: "agent" as const, name, serial: name };
    const { promise, resolve } = Promise.withResolvers<void>();
    this.closed = promise;
    this.#setClosed = resolve;
  }

  static pair(near: string, far: string): [LocalChannel, LocalChannel] {
    const [a, b] = [new LocalChannel(far), new LocalChannel(near)];
    a.other = b;
    b.other = a;
    return [a, b];
  }

  get isOpen(): boolean {
    return this.#open;
  }

  // deno-lint-ignore require-await -- a channel's calls are asynchronous
  async send(kind: number, body: Uint8Array): Promise<void> {
    if (!this.#open) throw new Error("closed");
    if (!this.mute) this.other.#take({ kind, body: body.slice() });
  }

  #take(message: Body): void {
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader === undefined) this.#inbox.push(message);
    else reader(message);
  }

  receive(): Promise<Body | undefined> {
    const next = this.#inbox.shift();
    if (next !== undefined || !this.#open) return Promise.resolve(next);
    return new Promise((resolve) => this.#reader = resolve);
  }

  close(): void {
    for (const end of [this, this.other]) {
      if (!end.#open) continue;
      end.#open = false;
      end.#reader?.(undefined);
      end.#setClosed();
    }
  }
}

/** A log with one cut that received `numbers` of VM `source`. */
function census(source: number, numbers: readonly number[]): LogCensus {
  return {
    receives: {
      lamports: BigUint64Array.from(numbers, (_, i) => BigInt(i + 1)),
      icounts: Float64Array.from(numbers, (_, i) => i),
      sources: Float64Array.from(numbers, () => source),
      numbers: Float64Array.from(numbers),
      lastInside: Float64Array.from(numbers, (_, i) => i),
    },
    sendTimes: new BigUint64Array(0),
    cuts: [{ epoch: 1, icount: 1, receives: 0, insideBefore: 1, insideAfter: 1 }],
    bytes: 0,
    checks: [],
    complete: true,
    icount: 10,
    poweroffAt: Infinity,
  };
}

/** Host "a" with VM 1, host "b" with VM 2, which needs `numbers` of VM 1. */
async function withHosts(
  numbers: readonly number[],
  work: (
    a: ReplayLinks,
    b: ReplayLinks,
    channels: LocalChannel[],
    signal: AbortSignal,
  ) => Promise<void>,
  { runOfB = "run", limits = {} as LinksOptions["limits"] } = {},
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clrr-links-" });
  const channels: LocalChannel[] = [];
  const connecting = new Set<string>();
  const make = (name: "a" | "b", runId: string): ReplayLinks => {
    const [vm, peer] = name === "a" ? [1, "b"] : [2, "a"];
    const spoolDirectory = `${directory}/${name}`;
    Deno.mkdirSync(spoolDirectory);
    return new ReplayLinks({
      runId,
      name,
      peers: [{ name: peer, vms: [3 - vm] }],
      censuses: new Map([[vm, census(3 - vm, name === "b" ? numbers : [])]]),
      spoolDirectory,
      windowEpochs: 1,
      limits: { reconnectMs: 1, ...limits },
      connect: (to) => {
        connecting.add(`${name} to ${to}`);
        const [near, far] = LocalChannel.pair(name, to);
        channels.push(near);
        b.accept(far);
        return Promise.resolve(near);
      },
    });
  };
  const b = make("b", runOfB);
  const a = make("a", "run");
  try {
    b.start();
    a.start();
    await work(a, b, channels, AbortSignal.timeout(20_000));
    assert.deepEqual([...connecting], ["a to b"], "the lower name connects");
  } finally {
    a.close();
    b.close();
    await Deno.remove(directory, { recursive: true });
  }
}

async function until(condition: () => boolean, links: ReplayLinks): Promise<void> {
  const end = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < end, "it never came to that");
    await Promise.race([links.elsewhere.news(), new Promise((r) => setTimeout(r, 1))]);
  }
}

const bytes = (n: number, length = 60) => new Uint8Array(length).fill(n + 1);

Deno.test("links: frames come over, and only those that are needed; both ends say when they are done", () =>
  withHosts([0, 2, 2, 3], async (a, b, _channels, signal) => {
    await until(() => a.elsewhere.mayFeed(1), a);
    for (let n = 0; n < 5; n++) a.frames.add(1, bytes(n));
    await until(() => b.frames.arrived(1) === 4, b);
    for (const n of [0, 2, 2, 3]) assert.deepEqual(b.frames.take(1, n), bytes(n));
    await until(() => a.counters()[0]!.unacknowledgedBytes === 0, a);
    const [sent, received] = [a.counters()[0]!, b.counters()[0]!];
    assert.deepEqual([sent.framesSent, sent.bytesSent, sent.open], [3, 180, true]);
    assert.deepEqual([received.framesReceived, received.bytesReceived], [3, 180]);
    assert.equal(a.window.enter(1, 1), true);
    assert.equal(b.elsewhere.sentAtEnd(1), undefined);
    a.elsewhere.ended(1, 5);
    a.done();
    await until(() => b.elsewhere.sentAtEnd(1) === 5, b);
    assert.equal(b.elsewhere.logsComplete(), true);
    b.elsewhere.ended(2, 0);
    b.done();
    await Promise.all([a.settled(signal), b.settled(signal)]);
  }));

Deno.test("links: a broken connection is made again, and what was under way comes", () =>
  withHosts([0, 1, 2], async (a, b, channels) => {
    await until(() => a.elsewhere.mayFeed(1), a);
    a.frames.add(1, bytes(0));
    await until(() => b.frames.arrived(1) === 1, b);
    channels[0]!.mute = true;
    a.frames.add(1, bytes(1));
    await new Promise((resolve) => setTimeout(resolve, 5));
    channels[0]!.close();
    assert.equal(b.elsewhere.movedElsewhere(), true);
    a.frames.add(1, bytes(2));
    await until(() => b.frames.arrived(1) === 3, b);
    assert.deepEqual(b.frames.take(1, 1), bytes(1));
    const { reconnects, retransmissions, framesSent } = a.counters()[0]!;
    assert.equal(reconnects, 1);
    assert.ok(retransmissions >= 1);
    assert.equal(framesSent, 3 + retransmissions);
  }));

Deno.test("links: a channel that has gone silent is closed, and another one made", () =>
  withHosts([0], async (a, b, channels) => {
    await until(() => a.elsewhere.mayFeed(1), a);
    for (const end of [channels[0]!, channels[0]!.other]) end.mute = true;
    a.frames.add(1, bytes(0));
    await until(() => b.frames.arrived(1) === 1, b);
    assert.equal(channels[0]!.isOpen, false);
  }, { limits: { deadMs: 60, pingMs: 20 } }));

Deno.test("links: over its bound a link holds the VMs back that feed it", () =>
  withHosts([0, 1], async (a, b, channels) => {
    await until(() => a.elsewhere.mayFeed(1), a);
    channels[0]!.other.mute = true; // no acknowledgement comes
    a.frames.add(1, bytes(0));
    assert.equal(a.elsewhere.mayFeed(1), true);
    a.frames.add(1, bytes(1));
    assert.equal(a.elsewhere.mayFeed(1), false);
    await until(() => b.frames.arrived(1) === 2, b);
    assert.equal(a.elsewhere.mayFeed(1), false);
    channels[0]!.close();
    await until(() => a.elsewhere.mayFeed(1), a);
  }, { limits: { unacknowledgedBytesMax: 100 } }));

Deno.test("links: what moves on another host, or cannot be heard, is no stall", () =>
  withHosts([0], async (a, b, channels) => {
    await until(() => a.elsewhere.mayFeed(1) && b.elsewhere.mayFeed(2), a);
    assert.equal(b.elsewhere.movedElsewhere(), true);
    assert.equal(b.elsewhere.movedElsewhere(), true, "its VMs have not begun");
    a.elsewhere.moved();
    await until(() => !b.elsewhere.movedElsewhere(), b);
    await new Promise((resolve) => setTimeout(resolve, 30));
    assert.equal(b.elsewhere.movedElsewhere(), false, "pings alone are no news");
    a.elsewhere.moved();
    await until(() => b.elsewhere.movedElsewhere(), b);
    assert.equal(b.elsewhere.movedElsewhere(), false);
    channels[0]!.close();
    await until(() => b.elsewhere.movedElsewhere(), b); // it cannot be heard
  }, { limits: { pingMs: 10, deadMs: 1000 } }));

Deno.test("links: a failure on one host is the reason on the other", () =>
  withHosts([0], async (a, b) => {
    await until(() => a.elsewhere.mayFeed(1), a);
    await a.fail("VM 1 diverged");
    await until(() => {
      try {
        b.elsewhere.check();
        return false;
      } catch (error) {
        assert.ok(error instanceof PeerFailedError);
        return error.peer === "a" && error.reason === "VM 1 diverged";
      }
    }, b);
  }));

Deno.test("links: another run's link fails the replay", () =>
  withHosts([0], async (a, b) => {
    await until(() => {
      try {
        b.elsewhere.check();
        return false;
      } catch (error) {
        return error instanceof ProtocolError && /of run run, not of other/.test(error.message);
      }
    }, b);
    assert.throws(() => a.elsewhere.check(), /of run other, not of run/);
  }, { runOfB: "other" }));

Deno.test("links: a peer that never comes ends the replay after a time", () =>
  withHosts([0], async (a, b, channels) => {
    await until(() => channels.length > 0, a);
    b.close();
    await until(() => {
      try {
        a.elsewhere.check();
        return false;
      } catch (error) {
        return error instanceof PeerFailedError && /has not been reached/.test(error.message);
      }
    }, a);
  }, { limits: { peerLostMs: 100, deadMs: 20 } }));

Deno.test("links: strangers, and peers that should be connected to, are not accepted", () =>
  withHosts([0], async (a, b) => {
    await until(() => a.elsewhere.mayFeed(1), a);
    for (const [links, name] of [[a, "b"], [b, "stranger"]] as const) {
      const [near, far] = LocalChannel.pair(name, "x");
      links.accept(far);
      assert.equal(near.isOpen, false);
    }
    assert.equal(a.counters()[0]!.open, true);
  }));

Deno.test("links: a message out of place ends the replay on both hosts", async () => {
  const wrong: [LinkMessage, RegExp][] = [
    [{ type: "open", runId: "run", incarnation: 1 }, /"open" on a link that is open/],
    [{ type: "acknowledge", vm: 2, count: 9 }, /9 frames of VM 2 are acknowledged/],
    [{
      type: "progress",
      vm: 7,
      serial: 1,
      epoch: 0,
      away: false,
      ended: false,
      sent: 0,
    }, /VM 7 is not on host a/],
  ];
  for (const [message, shows] of wrong) {
    await withHosts([0], async (a, b, channels) => {
      await until(() => a.elsewhere.mayFeed(1) && b.elsewhere.mayFeed(2), a);
      const { kind, body } = encodeLinkMessage(message);
      await channels[0]!.send(kind, body);
      for (const links of [b, a]) {
        await until(() => {
          try {
            links.elsewhere.check();
            return false;
          } catch (error) {
            return shows.test(String(error));
          }
        }, links);
      }
    });
  }
});

Deno.test("links: a channel whose first message was read elsewhere is taken over", () =>
  withHosts([0], async (a, b) => {
    await until(() => a.elsewhere.mayFeed(1), a);
    const [near, far] = LocalChannel.pair("a", "b");
    const { kind, body } = encodeLinkMessage({ type: "open", runId: "run", incarnation: 5 });
    b.accept(far, { kind, body });
    const first = await near.receive();
    assert.equal(first?.kind, LINK_KINDS.open);
  }));

Deno.test("links: a frame takes well below half a millisecond in one process", () => {
  const frames = 400;
  const numbers = Array.from({ length: frames }, (_, i) => i);
  return withHosts(numbers, async (a, b) => {
    await until(() => a.elsewhere.mayFeed(1), a);
    const times: number[] = [];
    for (const n of numbers) {
      const news = b.elsewhere.news();
      const start = performance.now();
      a.frames.add(1, bytes(n, 1000));
      await news;
      while (b.frames.take(1, n) === undefined) await b.elsewhere.news();
      times.push(performance.now() - start);
    }
    times.sort((x, y) => x - y);
    const median = times[frames / 2]!;
    console.log(`median ${(1000 * median).toFixed(0)} µs`);
    assert.ok(median < 0.5, `${median} ms`);
  });
});
