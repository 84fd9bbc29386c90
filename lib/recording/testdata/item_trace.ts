/** For tests: a log as a list of items, written and read back, and what may differ between the two. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { CheckPoint, FrameOrigin, HybridVisitor } from "../hybrid_log.ts";
import type { HybridEnding, HybridLogReader } from "../hybrid_log_reader.ts";
import type { HybridLogWriter } from "../hybrid_log_writer.ts";

/** One item; bytes as hex, so that traces compare and print well. */
export type TraceItem =
  | { item: "events"; bytes: string }
  | { item: "reference"; header: string; source: number; number: number; lamport: bigint }
  | { item: "frame"; header: string; payload: string; lamport: bigint; origin: FrameOrigin }
  | { item: "send"; number: number; length: number; hash: string; lamport: bigint; head: string }
  | { item: "check"; check: CheckPoint }
  | { item: "epoch"; epoch: number; icount: number }
  | { item: "end"; complete: boolean; icount: number };

/** Appends every item it is given to `items`. */
export class TraceVisitor implements HybridVisitor {
  readonly items: TraceItem[] = [];

  events(bytes: Uint8Array): void {
    this.items.push({ item: "events", bytes: bytes.toHex() });
  }
  reference(header: Uint8Array, source: number, number: number, lamport: bigint): void {
    this.items.push({ item: "reference", header: header.toHex(), source, number, lamport });
  }
  frame(header: Uint8Array, payload: Uint8Array, lamport: bigint, origin: FrameOrigin): void {
    const bytes = { header: header.toHex(), payload: payload.toHex() };
    this.items.push({ item: "frame", ...bytes, lamport, origin });
  }
  send(n: number, length: number, hash: Uint8Array, lamport: bigint, head: Uint8Array): void {
    const bytes = { hash: hash.toHex(), head: head.toHex() };
    this.items.push({ item: "send", number: n, length, lamport, ...bytes });
  }
  check(check: CheckPoint): void {
    this.items.push({ item: "check", check });
  }
  epoch(epoch: number, icount: number): void {
    this.items.push({ item: "epoch", epoch, icount });
  }
  end(complete: boolean, icount: number): void {
    this.items.push({ item: "end", complete, icount });
  }
}

/** Writes `items` (all but an end); each run of events counts one instruction for each of its bytes. */
export function writeItems(writer: HybridLogWriter, items: readonly TraceItem[]): void {
  let icount = 0;
  for (const item of items) {
    switch (item.item) {
      case "events": {
        const bytes = Uint8Array.fromHex(item.bytes);
        writer.events(bytes, 0, bytes.length, icount += bytes.length);
        break;
      }
      case "reference": {
        const { source, number, lamport } = item;
        writer.reference(Uint8Array.fromHex(item.header), source, number, lamport);
        break;
      }
      case "frame": {
        const [header, payload] = [item.header, item.payload].map((text) =>
          Uint8Array.fromHex(text)
        );
        writer.frame(header!, payload!, item.lamport, item.origin);
        break;
      }
      case "send": {
        const [hash, head] = [item.hash, item.head].map((text) => Uint8Array.fromHex(text));
        writer.send(item.length, hash!, item.lamport, head!);
        break;
      }
      case "check":
        writer.check(item.check);
        break;
      case "epoch":
        writer.epoch(item.epoch);
        break;
      case "end":
        throw new Error("close() writes the end");
    }
  }
}

/** Reads a log to its end and closes the reader. */
export function readItems(
  reader: HybridLogReader,
): { items: TraceItem[]; blocks: number; ending: HybridEnding } {
  const visitor = new TraceVisitor();
  let blocks = 0;
  try {
    while (reader.nextBlock(visitor)) blocks++;
    return { items: visitor.items, blocks, ending: reader.ending };
  } finally {
    reader.close();
  }
}

/** `items` without sends, neighbouring runs of events joined: what must come back exactly. */
export function ordered(items: readonly TraceItem[]): TraceItem[] {
  const joined: TraceItem[] = [];
  for (const item of items) {
    const last = joined.at(-1);
    if (item.item === "send") continue;
    if (item.item !== "events") joined.push(item);
    else if (last?.item === "events") {
      joined[joined.length - 1] = { item: "events", bytes: last.bytes + item.bytes };
    } else if (item.bytes !== "") joined.push(item);
  }
  return joined;
}

