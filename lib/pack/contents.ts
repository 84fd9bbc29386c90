/**
 * `pack.json`, the first file of a pack: what the others are, in order, with size and digest. It has no field that
 * could be anything else for the same files, and one way to be written: where a bit of it changes, something does
 * not fit any more. See `FORMAT.md`.
 */
import { z } from "zod";
import { FormatError, messageOf, VersionError } from "../errors.ts";
import { schemaProblems } from "../schema_problems.ts";
import { sha256 } from "../recording/manifest.ts";
import { PATH_BYTES_MAX } from "./tar_blocks.ts";

export const PACK_FORMAT = "clusterrr-pack";
export const PACK_VERSION = 1;
export const CONTENTS_FILE = "pack.json";
/** The most that `pack.json` may have: a reader holds it in memory. */
export const CONTENTS_BYTES_MAX = 16 << 20;

/** Relative, without hidden names: no part of it is empty, `.` or `..`. */
const path = z.string().max(PATH_BYTES_MAX).regex(
  /^[A-Za-z0-9_-][A-Za-z0-9._-]*(\/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$/,
  "not a path that a pack may have",
);

const packedFileSchema = z.strictObject({
  path,
  bytes: z.int().nonnegative(),
  sha256,
});
export type PackedFile = z.infer<typeof packedFileSchema>;

const contentsSchema = z.strictObject({
  format: z.literal(PACK_FORMAT),
  formatVersion: z.literal(PACK_VERSION),
  files: z.array(packedFileSchema),
}).superRefine(({ files }, context) => {
  const issue = (i: number, message: string) =>
    context.addIssue({ code: "custom", path: ["files", i, "path"], message });
  const seen = new Set<string>([CONTENTS_FILE]);
  const directories = new Set<string>();
  for (const [i, file] of files.entries()) {
    if (seen.has(file.path)) issue(i, `"${file.path}" is there twice`);
    seen.add(file.path);
    const parts = file.path.split("/");
    for (let n = 1; n < parts.length; n++) directories.add(parts.slice(0, n).join("/"));
    const image = /^images\/(.*)$/.exec(file.path)?.[1];
    if (image !== undefined && image !== file.sha256) issue(i, "an image's name is its SHA-256");
  }
  for (const [i, file] of files.entries()) {
    if (directories.has(file.path)) issue(i, `"${file.path}" is a file and a directory`);
  }
});
/** What a pack holds. */
export type PackContents = z.infer<typeof contentsSchema>;

/** The bytes of `pack.json`. */
export function encodeContents(contents: PackContents): Uint8Array {
  return new TextEncoder().encode(textOf(contentsSchema.parse(contents)));
}

function textOf({ format, formatVersion, files }: PackContents): string {
  const listed = files.map(({ path, bytes, sha256 }) => ({ path, bytes, sha256 }));
  return JSON.stringify({ format, formatVersion, files: listed }, null, 1) + "\n";
}

/**
 * Reads `pack.json`.
 * @param name the pack's, for errors
 * @param offset where `pack.json` begins in it
 * @throws {VersionError} where another build packed it; {FormatError} where it is damaged
 */
export function decodeContents(name: string, offset: number, bytes: Uint8Array): PackContents {
  const fail = (detail: string, options?: ErrorOptions) =>
    new FormatError(name, offset, `${CONTENTS_FILE}: ${detail}`, options);
  let text: string;
  let json: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    json = JSON.parse(text);
  } catch (cause) {
    throw fail(`not JSON: ${messageOf(cause)}`, { cause });
  }
  const start = z.object({ format: z.string(), formatVersion: z.int() }).safeParse(json);
  if (!start.success || start.data.format !== PACK_FORMAT) {
    throw fail("this is no packed recording");
  }
  if (start.data.formatVersion !== PACK_VERSION) {
    throw new VersionError(
      name,
      offset,
      `pack format ${start.data.formatVersion}; this build knows format ${PACK_VERSION}. ` +
        "Unpack it with the clusterrr that packed it.",
    );
  }
  const result = contentsSchema.safeParse(json);
  if (!result.success) {
    throw fail(schemaProblems(result.error), { cause: result.error });
  }
  if (textOf(result.data) !== text) throw fail("it is not written as clusterrr writes it");
  return result.data;
}
