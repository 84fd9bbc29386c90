/**
 * Pack in, its files out. Nothing in a pack is interpreted but `pack.json`: from that follows every byte that is no
 * file's content, and each file's digest. What differs is damage, and is named.
 *
 * ```
 * header, pack.json ──▶ contents ──for each file──▶ header? bytes, digest? padding? ──▶ end? nothing behind it?
 * ```
 */
import { createHash } from "node:crypto";
import { equalBytes } from "../bytes/equal_bytes.ts";
import { FormatError } from "../errors.ts";
import {
  CONTENTS_BYTES_MAX,
  CONTENTS_FILE,
  decodeContents,
  type PackContents,
  type PackedFile,
} from "./contents.ts";
import { ExactSource } from "./exact_source.ts";
import { BLOCK_BYTES, END_BYTES, headerOf, paddingOf, sizeIn } from "./tar_blocks.ts";

/** What takes the files of a pack, one after the other. */
export interface PackReceiver {
  /** What is going to come. */
  start(contents: PackContents): Promise<void>;
  begin(file: PackedFile): Promise<void>;
  /** The next bytes of the file that has begun. */
  data(bytes: Uint8Array): Promise<void>;
  /** The file is whole, and has its digest. */
  end(): Promise<void>;
}

/**
 * Reads a pack to its end.
 * @param chunks its bytes, uncompressed
 * @param name what errors call it
 * @throws {FormatError} with the place, and the file that is damaged; {VersionError}
 */
export async function readPack(
  chunks: AsyncIterable<Uint8Array>,
  name: string,
  receiver: PackReceiver,
): Promise<PackContents> {
  const source = new ExactSource(chunks, name);
  try {
    const contents = await readContents(source, name);
    await receiver.start(contents);
    for (const file of contents.files) {
      await requireBytes(source, headerOf(file.path, file.bytes), `the header of ${file.path}`);
      await readFile(source, file, name, receiver);
      const padding = new Uint8Array(paddingOf(file.bytes));
      await requireBytes(source, padding, `the zeros behind ${file.path}`);
    }
    await requireBytes(source, new Uint8Array(END_BYTES), "the end of the pack");
    if (!await source.atEnd()) {
      throw new FormatError(name, source.offset, "there is something behind the end of the pack");
    }
    return contents;
  } finally {
    await source.close();
  }
}

async function readContents(source: ExactSource, name: string): Promise<PackContents> {
  const header = await source.take(BLOCK_BYTES, `the header of ${CONTENTS_FILE}`);
  const bytes = sizeIn(header);
  if (bytes === undefined || !equalBytes(header, headerOf(CONTENTS_FILE, bytes))) {
    throw new FormatError(name, 0, "this is no packed recording, or its beginning is damaged");
  }
  if (bytes > CONTENTS_BYTES_MAX) {
    throw new FormatError(name, 0, `${CONTENTS_FILE} has ${bytes} bytes: too many`);
  }
  const contents = decodeContents(name, source.offset, await source.take(bytes, CONTENTS_FILE));
  const padding = new Uint8Array(paddingOf(bytes));
  await requireBytes(source, padding, `the zeros behind ${CONTENTS_FILE}`);
  return contents;
}

async function readFile(
  source: ExactSource,
  file: PackedFile,
  name: string,
  receiver: PackReceiver,
): Promise<void> {
  const start = source.offset;
  const hash = createHash("sha256");
  await receiver.begin(file);
  for (let left = file.bytes; left > 0;) {
    const bytes = await source.some(left, file.path);
    hash.update(bytes);
    left -= bytes.length;
    await receiver.data(bytes);
  }
  const digest = hash.digest("hex");
  if (digest !== file.sha256) {
    throw new FormatError(
      name,
      start,
      `${file.path} is damaged: SHA-256 ${digest}, packed ${file.sha256}. Copy the pack again`,
    );
  }
  await receiver.end();
}

/** @throws {FormatError} where anything else than `expected` comes */
async function requireBytes(
  source: ExactSource,
  expected: Uint8Array,
  what: string,
): Promise<void> {
  const start = source.offset;
  const bytes = await source.take(expected.length, what);
  if (equalBytes(bytes, expected)) return;
  throw new FormatError(
    source.name,
    start + bytes.findIndex((byte, i) => byte !== expected[i]),
    `damaged here or in ${CONTENTS_FILE}, or not packed by clusterrr: this is not ${what}. ` +
      "Copy the pack again",
  );
}
