/** Calls both ways over channels in memory, and what a peer that does not keep to the protocol gets. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { z } from "zod";
import { ClusterrrError, DivergenceError, ProtocolError, RemoteError } from "../errors.ts";
import type { Channel, PeerIdentity } from "./channel.ts";
import { BINARY_BYTES_MAX, JSON_KIND } from "./framing.ts";
import { channelPair } from "./memory_channel.ts";
import { CALLS_MAX, type Handlers, startRpc } from "./rpc.ts";

const COORDINATOR: PeerIdentity = { role: "coordinator", name: "coordinator", serial: "1" };
const AGENT: PeerIdentity = { role: "agent", name: "left", serial: "2a" };

const AGENT_METHODS = {
  double: { params: z.strictObject({ n: z.int() }), result: z.int() },
  wait: { params: z.strictObject({}), result: z.null() },
  fail: { params: z.strictObject({ how: z.string() }), result: z.null() },
  large: { params: z.strictObject({}), result: z.string() },
  note: { params: z.strictObject({ text: z.string() }) },
};
const COORDINATOR_METHODS = {
  whoAmI: { params: z.strictObject({}), result: z.string() },
};

const DIVERGENCE = {
  vm: "left",
  instructionCount: 123_456_789_012_345_678n,
  sendNumber: 7,
  what: "a frame",
  expected: "00",
  actual: "01",
  likelyCause: "none",
};

function agentHandlers() {
  const notes: string[] = [];
  const aborted: unknown[] = [];
  const handlers: Handlers<typeof AGENT_METHODS> = {
    double: ({ n }) => Promise.resolve(2 * n),
    wait: (_, { signal }) =>
      new Promise((_resolve, reject) =>
        signal.addEventListener("abort", () => {
          aborted.push(signal.reason);
          reject(signal.reason);
        })
      ),
    fail: ({ how }) => {
      if (how === "divergence") throw new DivergenceError(DIVERGENCE);
      if (how === "type") return 5 as unknown as null;
      throw new ClusterrrError("the disk is full");
    },
    large: () => "x".repeat(2 << 20),
    note: ({ text }) => void notes.push(text),
  };
  return { handlers, notes, aborted };
}

function pair() {
  const [ofCoordinator, ofAgent] = channelPair(COORDINATOR, AGENT);
  const agent = agentHandlers();
  const atAgent = startRpc(ofAgent, {
    serves: AGENT_METHODS,
    handlers: agent.handlers,
    calls: COORDINATOR_METHODS,
  });
  const atCoordinator = startRpc(ofCoordinator, {
    serves: COORDINATOR_METHODS,
    handlers: { whoAmI: (_, { peer }) => `${peer.role} ${peer.name} ${peer.serial}` },
    calls: AGENT_METHODS,
  });
  const end = async () => {
    atCoordinator.close();
    await Promise.all([atCoordinator.closed, atAgent.closed]);
  };
  return { atAgent, atCoordinator, ...agent, end };
}

/** A coordinator's RPC against an agent that is played by hand. */
function againstRaw() {
  const [ofCoordinator, raw] = channelPair(COORDINATOR, AGENT);
  const rpc = startRpc(ofCoordinator, {
    serves: { ...COORDINATOR_METHODS, seen: { params: z.strictObject({ n: z.int() }) } },
    handlers: { whoAmI: () => "x", seen: () => {} },
    calls: AGENT_METHODS,
  });
  return { rpc, raw };
}

const sendJson = (channel: Channel, value: unknown) =>
  channel.send(JSON_KIND, new TextEncoder().encode(JSON.stringify(value)));

async function receiveJson(channel: Channel): Promise<unknown> {
  const message = await channel.receive();
  assert.ok(message);
  assert.equal(message.kind, JSON_KIND);
  return JSON.parse(new TextDecoder().decode(message.body));
}

