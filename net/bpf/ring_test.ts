import assert from "node:assert/strict";
import fc from "fast-check";
import { type RingMemory, RingReader } from "./ring.ts";

const BYTES = 256;
const BUSY = 0x8000_0000;
const DISCARDED = 0x4000_0000;

/** The kernel's side of a ring, over plain memory. */
class Writer {
  readonly memory: RingMemory = {
    consumer: new BigInt64Array(1),
    producer: new BigInt64Array(1),
    data: new DataView(new ArrayBuffer(2 * BYTES)),
    bytes: BYTES,
  };

  /** Both copies of the ring's bytes, as the kernel's double mapping shows them. */
  #write(position: bigint, word: number): void {
    const at = Number(position % BigInt(BYTES));
    this.memory.data.setUint32(at, word, true);
    this.memory.data.setUint32(at + BYTES, word, true);
  }

  /** Reserves a record of `words` and returns the position of its header; false: the ring is full. */
  put(words: number[], flags = 0): bigint | false {
    const start = this.memory.producer[0]!;
    const size = BigInt((8 + 4 * words.length + 7) & ~7);
    if (start + size - this.memory.consumer[0]! >= BigInt(BYTES)) return false;
    words.forEach((word, i) => this.#write(start + 8n + BigInt(4 * i), word));
    this.#write(start, (4 * words.length | flags) >>> 0);
    this.memory.producer[0] = start + size;
    return start;
  }

  submit(position: bigint, words: number[]): void {
    this.#write(position, 4 * words.length);
  }
}

function taken(reader: RingReader): number[][] {
  const records: number[][] = [];
  const count = reader.drain((data, offset, length) => {
    records.push(
      Array.from({ length: length / 4 }, (_, i) => data.getUint32(offset + 4 * i, true)),
    );
  });
  assert.equal(count, records.length);
  return records;
}

Deno.test("a record that is still being written holds up those behind it", () => {
  const writer = new Writer();
  const reader = new RingReader(writer.memory);
  writer.put([1]);
  const busy = writer.put([2, 3], BUSY) as bigint;
  writer.put([4]);
  assert.deepEqual([reader.isBusy, taken(reader), reader.isBusy], [false, [[1]], true]);
  assert.deepEqual([taken(reader), reader.isBusy], [[], true]);
  writer.submit(busy, [2, 3]);
  assert.deepEqual([taken(reader), reader.isBusy], [[[2, 3], [4]], false]);
  assert.equal(writer.memory.consumer[0], writer.memory.producer[0]);
});

Deno.test("a discarded record is skipped", () => {
  const writer = new Writer();
  const reader = new RingReader(writer.memory);
  writer.put([7, 7, 7], DISCARDED);
  writer.put([8]);
  assert.deepEqual(taken(reader), [[8]]);
});

Deno.test("a sink that throws loses that record only", () => {
  const writer = new Writer();
  const reader = new RingReader(writer.memory);
  for (const word of [1, 2, 3]) writer.put([word]);
  let calls = 0;
  assert.throws(() =>
    reader.drain(() => {
      if (++calls === 2) throw new Error("enough");
    }), /enough/);
  assert.deepEqual(taken(reader), [[3]]);
});

Deno.test("what goes in comes out once and in order, around the ring's end too", () => {
  const step = fc.oneof(
    fc.array(fc.nat(), { minLength: 1, maxLength: 14 }),
    fc.constant("drain" as const),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const writer = new Writer();
      const reader = new RingReader(writer.memory);
      let waiting: number[][] = [];
      for (const action of steps) {
        if (action === "drain") {
          assert.deepEqual(taken(reader), waiting);
          waiting = [];
        } else if (writer.put(action) !== false) {
          waiting.push(action);
        }
      }
      assert.deepEqual(taken(reader), waiting);
    }),
    { verbose: 1 },
  );
});
