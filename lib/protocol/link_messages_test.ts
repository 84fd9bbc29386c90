import assert from "node:assert/strict";
import fc from "fast-check";
import { EPOCH_MAX } from "../clocks/lamport.ts";
import { ProtocolError } from "../errors.ts";
import { LINK_EXAMPLES } from "./link_fixture.ts";
import {
  decodeLinkMessage,
  encodeLinkMessage,
  FRAME_BYTES_MAX,
  LINK_KINDS,
  type LinkMessage,
  LIST_ENTRIES_MAX,
  TEXT_BYTES_MAX,
  VM_NUMBER_MAX,
} from "./link_messages.ts";

const BINARY_BYTES_MAX = 256 << 10;

const golden = new Map(
  Deno.readTextFileSync(new URL("testdata/links_v1.txt", import.meta.url)).trim().split("\n")
    .map((line) => {
      const [name, kind, body] = line.split(/: | (?=[0-9a-f]*$)/);
      return [name!, { kind: parseInt(kind!, 16), body: Uint8Array.fromHex(body!) }];
    }),
);

const decode = (kind: number, hex: string) => decodeLinkMessage(kind, Uint8Array.fromHex(hex));

Deno.test("links: the golden messages, both ways", () => {
  assert.deepEqual([...golden.keys()], Object.keys(LINK_EXAMPLES));
  for (const [name, message] of Object.entries(LINK_EXAMPLES)) {
    const { kind, body } = golden.get(name)!;
    assert.deepEqual(encodeLinkMessage(message), { kind, body }, name);
    assert.deepEqual(decodeLinkMessage(kind, body), message, name);
  }
});

Deno.test("links: the document shows every golden message", () => {
  const document = Deno.readTextFileSync(new URL("PROTOCOL.md", import.meta.url));
  for (const [name, { body }] of golden) {
    assert.ok(document.includes(body.toHex()), `PROTOCOL.md does not show "${name}"`);
  }
});

Deno.test("links: every truncation and every byte too many is refused", () => {
  for (const [name, { kind, body }] of golden) {
    const free = name === "frame"; // its bytes have no length of their own
    for (let length = 0; length < (free ? 4 : body.length); length++) {
      assert.throws(() => decodeLinkMessage(kind, body.subarray(0, length)), ProtocolError, name);
    }
    if (!free) {
      assert.throws(() => decodeLinkMessage(kind, Uint8Array.of(...body, 0)), ProtocolError, name);
    }
  }
});

Deno.test("links: what is out of bounds is refused, and says what is wrong", () => {
  const cases: [number, string, RegExp][] = [
    [0, "", /no messages of kind 0/],
    [26, "", /no messages of kind 26/],
    [LINK_KINDS.open, "00000000" + "0100" + "0161" + "01", /not a link/],
    [LINK_KINDS.open, "43524c4b" + "0200" + "0161" + "01", /version 2 .*use one build/],
    [LINK_KINDS.open, "43524c4b" + "0100" + "00" + "01", /no run/],
    [LINK_KINDS.open, "43524c4b" + "0100" + "01ff" + "01", /not UTF-8/],
    [LINK_KINDS.open, "43524c4b" + "0100" + "8101" + "00", /a text of 129 bytes/],
    [LINK_KINDS.epochs, "00" + "01" + "00" + "00", /VM 0/],
    [LINK_KINDS.epochs, "808004" + "01" + "00" + "00", /VM 65536/],
    [LINK_KINDS.epochs, "01" + "04" + "00" + "00", /flags 4/],
    [LINK_KINDS.epochs, "01" + "01" + "80808004" + "00", /epoch 8388608/],
    [LINK_KINDS.epochs, "01" + "01" + "00" + "02" + "0100", /epoch 1/],
    [LINK_KINDS.epochs, "01" + "01" + "00" + "8140", /8193 entries/],
    [LINK_KINDS.want, "01" + "01" + "01" + "0000", /0 frames/],
    [LINK_KINDS.want, "01" + "01" + "02" + "0001" + "0001", /1 frames behind 0/],
    [LINK_KINDS.want, "01" + "01" + "01" + "ffffffffffffff0f" + "01", /frame 9007199254740992/],
    [LINK_KINDS.position, "02" + "0201" + "0201", /VM 2 out of order/],
    [LINK_KINDS.frame, "01" + "00" + "00", /a frame of 0 bytes/],
    [LINK_KINDS.frame, "01" + "02" + "01" + "aa", /frame 1 as number 2/],
    [LINK_KINDS.progress, "01" + "01" + "02" + "00" + "00", /ended and is waited for/],
    [LINK_KINDS.progress, "01" + "01" + "01" + "00" + "05", /5 frames before its end/],
    [LINK_KINDS.progress, "01" + "01" + "04" + "00" + "00", /flags 4/],
    [LINK_KINDS.state, "03" + "00", /state 3/],
    [LINK_KINDS.state, "00" + "0161", /a reason without a failure/],
    [LINK_KINDS.state, "02" + "8120", /a text of 4097 bytes/],
    [LINK_KINDS.ping, "8000" + "00", /shortest form/],
  ];
  for (const [kind, hex, message] of cases) {
    assert.throws(
      () => decode(kind, hex),
      (error) => error instanceof ProtocolError && message.test(error.message),
      `${kind} ${hex}`,
    );
  }
  const large = new Uint8Array(3 + FRAME_BYTES_MAX + 1).fill(1);
  assert.throws(() => decodeLinkMessage(LINK_KINDS.frame, large), /a frame of 131073 bytes/);
});