Deno.test("both sides call each other, many calls at once", async () => {
  const { atAgent, atCoordinator, end } = pair();
  const results = await Promise.all(
    Array.from({ length: 500 }, (_, n) => atCoordinator.call("double", { n })),
  );
  assert.deepEqual(results, Array.from({ length: 500 }, (_, n) => 2 * n));
  assert.equal(await atAgent.call("whoAmI", {}), "agent left 2a");
  assert.equal(atAgent.peer.role, "coordinator");
  await end();
});

Deno.test("notifications come in order and have no answer", async () => {
  const { atCoordinator, notes, end } = pair();
  for (let i = 0; i < 100; i++) await atCoordinator.notify("note", { text: `${i}` });
  await atCoordinator.call("double", { n: 1 });
  assert.deepEqual(notes, Array.from({ length: 100 }, (_, i) => `${i}`));
  await end();
});

Deno.test("errors cross with name, message and data", async () => {
  const { atCoordinator, end } = pair();
  const error = await atCoordinator.call("fail", { how: "disk" }).catch((error) => error);
  assert.ok(error instanceof RemoteError && error instanceof ClusterrrError);
  assert.equal(error.message, "the disk is full");
  assert.equal(error.remoteName, "ClusterrrError");
  assert.equal(error.peer, "agent left");

  const divergence = await atCoordinator.call("fail", { how: "divergence" }).catch((error) =>
    error
  );
  assert.ok(divergence instanceof DivergenceError);
  assert.deepEqual(divergence.divergence, DIVERGENCE);
  assert.equal(divergence.message, new DivergenceError(DIVERGENCE).message);
  await end();
});

Deno.test("a result that does not fit, or is too large, fails that call only", async () => {
  const { atCoordinator, end } = pair();
  await assert.rejects(atCoordinator.call("fail", { how: "type" }), /result of fail do not fit/);
  await assert.rejects(atCoordinator.call("large", {}), /above the bound of 1048576 bytes/);
  assert.equal(await atCoordinator.call("double", { n: 4 }), 8);
  await end();
});

Deno.test("parameters are checked before they leave", async () => {
  const { atCoordinator, end } = pair();
  await assert.rejects(atCoordinator.call("double", { n: 0.5 }), /parameters of double do not fit/);
  await assert.rejects(
    atCoordinator.notify("note", { text: 5 as unknown as string }),
    /parameters of note do not fit/,
  );
  await assert.rejects(
    atCoordinator.notify("note", { text: "x".repeat(2 << 20) }),
    /above the bound/,
  );
  await end();
});

Deno.test("a timeout and an abort end the call here and its handler there", async () => {
  const { atCoordinator, aborted, end } = pair();
  await assert.rejects(
    atCoordinator.call("wait", {}, { timeoutMs: 20 }),
    /^ClusterrrError: agent left did not answer wait within 0.02 s$/,
  );
  const controller = new AbortController();
  const call = atCoordinator.call("wait", {}, { signal: controller.signal, timeoutMs: Infinity });
  controller.abort(new Error("changed my mind"));
  await assert.rejects(call, /changed my mind/);
  await assert.rejects(
    atCoordinator.call("wait", {}, { signal: controller.signal }),
    /changed my mind/,
  );
  await atCoordinator.call("double", { n: 1 });
  assert.equal(aborted.length, 2, "the handlers' signals were aborted");
  await end();
});

Deno.test("closing rejects what is pending and aborts what runs, on both sides", async () => {
  const { atAgent, atCoordinator, aborted } = pair();
  const pending = atCoordinator.call("wait", {}, { timeoutMs: Infinity });
  await atCoordinator.call("double", { n: 1 });
  atAgent.close();
  await assert.rejects(pending, /The connection to agent left is closed; wait was not answered/);
  await atAgent.closed;
  assert.equal(aborted.length, 1);
  await assert.rejects(atCoordinator.call("double", { n: 1 }), /is closed/);
  await assert.rejects(atCoordinator.notify("note", { text: "" }), /is closed/);
  assert.equal(await atCoordinator.closed, undefined);
});

