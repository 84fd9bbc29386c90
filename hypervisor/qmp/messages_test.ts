import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../../lib/errors.ts";
import { GREETING } from "./fake_monitor.ts";
import { checkGreeting, parseMessage } from "./messages.ts";

Deno.test("a QEMU's greeting is accepted", () => {
  checkGreeting(GREETING);
});

Deno.test("anything else as a greeting is refused", () => {
  for (const line of ["SSH-2.0-OpenSSH_9.2", "{}", '{"QMP":{}}', '{"return":{},"id":1}', ""]) {
    assert.throws(() => checkGreeting(line), ProtocolError, line);
  }
});

Deno.test("events, returns and errors are told apart", () => {
  assert.deepEqual(
    parseMessage('{"timestamp":{"seconds":2,"microseconds":5},"event":"STOP"}'),
    { kind: "event", event: { name: "STOP", data: {}, timestampUs: 2_000_005 } },
  );
  assert.deepEqual(
    parseMessage(
      '{"timestamp":{"seconds":0,"microseconds":1},"event":"SHUTDOWN","data":{"guest":true}}',
    ),
    { kind: "event", event: { name: "SHUTDOWN", data: { guest: true }, timestampUs: 1 } },
  );
  assert.deepEqual(parseMessage('{"return":{"icount":7},"id":3,"later":1}'), {
    kind: "return",
    id: 3,
    value: { icount: 7 },
  });
  assert.deepEqual(
    parseMessage('{"id":4,"error":{"class":"CommandNotFound","desc":"no such thing"}}'),
    { kind: "error", id: 4, errorClass: "CommandNotFound", description: "no such thing" },
  );
});

Deno.test("malformed messages are refused with what was sent", () => {
  const malformed = [
    '{"return":{}',
    "[]",
    "null",
    "17",
    "{}",
    '{"return":{}}',
    '{"return":{},"id":"x"}',
    '{"error":{"class":"GenericError"},"id":1}',
    '{"event":"STOP"}',
    '{"event":7,"timestamp":{"seconds":0,"microseconds":0}}',
  ];
  for (const line of malformed) {
    assert.throws(() => parseMessage(line), (error: unknown) => {
      assert(error instanceof ProtocolError);
      assert(error.message.includes(line), error.message);
      return true;
    });
  }
});

Deno.test("an error without an id is QEMU's complaint about our syntax", () => {
  assert.throws(
    () => parseMessage('{"error":{"class":"GenericError","desc":"JSON parse error"}}'),
    /could not read a command: JSON parse error/,
  );
});

const nearMessage = fc.record({
  event: fc.oneof(fc.string(), fc.jsonValue()),
  timestamp: fc.oneof(fc.record({ seconds: fc.nat(), microseconds: fc.nat() }), fc.jsonValue()),
  return: fc.jsonValue(),
  error: fc.oneof(fc.record({ class: fc.string(), desc: fc.string() }), fc.jsonValue()),
  id: fc.oneof(fc.nat(), fc.jsonValue()),
}, { requiredKeys: [] }).map((message) => JSON.stringify(message));

Deno.test("arbitrary JSON is a message or a ProtocolError", () => {
  fc.assert(
    fc.property(fc.oneof(fc.json(), nearMessage), (line) => {
      try {
        assert(["event", "return", "error"].includes(parseMessage(line).kind));
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
      }
    }),
    { numRuns: 500, verbose: 1 },
  );
});
