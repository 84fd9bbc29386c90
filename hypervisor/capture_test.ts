/** The capture: frames out of a stream that comes in pieces of any size. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../lib/errors.ts";
import { Capture, FrameSplitter } from "./capture.ts";

/** As `filter-mirror` writes it: the length, big-endian, and the bytes. */
function mirrored(...frames: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const parts = frames.flatMap((frame) => {
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, frame.length);
    return [...length, ...frame];
  });
  return Uint8Array.from(parts);
}

const frames = [Uint8Array.of(1, 2, 3), Uint8Array.of(4), new Uint8Array(300).fill(5)];

Deno.test("splitter: frames come out whole at every chunk boundary", () => {
  const stream = mirrored(...frames);
  for (let cut = 0; cut <= stream.length; cut++) {
    const splitter = new FrameSplitter();
    const taken: Uint8Array[] = [];
    let count = 0;
    for (const part of [stream.subarray(0, cut), stream.subarray(cut)]) {
      count += splitter.push(part, (frame) => taken.push(frame));
      assert.equal(count, taken.length);
    }
    assert.deepEqual(taken, frames, `cut at ${cut}`);
  }
});

Deno.test("splitter: a frame comes out with its last byte, not before", () => {
  const splitter = new FrameSplitter();
  const counts = Array.from(mirrored(...frames.slice(0, 2)), (byte) => {
    return splitter.push(Uint8Array.of(byte), () => {});
  });
  assert.deepEqual(counts, [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
});

Deno.test("property: splitter: any frames in any pieces", () =>
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { maxLength: 10 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 60 })),
      (frames, sizes) => {
        const stream = mirrored(...frames);
        const splitter = new FrameSplitter();
        const taken: Uint8Array[] = [];
        for (let at = 0; at < stream.length;) {
          const size = sizes.next().value as number;
          splitter.push(stream.subarray(at, at + size), (frame) => taken.push(frame));
          at += size;
        }
        assert.deepEqual(taken, frames.map((frame) => Uint8Array.from(frame)));
      },
    ),
    { numRuns: 200 },
  ));

Deno.test("splitter: frames are the callee's, the chunk is not", () => {
  const stream = mirrored(...frames);
  const taken: Uint8Array[] = [];
  const splitter = new FrameSplitter();
  for (let at = 0; at < stream.length; at += 6) {
    const chunk = stream.slice(at, at + 6);
    splitter.push(chunk, (frame) => taken.push(frame));
    chunk.fill(0xee); // the reader's buffer is used again
  }
  assert.deepEqual(taken, frames);
});

Deno.test("splitter: lengths that no frame has are refused, the largest is not", () => {
  const LARGEST = 4096 + 65536;
  const header = (length: number) => {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, length);
    return bytes;
  };
  for (const length of [0, LARGEST + 1, 0xffff_ffff]) {
    assert.throws(
      () => new FrameSplitter().push(header(length), () => {}),
      (error) =>
        error instanceof ProtocolError && error.message.includes(`a frame of ${length} bytes`),
    );
  }
  const splitter = new FrameSplitter();
  assert.equal(splitter.push(header(LARGEST), () => {}), 0);
  assert.equal(splitter.push(new Uint8Array(LARGEST), () => {}), 1);
});

Deno.test("capture: takes what waits from the socket, and ends with it", async () => {
  const directory = await Deno.makeTempDir({ prefix: "clrr-capture-" });
  try {
    const path = `${directory}/capture`;
    using listener = Deno.listen({ transport: "unix", path });
    const capture = new Capture(path, new Uint8Array(64));
    const qemu = await listener.accept();
    const taken: Uint8Array[] = [];
    const read = () => capture.read((frame) => taken.push(frame));
    assert.equal(read(), 0);
    const stream = mirrored(...frames);
    await qemu.write(stream.subarray(0, 200));
    assert.equal(read(), 2);
    await qemu.write(stream.subarray(200));
    qemu.close();
    assert.equal(read(), 1);
    assert.equal(read(), 0);
    assert.deepEqual(taken, frames);
    capture.close();
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
