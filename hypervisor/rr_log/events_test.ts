import assert from "node:assert/strict";
import fc from "fast-check";
import { FormatError } from "../../lib/errors.ts";
import { concat } from "../../lib/bytes/concat.ts";
import { arbitraryEvent, arbitraryEventOf, encodeAll } from "./arbitrary_events.ts";
import { decodeEvents, encodeEvent, formatEvent, type RrEvent } from "./events.ts";
import { parseRrLog } from "./stream.ts";
import { FRAME_BYTES_MAX, RR_LOG_TABLES, tableForQemu } from "./tables.ts";

const table = tableForQemu("7.2.22");
const testdata = new URL("testdata/", import.meta.url);

function kindOf(name: string): number {
  const kind = table.kinds.findIndex((candidate) => candidate.name === name);
  assert.notEqual(kind, -1, name);
  return kind;
}

function decode(bytes: Uint8Array, startOffset = 0): RrEvent[] {
  return [...decodeEvents(bytes, table, "test log", startOffset)];
}

/** The bytes of a hexadecimal text with spaces. */
function hex(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromHex(text.replaceAll(" ", ""));
}

function throwsFormatError(work: () => unknown, offset: number, text: string): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof FormatError, String(error));
    assert.equal(error.file, "test log");
    assert.equal(error.offset, offset);
    assert.ok(error.message.includes(text), error.message);
    return true;
  });
}

/** Exact bytes, and the line that `dump` prints for them. */
const EXACT: readonly (readonly [bytes: string, line: string])[] = [
  ["00 00000102", "INSTRUCTION +258"],
  ["00 7fffffff", "INSTRUCTION +2147483647"],
  ["01", "INTERRUPT"],
  ["02", "EXCEPTION"],
  ["03 0000000000000007", "ASYNC_BH id=7"],
  ["04 ffffffffffffffff", "ASYNC_BH_ONESHOT id=18446744073709551615"],
  ["05 00000000 00000000 000000000000001e 01", "ASYNC_INPUT device=keyNumber code=30 down=1"],
  ["05 00000000 00000001 00000026 00", "ASYNC_INPUT device=keyQcode qcode=38 down=0"],
  ["05 00000001 00000002 01", "ASYNC_INPUT device=button button=2 down=1"],
  ["05 00000002 00000000 fffffffffffffffb", "ASYNC_INPUT device=relative axis=0 value=-5"],
  ["05 00000003 00000001 000000000007ffff", "ASYNC_INPUT device=absolute axis=1 value=524287"],
  [
    "05 00000004 00000001 0000000000000002 0000000000000003 00000001 0000000000000004",
    "ASYNC_INPUT device=touch touch=1 slot=2 trackingId=3 axis=1 value=4",
  ],
  ["06", "ASYNC_INPUT_SYNC"],
  ["07 01 00000002 6869", "ASYNC_CHAR_READ id=1 bytes=2 6869"],
  ["08 0000000000000001", "ASYNC_BLOCK id=1"],
  ["09 00 00000001 00000003 010203", "ASYNC_NET id=0 flags=1 bytes=3 010203"],
  ["0c", "SHUTDOWN_HOST_QMP_QUIT"],
  ["16 00000001 ffffffff", "CHAR_WRITE result=1 written=-1"],
  ["17 00000001 61", "CHAR_READ_ALL bytes=1 61"],
  ["18 fffffff5", "CHAR_READ_ALL_ERROR result=-11"],
  ["19 0000000000000400", "AUDIO_OUT played=1024"],
  [
    "1a 0000000000000001 0000000000000010 0000000000000002 0000000000000003",
    "AUDIO_IN position=16 bytes=16 00000000000000020000000000000003",
  ],
  ["1b 00000000 00000002 beef", "RANDOM result=0 bytes=2 beef"],
  ["1b ffffffff 00000000", "RANDOM result=-1 bytes=0"],
  ["1c 18eaa19404b30825", "CLOCK_HOST ns=1795425058566637605"],
  ["1d ffffffffffffffff", "CLOCK_VIRTUAL_RT ns=-1"],
  ["1e", "CHECKPOINT_CLOCK_WARP_START"],
  ["26", "CHECKPOINT_RESET"],
  ["27", "END"],
];

Deno.test("exact bytes decode, print and encode", () => {
  for (const [bytes, line] of EXACT) {
    const events = decode(hex(bytes), 0xab);
    assert.equal(events.length, 1, line);
    const event = events[0]!;
    assert.equal(formatEvent(event).replace(/^000000ab +\d+ /, ""), line);
    assert.deepEqual(encodeEvent(event, table), hex(bytes), line);
  }
});

Deno.test("every truncation of every layout is an error at the event's offset", () => {
  for (const [text, line] of EXACT) {
    const bytes = concat([hex("00 00000005 25"), hex(text)]);
    for (let length = 7; length < bytes.length; length++) {
      throwsFormatError(() => decode(bytes.subarray(0, length)), 6, line.split(" ")[0]!);
    }
  }
});