/** The sends of `items`, each with its place: what stands before it, counted in bytes and items. */
function sendPlaces(items: readonly TraceItem[]): { send: TraceItem; place: number }[] {
  let place = 0;
  const sends: { send: TraceItem; place: number }[] = [];
  for (const item of items) {
    if (item.item === "send") sends.push({ send: item, place });
    else if (item.item === "events") place += item.bytes.length / 2;
    else place++;
  }
  return sends;
}

/** Asserts that `read` is what `written` must come back as. */
export function assertSameLog(read: readonly TraceItem[], written: readonly TraceItem[]): void {
  assert.deepEqual(ordered(read), ordered(written));
  const actual = sendPlaces(read);
  const expected = sendPlaces(written);
  assert.deepEqual(actual.map((s) => s.send), expected.map((s) => s.send));
  for (const [i, { place }] of actual.entries()) {
    assert(place <= expected[i]!.place, `send ${i} came later than it was written`);
  }
}

const hexBytes = (minLength: number, maxLength: number) =>
  fc.uint8Array({ minLength, maxLength }).map((bytes) => bytes.toHex());

/** An rr header (kind, id, flags) for a frame of `length` bytes. */
export function rrHeader(kind: number, id: number, flags: number, length: number): string {
  const bytes = new Uint8Array(10);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, kind);
  view.setUint8(1, id);
  view.setUint32(2, flags);
  view.setUint32(6, length);
  return bytes.toHex();
}

const lamport = fc.oneof(fc.bigInt(0n, 1000n), fc.bigInt(0n, 2n ** 64n - 1n));
const headerFor = (length: fc.Arbitrary<number>) =>
  fc.tuple(fc.integer({ min: 0, max: 255 }), fc.nat(2), fc.nat(0xffff_ffff), length)
    .map((fields) => rrHeader(...fields));

/** Any sequence of items that a recorder could write, without the end. */
export const arbitraryItems: fc.Arbitrary<TraceItem[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ item: fc.constant("events"), bytes: hexBytes(1, 200) }) },
    fc.record({
      item: fc.constant("reference"),
      header: headerFor(fc.nat(0xffff_ffff)),
      source: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 2 ** 31 })),
      number: fc.oneof(fc.nat(20), fc.maxSafeNat()),
      lamport,
    }),
    fc.tuple(hexBytes(0, 100), lamport, fc.constantFrom<FrameOrigin>("external", "unmatched"))
      .map(([payload, lamport, origin]) => {
        const header = rrHeader(9, 0, 0, payload.length / 2);
        return { item: "frame", header, payload, lamport, origin };
      }),
    {
      weight: 2,
      arbitrary: fc.record({
        item: fc.constant("send"),
        number: fc.constant(0),
        length: fc.nat(70_000),
        hash: hexBytes(8, 8),
        lamport,
        head: hexBytes(0, 64),
      }),
    },
    fc.record({
      item: fc.constant("check"),
      check: fc.record({
        icount: fc.maxSafeNat(),
        inside: fc.boolean(),
        registers: fc.string(),
        ramDigest: hexBytes(32, 32).map((hex) => `xxh64:${hex}` as const),
        ramBytes: fc.maxSafeNat(),
        wallMs: fc.maxSafeNat(),
      }).map((check) => ({ ...check })),
    }),
    fc.record({
      item: fc.constant("epoch"),
      epoch: fc.integer({ min: 1, max: 1000 }),
      icount: fc.constant(0),
    }),
  ) as fc.Arbitrary<TraceItem>,
  { maxLength: 60 },
).map(numberItems);

/**
 * Gives the sends their numbers, 0, 1, 2 …, makes epochs rise (each is a step from the last) and gives
 * them the instruction counts that {@link writeItems} makes.
 */
export function numberItems(items: TraceItem[]): TraceItem[] {
  let number = 0;
  let epoch = 0;
  let icount = 0;
  return items.map((item) => {
    if (item.item === "events") icount += item.bytes.length / 2;
    if (item.item === "send") return { ...item, number: number++ };
    if (item.item === "epoch") return { ...item, epoch: epoch += item.epoch, icount };
    return { ...item };
  });
}

/** One line an item, for golden files. */
export function formatTrace(items: readonly TraceItem[]): string {
  const line = (item: TraceItem) =>
    JSON.stringify(item, (_key, value) => typeof value === "bigint" ? value.toString() : value);
  return items.map(line).join("\n") + "\n";
}
