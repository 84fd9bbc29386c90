/**
 * The two outer forms of an rr log, and the ends of the stream that a replay reads.
 *
 * ```
 * file  version word, 8 bytes of zeros, events, END                 (rrfile is a regular file)
 * FIFO  events, END, version word                                   (recorded into a FIFO)
 * FIFO  version word, events, END                                   (replayed from a FIFO)
 * ```
 *
 * QEMU writes a file's header last, by seeking back: in a file that it did not close the header is
 * all zeros. FORMAT.md tells why the two recorded forms cannot be confused.
 */
import { VersionError } from "../../lib/errors.ts";
import { readU32 } from "./measure.ts";
import { kindOf, REPLAY_VERSION, type RrLogTable, tableForVersion } from "./tables.ts";

const VERSION_WORD_BYTES = 4;
const FILE_HEADER_BYTES = 12;

/** How a log was recorded. */
export type RrLogForm = "file" | "fifo";

/** A recorded log, taken out of its outer form. */
export interface RrLog {
  readonly form: RrLogForm;
  readonly table: RrLogTable;
  /** The events, without header and version word; END is the last one unless the log was cut off. */
  readonly events: Uint8Array<ArrayBuffer>;
  /** Where `events` begins in the log. */
  readonly eventsOffset: number;
  /** Whether QEMU wrote the version word, which it does last of all. */
  readonly closed: boolean;
}

/** Tells the form of a recorded log from its first 12 bytes (fewer pass for the FIFO form). */
export function detectForm(firstBytes: Uint8Array): RrLogForm {
  if (firstBytes.length < FILE_HEADER_BYTES) return "fifo";
  // Read as events, a version word 0x00e02… would begin an INSTRUCTION of 2^31 or more, and a header
  // of zeros an INSTRUCTION of 0: QEMU writes neither.
  const header = firstBytes.subarray(0, FILE_HEADER_BYTES);
  const isFile = readU32(header, 0) >>> 12 === 0xe02 || header.every((byte) => byte === 0);
  return isFile ? "file" : "fifo";
}

/**
 * Takes a recorded log out of its outer form.
 * @param name of the log, for errors
 * @param table when the log's QEMU is known; otherwise the version word chooses, and where there is
 *   none the newest format is taken
 * @throws {VersionError} an unknown or other version
 */
export function parseRrLog(
  bytes: Uint8Array<ArrayBuffer>,
  name: string,
  table?: RrLogTable,
): RrLog {
  const form = detectForm(bytes);
  const wordAt = form === "file" ? 0 : bytes.length - VERSION_WORD_BYTES;
  const eventsOffset = form === "file" ? FILE_HEADER_BYTES : 0;
  const assumed = table ?? tableForVersion(REPLAY_VERSION);
  const closed = form === "file"
    ? readU32(bytes, 0) !== 0
    : wordAt > 0 && assumed.kinds[bytes[wordAt - 1]!]?.type === "end" &&
      readU32(bytes, wordAt) === assumed.version;
  if (closed && readU32(bytes, wordAt) !== assumed.version) {
    throw new VersionError(
      name,
      wordAt,
      `version word 0x${readU32(bytes, wordAt).toString(16)}, ` +
        `but QEMU ${assumed.qemu} writes 0x${assumed.version.toString(16)}. ` +
        `Read it with a build that knows the QEMU that recorded it`,
    );
  }
  const eventsEnd = form === "fifo" && closed ? wordAt : bytes.length;
  return {
    form,
    table: assumed,
    events: bytes.subarray(eventsOffset, eventsEnd),
    eventsOffset,
    closed,
  };
}

/** Reads a log file of either form. @throws {VersionError} as {@link parseRrLog} */
export async function readRrLogFile(path: string, table?: RrLogTable): Promise<RrLog> {
  return parseRrLog(await Deno.readFile(path), path, table);
}

/**
 * What a replay through a FIFO reads before the first event: the version word alone. QEMU then seeks
 * behind the file form's header, which a FIFO ignores (`replay_enable` in `replay/replay.c`).
 */
export function replayPreamble(table: RrLogTable): Uint8Array<ArrayBuffer> {
  const word = new Uint8Array(VERSION_WORD_BYTES);
  new DataView(word.buffer).setUint32(0, table.version);
  return word;
}

/**
 * The events that close a log which was cut off: a shutdown as QMP `quit` asks for it, and END.
 * Without them a replay ends with "error reading the replay data".
 */
export function syntheticEnd(table: RrLogTable): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(["SHUTDOWN_HOST_QMP_QUIT", "END"], (name) => kindOf(table, name));
}
