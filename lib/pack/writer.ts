/** Recording in, pack out: the bytes of one portable file, as they are asked for. See `FORMAT.md`. */
import { createHash } from "node:crypto";
import { ClusterrrError } from "../errors.ts";
import { CONTENTS_FILE, encodeContents, type PackContents, type PackedFile } from "./contents.ts";
import { END_BYTES, headerOf, paddingOf } from "./tar_blocks.ts";

/**
 * The bytes of a pack.
 * @param open gives a file's bytes
 * @throws {ClusterrrError} where a file is not what `contents` says: it was written to meanwhile
 */
export async function* packBytes(
  contents: PackContents,
  open: (file: PackedFile) => AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  const list = encodeContents(contents);
  yield headerOf(CONTENTS_FILE, list.length);
  yield list;
  yield new Uint8Array(paddingOf(list.length));
  for (const file of contents.files) {
    yield headerOf(file.path, file.bytes);
    const hash = createHash("sha256");
    let bytes = 0;
    for await (const chunk of open(file)) {
      bytes += chunk.length;
      if (bytes > file.bytes) throw changed(file);
      hash.update(chunk);
      yield chunk;
    }
    if (bytes < file.bytes || hash.digest("hex") !== file.sha256) throw changed(file);
    yield new Uint8Array(paddingOf(bytes));
  }
  yield new Uint8Array(END_BYTES);
}

function changed({ path }: PackedFile): ClusterrrError {
  return new ClusterrrError(
    `${path} changed while it was packed. Wait until nothing writes to the recording or its images, ` +
      "and pack again.",
  );
}