Deno.test("instruction counts add up; an event's count includes itself", () => {
  const events = decode(hex("25 00 00000005 1e 00 00000003 27"));
  assert.deepEqual(events.map((event) => [event.offset, event.icount]), [
    [0, 0],
    [1, 5],
    [6, 5],
    [7, 8],
    [12, 8],
  ]);
});

Deno.test("a long array is shortened in print", () => {
  const event = { kind: kindOf("ASYNC_NET"), type: "frame", id: 0, flags: 0 } as const;
  const bytes = encodeEvent({ ...event, payload: new Uint8Array(55) }, table);
  assert.ok(formatEvent(decode(bytes)[0]!).endsWith(` bytes=55 ${"00".repeat(54)}…`));
});

Deno.test("damage is found where it is", () => {
  throwsFormatError(() => decode(hex("25 00 00000005 28")), 6, "event kind 40");
  throwsFormatError(() => decode(hex("25 ff")), 1, "event kind 255");
  throwsFormatError(() => decode(hex("00 00000000")), 0, "run of 0");
  throwsFormatError(() => decode(hex("25 00 80000000")), 1, "run of 2147483648");
  throwsFormatError(() => decode(hex("05 00000005")), 0, "input event type 5");
  throwsFormatError(() => decode(hex("05 00000000 00000002")), 0, "key value kind 2");
  throwsFormatError(() => decode(hex("09 00 00000000 00040001")), 0, `at most ${FRAME_BYTES_MAX}`);
  throwsFormatError(() => decode(hex("17 01000001")), 0, "CHAR_READ_ALL of 16777217 bytes");
  throwsFormatError(
    () => decode(hex("1a 0000000000100001 0000000000000000")),
    0,
    "AUDIO_IN of 16777232 bytes",
  );
});

Deno.test("behind END only the version word fits", () => {
  assert.equal(decode(hex("27 00e0200c")).length, 1);
  throwsFormatError(() => decode(hex("27 00e0200d")), 1, "4 bytes follow END");
  throwsFormatError(() => decode(hex("27 00e020")), 1, "3 bytes follow END");
  throwsFormatError(() => decode(hex("27 00e0200c 00"), 12), 13, "5 bytes follow END");
});

Deno.test("an event of the wrong type is not encoded", () => {
  assert.throws(
    () => encodeEvent({ kind: 1, type: "instruction", count: 5 }, table),
    /kind 1 of QEMU 7\.2 does not have the type instruction/,
  );
});

Deno.test("decoding what was encoded is the identity, for every kind of every table", () => {
  for (const each of RR_LOG_TABLES) {
    for (const kind of each.kinds.keys()) {
      fc.assert(
        fc.property(arbitraryEventOf(each, kind), (event) => {
          const bytes = encodeEvent(event, each);
          const [decoded, ...rest] = decodeEvents(bytes, each, "test log");
          assert.equal(rest.length, 0);
          const { offset: _offset, icount: _icount, name: _name, ...plain } = decoded!;
          assert.deepEqual(plain, event);
        }),
        { numRuns: 20 },
      );
    }
  }
});

Deno.test("sequences of events decode to the same sequence", () => {
  fc.assert(fc.property(fc.array(arbitraryEvent(table), { maxLength: 30 }), (events) => {
    const bytes = encodeAll(events, table);
    const decoded = decode(bytes);
    assert.deepEqual(decoded.map((event) => event.kind), events.map((event) => event.kind));
    assert.deepEqual(encodeAll(decoded, table), bytes);
  }));
});

Deno.test("arbitrary bytes decode or give FormatError, and what decodes encodes back", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.array(fc.integer({ min: 0, max: 42 }), { maxLength: 300 }).map((b) => Uint8Array.from(b)),
  );
  fc.assert(
    fc.property(bytes, (bytes) => {
      let at = 0;
      try {
        for (const event of decodeEvents(bytes, table, "test log")) {
          assert.equal(event.offset, at);
          const encoded = encodeEvent(event, table);
          assert.deepEqual(encoded, bytes.slice(at, at + encoded.length));
          at += encoded.length;
        }
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
        assert.equal(error.offset, at);
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("the golden log of QEMU 7.2.22 dumps to the golden text", async () => {
  const log = parseRrLog(await Deno.readFile(new URL("seabios-7.2.rrlog", testdata)), "golden");
  const lines = [...decodeEvents(log.events, log.table, "golden", log.eventsOffset)]
    .map((event) => formatEvent(event) + "\n");
  assert.equal(lines.join(""), await Deno.readTextFile(new URL("seabios-7.2.dump", testdata)));
});

Deno.test("the golden log encodes back to its bytes", async () => {
  const log = parseRrLog(await Deno.readFile(new URL("seabios-7.2.rrlog", testdata)), "golden");
  assert.deepEqual(encodeAll(decode(log.events), table), log.events);
});
