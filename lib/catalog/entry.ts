/**
 * What the catalog knows of a recording: facts copied from its manifest, and what only the catalog
 * holds (tags, a name the user gave later). An entry is small; a KV value ends at 64 KiB.
 */
import { z } from "zod";
import { UsageError } from "../errors.ts";

/** The facts of a recording that its manifest states. */
export interface RecordingSummary {
  readonly id: string;
  readonly name: string;
  /** ISO 8601. */
  readonly createdAt: string;
  /** Names of the VMs, in the order of the cluster file. */
  readonly vms: readonly string[];
  /** Whether every VM's log was closed; `false` after a crash or while it is being recorded. */
  readonly complete: boolean;
}

/** More tags than this on one recording are refused: it keeps an entry far below 64 KiB. */
export const TAGS_MAX = 64;
const LABEL = /^[\p{L}\p{N}][\p{L}\p{N}._:@+-]{0,63}$/u;

/** An entry as it lies in the KV store. Fields of later versions are left out. */
export const entrySchema = z.object({
  id: z.string().min(1),
  name: z.string(),
  createdAt: z.string(),
  vms: z.array(z.string()),
  complete: z.boolean(),
  /** Bytes of all files in the directory when it was last looked at. */
  storedBytes: z.number(),
  /** The directory: absolute, without symbolic links. */
  path: z.string(),
  /** The host that has the directory; several hosts may share one store. */
  host: z.string(),
  tags: z.array(z.string()),
  /** Set when the user renamed it: the manifest's name no longer counts. */
  renamed: z.boolean(),
});

/** A recording in the catalog. */
export type CatalogEntry = Readonly<z.infer<typeof entrySchema>>;

/**
 * Returns `text` if it can be a name or a tag: a letter or digit, then up to 63 letters, digits or
 * `. _ : @ + -`. A name without a slash or blank can never be taken for a path or a flag.
 * @throws {UsageError}
 */
export function checkLabel(kind: "name" | "tag", text: string): string {
  if (LABEL.test(text)) return text;
  throw new UsageError(
    `"${text}" cannot be a ${kind}: use up to 64 letters, digits and . _ : @ + -, ` +
      `beginning with a letter or digit`,
  );
}