const vm = fc.integer({ min: 1, max: VM_NUMBER_MAX });
const epoch = fc.integer({ min: 0, max: EPOCH_MAX });
const count = fc.nat();
const text = fc.string({ maxLength: TEXT_BYTES_MAX / 4, unit: "binary" });
/** Ascending numbers from `first` on. */
const ascending = (first: number, max: number) =>
  fc.uniqueArray(fc.integer({ min: first, max }), { maxLength: 300 })
    .map((all) => all.sort((a, b) => a - b));

const anyMessage: fc.Arbitrary<LinkMessage> = fc.oneof(
  fc.record({
    type: fc.constant("open" as const),
    runId: fc.string({ minLength: 1, maxLength: 32 }),
    incarnation: fc.maxSafeNat(),
  }),
  fc.record({
    type: fc.constant("epochs" as const),
    vm,
    last: fc.boolean(),
    complete: fc.boolean(),
    lastReceive: epoch,
    cuts: ascending(1, EPOCH_MAX),
  }),
  fc.record({
    type: fc.constant("want" as const),
    vm,
    last: fc.boolean(),
    runs: ascending(0, 1 << 30).map((edges) => {
      const runs = [];
      for (let i = 0; i + 1 < edges.length; i += 2) {
        runs.push({ first: edges[i]!, count: edges[i + 1]! - edges[i]! });
      }
      return runs;
    }),
  }),
  fc.record({
    type: fc.constant("position" as const),
    counts: ascending(1, VM_NUMBER_MAX).map((vms) => vms.map((vm) => ({ vm, count: vm * 7 }))),
  }),
  fc.record({
    type: fc.constant("frame" as const),
    vm,
    sequence: fc.nat(1000),
    sendNumber: fc.integer({ min: 1000 }),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 2000 }),
  }),
  fc.record({ type: fc.constant("acknowledge" as const), vm, count }),
  fc.record({
    type: fc.constant("progress" as const),
    vm,
    serial: count,
    epoch,
    away: fc.constant(true),
    ended: fc.boolean(),
    sent: fc.constant(0),
  }),
  text.map((text) => ({ type: "state" as const, state: "failed" as const, text })),
  fc.record({ type: fc.constant("ping" as const), token: count, moves: fc.maxSafeNat() }),
  fc.record({ type: fc.constant("pong" as const), token: count }),
);

Deno.test("property: links: decoding gives back what was encoded", () =>
  fc.assert(fc.property(anyMessage.map((message) => ({ ...message })), (message) => {
    const { kind, body } = encodeLinkMessage(message);
    assert.ok(body.length <= BINARY_BYTES_MAX);
    assert.deepEqual(decodeLinkMessage(kind, body), message);
  })));

Deno.test("property: links: arbitrary bytes are a message, in its only form, or a ProtocolError", () => {
  const bodies = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    // One byte of a real message changed: gets past the first fields.
    fc.tuple(anyMessage, fc.nat(), fc.nat(255)).map(([message, at, value]) => {
      const body = encodeLinkMessage(message).body.slice();
      body[at % body.length] = value;
      return body;
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 14, max: 27 }), bodies, (kind, body) => {
      let message: LinkMessage;
      try {
        message = decodeLinkMessage(kind, body);
      } catch (error) {
        return assert.ok(error instanceof ProtocolError, String(error));
      }
      assert.deepEqual(encodeLinkMessage(message), { kind, body: new Uint8Array(body) });
    }),
    { numRuns: 3000 },
  );
});

Deno.test("links: the longest lists fit into a message of a channel", () => {
  const long = Array.from({ length: LIST_ENTRIES_MAX }, (_, i) => i);
  const far = 2 ** 40;
  const runs = long.map((i) => ({ first: i * far, count: far - 1 }));
  const counts = long.map((i) => ({ vm: i + 1, count: Number.MAX_SAFE_INTEGER }));
  for (
    const message of [
      { type: "want", vm: 1, last: true, runs },
      { type: "position", counts },
    ] satisfies LinkMessage[]
  ) {
    const { kind, body } = encodeLinkMessage(message);
    assert.ok(body.length <= BINARY_BYTES_MAX, `${body.length}`);
    assert.deepEqual(decodeLinkMessage(kind, body), message);
  }
});
