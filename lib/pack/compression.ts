/**
 * zstd around a whole pack, as `tar --zstd` has it: kernels shrink to a quarter, empty disks to nothing.
 *
 * ```
 * empty frame, { skippable frame with the length of the next, frame of 1 MiB }, …
 * ```
 * A frame is held in memory whole and can be told from the next without decoding it. The skippable frames are those of
 * pzstd. The empty frame is for tools that look at the first four bytes.
 */
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { equalBytes } from "../bytes/equal_bytes.ts";
import { FormatError, messageOf } from "../errors.ts";
import { CONTENTS_FILE } from "./contents.ts";
import { ExactSource } from "./exact_source.ts";
import { BLOCK_BYTES } from "./tar_blocks.ts";

/** What each frame but the last holds. */
const FRAME_BYTES = 1 << 20;
/** More than zstd makes of incompressible bytes. */
const STORED_BYTES_MAX = FRAME_BYTES + (1 << 14);
const HEADER_BYTES = 12;
const SKIPPABLE_MAGIC = 0x184d2a50;
/** RFC 8878: magic, descriptor (single segment), content size 0, a last raw block of 0 bytes. */
const EMPTY_FRAME = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0);
const MAGIC_BYTES = 4;

/** `chunks` compressed. */
export async function* compressed(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  yield EMPTY_FRAME;
  const source = new ExactSource(chunks, "");
  try {
    while (!await source.atEnd()) {
      const content = new Uint8Array(FRAME_BYTES);
      let filled = 0;
      while (filled < FRAME_BYTES && !await source.atEnd()) {
        const some = await source.some(FRAME_BYTES - filled, "");
        content.set(some, filled);
        filled += some.length;
      }
      const frame = zstdCompressSync(content.subarray(0, filled), {
        params: { [constants.ZSTD_c_checksumFlag]: 1 },
      });
      yield frameHeader(frame.length);
      yield frame;
    }
  } finally {
    await source.close();
  }
}

function frameHeader(length: number): Uint8Array {
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  header.setUint32(0, SKIPPABLE_MAGIC, true);
  header.setUint32(4, 4, true);
  header.setUint32(8, length, true);
  return new Uint8Array(header.buffer);
}

/**
 * What {@link compressed} was given, or `chunks` themselves where they are not compressed.
 * @param name what errors call it
 * @throws {FormatError} with the place where it is damaged
 */
export async function* decompressed(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
): AsyncGenerator<Uint8Array> {
  const source = new ExactSource(chunks, name);
  try {
    const head = await source.peek(EMPTY_FRAME.length);
    if (!isZstd(head)) {
      while (!await source.atEnd()) yield await source.some(FRAME_BYTES, "");
      return;
    }
    if (!equalBytes(await source.take(EMPTY_FRAME.length, "its first frame"), EMPTY_FRAME)) {
      throw new FormatError(
        name,
        0,
        "not compressed by clusterrr. Decompress it with unzstd first",
      );
    }
    for (let last = false; !await source.atEnd();) {
      const content = await readFrame(source);
      if (last) throw damagedFrame(source, "a frame behind the last");
      last = content.length < FRAME_BYTES;
      yield content;
    }
  } finally {
    await source.close();
  }
}

async function readFrame(source: ExactSource): Promise<Uint8Array> {
  const header = await source.take(HEADER_BYTES, "a compressed frame");
  const length = new DataView(header.buffer).getUint32(8, true);
  if (!equalBytes(header, frameHeader(length)) || length > STORED_BYTES_MAX) {
    throw damagedFrame(source, "no frame begins here");
  }
  const frame = await source.take(length, "a compressed frame");
  try {
    const content = zstdDecompressSync(frame, { maxOutputLength: FRAME_BYTES });
    if (content.length > 0) return content;
  } catch (cause) {
    throw damagedFrame(source, `zstd: ${messageOf(cause)}`, { cause });
  }
  throw damagedFrame(source, "an empty frame");
}

function damagedFrame(source: ExactSource, detail: string, options?: ErrorOptions): FormatError {
  return new FormatError(
    source.name,
    source.offset,
    `the compressed pack is damaged before here: ${detail}. Copy the pack again`,
    options,
  );
}

function isZstd(head: Uint8Array): boolean {
  return equalBytes(head.subarray(0, MAGIC_BYTES), EMPTY_FRAME.subarray(0, MAGIC_BYTES));
}

/** Whether the file `path` begins like a packed recording, compressed or not. */
export async function looksPacked(path: string): Promise<boolean> {
  using file = await Deno.open(path);
  const buffer = new Uint8Array(BLOCK_BYTES);
  const head = buffer.subarray(0, await file.read(buffer) ?? 0);
  const name = new TextEncoder().encode(`${CONTENTS_FILE}\0`);
  return isZstd(head) || equalBytes(head.subarray(0, name.length), name);
}
