/** Framing: exact bytes, every portioning, every malformed length. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { ProtocolError } from "../errors.ts";
import type { Message } from "./channel.ts";
import {
  BINARY_BYTES_MAX,
  bodyBytesMax,
  encodeMessage,
  HEADER_BYTES,
  JSON_BYTES_MAX,
  JSON_KIND,
  MessageDecoder,
} from "./framing.ts";

const header = (length: number, kind: number) => {
  const bytes = new Uint8Array(HEADER_BYTES);
  new DataView(bytes.buffer).setUint32(0, length);
  bytes[4] = kind;
  return bytes;
};

const arbitraryMessage = fc.record({
  kind: fc.integer({ min: 0, max: 255 }),
  body: fc.uint8Array({ maxLength: 300 }),
}, { noNullPrototype: true });

function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

Deno.test("a message is length, kind, body", () => {
  assert.deepEqual(encodeMessage(7, Uint8Array.of(1, 2, 3)), Uint8Array.of(0, 0, 0, 3, 7, 1, 2, 3));
  assert.deepEqual(encodeMessage(0, new Uint8Array()), Uint8Array.of(0, 0, 0, 0, 0));
});

Deno.test("an empty body needs no further bytes", () => {
  const decoder = new MessageDecoder();
  assert.deepEqual(decoder.push(header(0, 9)), [{ kind: 9, body: new Uint8Array() }]);
  assert.equal(decoder.inMessage, false);
});

Deno.test("the bounds are allowed, one byte more is refused on both sides", () => {
  for (
    const [kind, max] of [[JSON_KIND, JSON_BYTES_MAX], [1, BINARY_BYTES_MAX], [
      255,
      BINARY_BYTES_MAX,
    ]]
  ) {
    const [whole] = new MessageDecoder().push(encodeMessage(kind!, new Uint8Array(max!)));
    assert.equal(whole!.body.length, max);
    assert.throws(() => encodeMessage(kind!, new Uint8Array(max! + 1)), ProtocolError);
    const decoder = new MessageDecoder();
    assert.throws(() => decoder.push(header(max! + 1, kind!)), /above the bound of/);
    assert.throws(() => decoder.push(header(0, 1)), ProtocolError, "stays refused");
  }
  for (const kind of [-1, 256, 0.5, NaN]) {
    assert.throws(() => encodeMessage(kind, new Uint8Array()), /kinds are 0 to 255/);
  }
});

Deno.test("where less is allowed, a longer message is refused by its header", () => {
  const decoder = new MessageDecoder(16);
  assert.equal(decoder.push(encodeMessage(JSON_KIND, new Uint8Array(16))).length, 1);
  assert.throws(() => decoder.push(header(17, JSON_KIND)), /17 bytes is above the bound of 16/);
});

Deno.test("messages before a bad length are given", () => {
  const bytes = concatenated([encodeMessage(3, Uint8Array.of(1)), header(0xffff_ffff, 0)]);
  const messages: Message[] = [];
  assert.throws(() => new MessageDecoder().push(bytes, messages), /4294967295 bytes/);
  assert.deepEqual(messages, [{ kind: 3, body: Uint8Array.of(1) }]);
});

Deno.test("property: any portions give the same messages, every truncation is in a message", () => {
  fc.assert(fc.property(
    fc.array(arbitraryMessage, { maxLength: 8 }),
    fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 20 }),
    (messages, portions) => {
      const bytes = concatenated(messages.map(({ kind, body }) => encodeMessage(kind, body)));
      const decoder = new MessageDecoder();
      const decoded: Message[] = [];
      const ends = new Set([0]);
      messages.reduce((at, { body }) => {
        const end = at + HEADER_BYTES + body.length;
        ends.add(end);
        return end;
      }, 0);
      for (let at = 0, i = 0; at < bytes.length; i++) {
        // A Buffer, as sockets give it: its `slice` shares memory.
        const portion = Buffer.from(bytes.subarray(at, at + portions[i % portions.length]!));
        decoded.push(...decoder.push(portion));
        portion.fill(0xee); // it must have kept no reference
        at += portion.length;
        assert.equal(decoder.inMessage, !ends.has(at));
      }
      assert.deepEqual(decoded, messages);
    },
  ));
});

Deno.test("property: arbitrary bytes give messages within bounds or a ProtocolError", () => {
  let refused = 0;
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 10 }), (portions) => {
      const decoder = new MessageDecoder();
      try {
        for (const portion of portions) {
          for (const { kind, body } of decoder.push(portion)) {
            assert.ok(body.length <= bodyBytesMax(kind));
          }
        }
      } catch (error) {
        assert.ok(error instanceof ProtocolError, String(error));
        refused++;
      }
    }),
    { numRuns: 2000 },
  );
  assert.ok(refused > 100, "arbitrary bytes should often be refused");
});