Deno.test("no more than CALLS_MAX calls wait, given up ones included", async () => {
  const { rpc, raw } = againstRaw();
  const controller = new AbortController();
  const calls = Array.from(
    { length: CALLS_MAX },
    () => rpc.call("wait", {}, { signal: controller.signal, timeoutMs: Infinity }),
  );
  const outcomes = Promise.allSettled(calls);
  controller.abort(new Error("given up"));
  assert.ok((await outcomes).every(({ status }) => status === "rejected"));
  await assert.rejects(rpc.call("double", { n: 1 }), /1024 calls wait for answers of agent left/);

  assert.deepEqual(await receiveJson(raw), { id: 1, method: "wait", params: {} });
  await sendJson(raw, { id: 1, result: null });
  let next;
  do {
    await new Promise((resolve) => setTimeout(resolve, 1));
    next = await rpc.call("double", { n: 1 }, { timeoutMs: 1 }).catch((error) => error);
  } while (/1024 calls wait/.test(next.message));
  assert.match(next.message, /did not answer double/, "an answer made room for one more");
  raw.close();
  await rpc.closed;
});

Deno.test("a caller above the bound is cut off", async () => {
  const [ofCoordinator, raw] = channelPair(COORDINATOR, AGENT);
  const rpc = startRpc(ofCoordinator, {
    serves: { wait: AGENT_METHODS.wait },
    handlers: { wait: () => new Promise<null>(() => {}) },
    calls: {},
  });
  for (let id = 1; id <= CALLS_MAX + 1; id++) {
    await sendJson(raw, { id, method: "wait", params: {} });
  }
  assert.match(await rpc.closed ?? "", /More than 1024 calls/);
});

Deno.test("unknown methods and wrong parameters are answered, the channel stays", async () => {
  const { rpc, raw } = againstRaw();
  const cases: [unknown, RegExp][] = [
    [{ id: 1, method: "reboot", params: {} }, /There is no method reboot/],
    [{ id: 2, method: "toString", params: {} }, /There is no method toString/],
    [{ id: 3, method: "whoAmI", params: { extra: 1 } }, /parameters of whoAmI do not fit/],
    [{ id: 4, method: "seen", params: { n: 1 } }, /There is no method seen/],
  ];
  for (const [request, expected] of cases) {
    await sendJson(raw, request);
    const answer = await receiveJson(raw) as {
      id: number;
      error: { name: string; message: string };
    };
    assert.equal(answer.id, (request as { id: number }).id);
    assert.equal(answer.error.name, "ProtocolError");
    assert.match(answer.error.message, expected);
  }
  await sendJson(raw, { method: "newerThanThisSide", params: {} });
  await sendJson(raw, { id: 5, method: "whoAmI", params: {} });
  assert.deepEqual(await receiveJson(raw), { id: 5, result: "x" });
  raw.close();
  await rpc.closed;
});

Deno.test("a peer that breaks the protocol is cut off, and what is pending says why", async () => {
  const text = (text: string) => new TextEncoder().encode(text);
  const cases: [string, number, Uint8Array, RegExp][] = [
    ["no JSON", 0, text("{"), /is no JSON/],
    ["no UTF-8", 0, Uint8Array.of(0x22, 0xff, 0x22), /is no JSON/],
    ["another shape", 0, text(`{"id":1}`), /neither a call nor/],
    ["an extra key", 0, text(`{"id":1,"result":1,"x":1}`), /neither a call nor/],
    ["a fractional id", 0, text(`{"id":1.5,"result":1}`), /neither a call nor/],
    ["an unknown id", 0, text(`{"id":99,"result":1}`), /answer to call 99/],
    ["a wrong result", 0, text(`{"id":1,"result":"two"}`), /result of double do not fit/],
    ["a call as notification", 0, text(`{"method":"whoAmI","params":{}}`), /is no notification/],
    ["a wrong notification", 0, text(`{"method":"seen","params":{}}`), /parameters of seen/],
    ["a binary message", 3, Uint8Array.of(1), /binary message of kind 3 was not expected/],
  ];
  for (const [name, kind, body, reason] of cases) {
    const { rpc, raw } = againstRaw();
    const pending = rpc.call("double", { n: 1 });
    await raw.receive();
    await raw.send(kind, body);
    await assert.rejects(pending, reason, name);
    assert.match(await rpc.closed ?? "", reason, name);
    await raw.closed;
  }
});

