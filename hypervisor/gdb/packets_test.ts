import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../../lib/errors.ts";
import {
  encodePacket,
  hexOfText,
  PACKET_BYTES_MAX,
  PacketReader,
  type RspItem,
  textOfHex,
} from "./packets.ts";

const wire = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0));
const read = (text: string) => new PacketReader().push(wire(text));
const packet = (payload: string): RspItem => ({ kind: "packet", payload });
const payloads = fc.array(fc.nat(255), { maxLength: 300 })
  .map((bytes) => String.fromCharCode(...bytes));

Deno.test("packets as gdb writes them", () => {
  assert.deepEqual(read("+$?#3f"), [{ kind: "ack" }, packet("?")]);
  assert.deepEqual(read("$m200345,8#FF"), [packet("m200345,8")], "a checksum in capitals");
  assert.deepEqual(read("$#00"), [packet("")], "an empty answer: not supported");
  assert.deepEqual(read("-\x03%Stop:T05#99"), [
    { kind: "nack" },
    { kind: "interrupt" },
    { kind: "notification", payload: "Stop:T05" },
  ]);
  assert.equal(new TextDecoder().decode(encodePacket("OK")), "$OK#9a");
});

Deno.test("escapes: what would end or begin a packet is sent as } and the byte XOR 0x20", () => {
  assert.deepEqual(encodePacket("a#$}*"), wire("$a}\x03}\x04}]}\x0a#c3"));
  assert.deepEqual(read("$a}\x03}\x04}]}\x0a#c3"), [packet("a#$}*")]);
});

Deno.test("run lengths: a repeat count is a character 29 higher", () => {
  assert.deepEqual(read("$0* #7a"), [packet("0000")], "the manual's example");
  assert.deepEqual(read("$x*~#20"), [packet("x".repeat(98))]);
  for (const malformed of ["* ", "0*", "0*\x1f", "0*\x7f", "}"]) {
    const sum = wire(malformed).reduce((a, b) => a + b, 0) & 0xff;
    const text = `$${malformed}#${sum.toString(16).padStart(2, "0")}`;
    assert.deepEqual(read(text), [{ kind: "bad" }], JSON.stringify(malformed));
  }
});

Deno.test("a wrong checksum is bad, and the packet after it is read", () => {
  assert.deepEqual(read("$OK#9b$OK#9a"), [{ kind: "bad" }, packet("OK")]);
  assert.deepEqual(
    read("$OK#9$$OK#9a"),
    [{ kind: "bad" }, packet("OK")],
    "a cut-off sum",
  );
  assert.deepEqual(read("$OK#0x"), [{ kind: "bad" }]);
});

Deno.test("a packet begun anew replaces the one before", () => {
  assert.deepEqual(read("$vCont;$OK#9a"), [packet("OK")]);
});

Deno.test("a packet has a longest length, on the wire and unpacked", () => {
  const longest = "a".repeat(100);
  const reader = () => new PacketReader(100);
  assert.deepEqual(reader().push(encodePacket(longest)), [packet(longest)]);
  assert.throws(() => reader().push(encodePacket(longest + "a")), ProtocolError);
  assert.throws(() => reader().push(wire("$x*~x*~#40")), ProtocolError, "196 bytes from six");
  assert.throws(() => {
    const endless = new PacketReader();
    endless.push(wire("$"));
    for (let n = 0; n <= PACKET_BYTES_MAX; n += 1024) endless.push(wire("a".repeat(1024)));
  }, ProtocolError);
});

Deno.test("characters that are no bytes are refused", () => {
  assert.throws(() => encodePacket("…"), RangeError);
});

Deno.test("console text", () => {
  assert.equal(hexOfText("é\n"), "c3a90a");
  assert.equal(textOfHex("c3a90a"), "é\n");
});

Deno.test("property: what was encoded is read again, at any boundary of pieces", () => {
  fc.assert(fc.property(
    fc.array(payloads, { maxLength: 5 }),
    fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
    (sent, sizes) => {
      const bytes = sent.flatMap((payload) => [0x2b, ...encodePacket(payload)]);
      const reader = new PacketReader();
      const items: RspItem[] = [];
      for (let at = 0, i = 0; at < bytes.length; i++) {
        const size = sizes[i % sizes.length]!;
        items.push(...reader.push(Uint8Array.from(bytes.slice(at, at + size))));
        at += size;
      }
      assert.deepEqual(items, sent.flatMap((payload) => [{ kind: "ack" }, packet(payload)]));
    },
  ));
});

Deno.test("property: one changed byte never gives another packet of the same length", () => {
  fc.assert(fc.property(payloads, fc.nat(), fc.integer({ min: 1, max: 255 }), (payload, at, by) => {
    const bytes = encodePacket(payload);
    const index = 1 + at % (bytes.length - 1);
    const before = bytes[index]!;
    bytes[index] = before ^ by;
    const [item] = new PacketReader().push(bytes);
    if (item?.kind === "packet" && item.payload !== payload) {
      // Only a changed end of the packet can do that: a '#' or '$' where there was none.
      assert.notEqual(item.payload.length, payload.length);
    }
  }));
});

Deno.test("property: arbitrary bytes give items or a ProtocolError, and a packet after them is found", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (noise) => {
    const reader = new PacketReader();
    reader.push(noise);
    reader.push(wire("#00")); // ends a packet that the noise may have begun
    const after = [...reader.push(wire("..$OK#9a")), ...reader.push(wire("$OK#9a"))];
    assert.deepEqual(after.at(-1), packet("OK"));
  }));
});
