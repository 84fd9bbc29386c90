/** Random rr log events for the property tests of this folder: every kind of a table, every field. */
import { concat } from "../../lib/bytes/concat.ts";
import fc from "fast-check";
import { encodeEvent, type RrEventBody } from "./events.ts";
import type { RrInput } from "./input.ts";
import { type RrEventType, type RrLogTable } from "./tables.ts";

const u8 = fc.integer({ min: 0, max: 0xff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const i32 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const bytes = fc.uint8Array({ maxLength: 80 });

const input: fc.Arbitrary<RrInput> = fc.oneof(
  fc.record({ device: fc.constant("keyNumber" as const), code: u64, down: u8 }),
  fc.record({ device: fc.constant("keyQcode" as const), qcode: u32, down: u8 }),
  fc.record({ device: fc.constant("button" as const), button: u32, down: u8 }),
  fc.record({ device: fc.constant("relative" as const), axis: u32, value: i64 }),
  fc.record({ device: fc.constant("absolute" as const), axis: u32, value: i64 }),
  fc.record({
    device: fc.constant("touch" as const),
    touch: u32,
    slot: i64,
    trackingId: i64,
    axis: u32,
    value: i64,
  }),
).map((fields) => ({ ...fields })); // fast-check makes objects without a prototype

const bodies: Record<RrEventType, fc.Arbitrary<RrEventBody>> = {
  plain: fc.constant({ type: "plain" }),
  end: fc.constant({ type: "end" }),
  instruction: fc.record({
    type: fc.constant("instruction" as const),
    count: fc.integer({ min: 1, max: 2 ** 31 - 1 }),
  }),
  id: fc.record({ type: fc.constant("id" as const), id: u64 }),
  input: fc.record({ type: fc.constant("input" as const), input }),
  charRead: fc.record({ type: fc.constant("charRead" as const), id: u8, bytes }),
  frame: fc.record({ type: fc.constant("frame" as const), id: u8, flags: u32, payload: bytes }),
  charWrite: fc.record({ type: fc.constant("charWrite" as const), result: i32, written: i32 }),
  bytes: fc.record({ type: fc.constant("bytes" as const), bytes }),
  result: fc.record({ type: fc.constant("result" as const), result: i32 }),
  audioOut: fc.record({ type: fc.constant("audioOut" as const), played: u64 }),
  audioIn: fc.record({
    type: fc.constant("audioIn" as const),
    position: u64,
    samples: fc.integer({ min: 0, max: 5 }).map((n) => new Uint8Array(16 * n).fill(n)),
  }),
  random: fc.record({ type: fc.constant("random" as const), result: i32, bytes }),
  clock: fc.record({ type: fc.constant("clock" as const), value: i64 }),
};

/** An event as `encodeEvent` takes it. */
export type EncodableEvent = RrEventBody & { readonly kind: number };

/** An event of kind byte `kind`. */
export function arbitraryEventOf(table: RrLogTable, kind: number): fc.Arbitrary<EncodableEvent> {
  return bodies[table.kinds[kind]!.type].map((body) => ({ ...body, kind }));
}

/** Any event but END, each kind equally often. */
export function arbitraryEvent(table: RrLogTable): fc.Arbitrary<EncodableEvent> {
  const kinds = table.kinds.flatMap(({ type }, kind) => type === "end" ? [] : [kind]);
  return fc.constantFrom(...kinds).chain((kind) => arbitraryEventOf(table, kind));
}

/** The events' bytes, one after the other. */
export function encodeAll(events: readonly EncodableEvent[], table: RrLogTable): Uint8Array {
  return concat(events.map((event) => encodeEvent(event, table)));
}