Deno.test("answers twice and ids that go back are breaches", async () => {
  const once = againstRaw();
  const call = once.rpc.call("double", { n: 1 });
  await sendJson(once.raw, { id: 1, result: 2 });
  assert.equal(await call, 2);
  await sendJson(once.raw, { id: 1, result: 2 });
  assert.match(await once.rpc.closed ?? "", /answer to call 1, which waits for none/);

  const back = againstRaw();
  await sendJson(back.raw, { id: 5, method: "whoAmI", params: {} });
  await sendJson(back.raw, { id: 5, method: "whoAmI", params: {} });
  assert.match(await back.rpc.closed ?? "", /Call 5 came after call 5/);
});

Deno.test("binary messages go to their reader, which holds the sender up", async () => {
  const [ofCoordinator, raw] = channelPair(COORDINATOR, AGENT);
  let release!: () => void;
  const held = new Promise<void>((resolve) => release = resolve);
  const kinds: number[] = [];
  const rpc = startRpc(ofCoordinator, {
    serves: {},
    handlers: {},
    calls: {},
    onBinary: async (kind) => {
      kinds.push(kind);
      await held;
    },
  });
  let sent = 0;
  const sending = (async () => {
    for (let i = 0; i < 40; i++) {
      await raw.send(1 + i, new Uint8Array(BINARY_BYTES_MAX));
      sent++;
    }
  })();
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(sent < 10, `${sent} messages were taken by a reader that does not read`);
  release();
  await sending;
  raw.close();
  await rpc.closed;
  assert.deepEqual(kinds, Array.from({ length: 40 }, (_, i) => 1 + i));
});

Deno.test("property: arbitrary control messages never hang or break the other side", async () => {
  const key = fc.constantFrom(
    "id",
    "method",
    "params",
    "result",
    "error",
    "cancel",
    "name",
    "__proto__",
  );
  const value = fc.letrec((tie) => ({
    value: fc.oneof(
      fc.integer({ min: -1, max: 3 }),
      fc.constantFrom("whoAmI", "seen", "", null, true),
      fc.dictionary(key, tie("value"), { maxKeys: 4 }),
      fc.array(tie("value"), { maxLength: 2 }),
    ),
  })).value;
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    value.map((value) => new TextEncoder().encode(JSON.stringify(value))),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(body, { maxLength: 6 }), async (bodies) => {
      const { rpc, raw } = againstRaw();
      const pending = rpc.call("double", { n: 1 }, { timeoutMs: Infinity }).catch((error) => error);
      for (const body of bodies) await raw.send(JSON_KIND, body).catch(() => {});
      raw.close();
      await rpc.closed;
      const outcome = await pending;
      assert.ok(outcome === undefined || typeof outcome === "number" || outcome instanceof Error);
      assert.ok(
        !(outcome instanceof TypeError) && !(outcome instanceof RangeError),
        String(outcome),
      );
    }),
    { numRuns: 500 },
  );
});

Deno.test("messages above the bound are refused where they are sent", async () => {
  const [left, right] = channelPair(AGENT, COORDINATOR);
  await assert.rejects(left.send(1, new Uint8Array(BINARY_BYTES_MAX + 1)), ProtocolError);
  left.close();
  assert.equal(await right.receive(), undefined);
  await assert.rejects(left.send(1, new Uint8Array()), /closed/);
  await assert.rejects(right.send(1, new Uint8Array()), /closed/);
});
