/**
 * The event kinds of QEMU's record/replay log, one table a log version.
 *
 * A kind byte is the position of its event in QEMU's `enum ReplayEvents`, which is glued together
 * from five other enumerations; when one of them grows, every later number moves. Mirrors
 * `replay/replay-internal.h`, `include/sysemu/replay.h` (`include/system/replay.h` from 10.0) and
 * `ShutdownCause` of `qapi/run-state.json`. FORMAT.md tells what was compared with which source.
 */
import { VersionError } from "../../lib/errors.ts";

/** What an event means to us: which fields stand behind its kind byte (`events.ts`). */
export type RrEventType =
  | "plain"
  | "instruction"
  | "id"
  | "input"
  | "charRead"
  | "frame"
  | "charWrite"
  | "bytes"
  | "result"
  | "audioOut"
  | "audioIn"
  | "random"
  | "clock"
  | "end";

/** How the bytes behind a kind byte are laid out. Everything is big-endian. */
export type RrBody =
  /** `bytes` bytes. */
  | { readonly layout: "fixed"; readonly bytes: number }
  /** `before` bytes, a u32 length, so many bytes; a length above `limit` is damage. */
  | { readonly layout: "array"; readonly before: number; readonly limit: number }
  /** An input event: a tagged union, see `input.ts`. */
  | { readonly layout: "input" }
  /** u64 sample count, u64 position, 16 bytes a sample. */
  | { readonly layout: "samples"; readonly limit: number };

/** One kind of event. */
export interface RrKind {
  readonly name: string;
  readonly type: RrEventType;
  readonly body: RrBody;
}

/** The kinds of one range of QEMU versions. */
export interface RrLogTable {
  /** QEMU's `REPLAY_VERSION`, the word at a log's start or end. */
  readonly version: number;
  /** The QEMU versions that write it, for messages. */
  readonly qemu: string;
  /** Whether logs that such a QEMU wrote were decoded to their end here, and replayed. */
  readonly verified: boolean;
  /** The index is the kind byte. */
  readonly kinds: readonly RrKind[];
}

/** The kind byte of INSTRUCTION, in every version. */
export const KIND_INSTRUCTION = 0;
/** The longest frame: far above the 64 KiB of a segmentation-offload frame. */
export const FRAME_BYTES_MAX = 256 * 1024;
/** The longest of the other arrays: random numbers, characters, audio samples. */
export const ARRAY_BYTES_MAX = 16 * 1024 * 1024;

/** What stands behind the kind byte of each event type; the fields are named in `events.ts`. */
const BODIES: Readonly<Record<RrEventType, RrBody>> = {
  plain: { layout: "fixed", bytes: 0 },
  instruction: { layout: "fixed", bytes: 4 },
  id: { layout: "fixed", bytes: 8 },
  input: { layout: "input" },
  charRead: { layout: "array", before: 1, limit: ARRAY_BYTES_MAX },
  frame: { layout: "array", before: 5, limit: FRAME_BYTES_MAX },
  charWrite: { layout: "fixed", bytes: 8 },
  bytes: { layout: "array", before: 0, limit: ARRAY_BYTES_MAX },
  result: { layout: "fixed", bytes: 4 },
  audioOut: { layout: "fixed", bytes: 8 },
  audioIn: { layout: "samples", limit: ARRAY_BYTES_MAX },
  random: { layout: "array", before: 4, limit: ARRAY_BYTES_MAX },
  clock: { layout: "fixed", bytes: 8 },
  end: { layout: "fixed", bytes: 0 },
};

function kind(name: string, type: RrEventType = "plain"): RrKind {
  return { name, type, body: BODIES[type] };
}

/** `ShutdownCause` as of 7.1; 7.2 added one at the end. */
const SHUTDOWN_CAUSES_7_1 = [
  "NONE",
  "HOST_ERROR",
  "HOST_QMP_QUIT",
  "HOST_QMP_SYSTEM_RESET",
  "HOST_SIGNAL",
  "HOST_UI",
  "GUEST_SHUTDOWN",
  "GUEST_RESET",
  "GUEST_PANIC",
  "SUBSYSTEM_RESET",
] as const;

const SHUTDOWN_CAUSES_7_2 = [...SHUTDOWN_CAUSES_7_1, "SNAPSHOT_LOAD"] as const;

const CHECKPOINTS = [
  "CLOCK_WARP_START",
  "CLOCK_WARP_ACCOUNT",
  "RESET_REQUESTED",
  "SUSPEND_REQUESTED",
  "CLOCK_VIRTUAL",
  "CLOCK_HOST",
  "CLOCK_VIRTUAL_RT",
  "INIT",
  "RESET",
] as const;

/** The event enumeration since 7.1, which gave each asynchronous event a kind byte of its own. */
function kindsSince71(shutdownCauses: readonly string[]): readonly RrKind[] {
  return [
    kind("INSTRUCTION", "instruction"),
    kind("INTERRUPT"),
    kind("EXCEPTION"),
    kind("ASYNC_BH", "id"),
    kind("ASYNC_BH_ONESHOT", "id"),
    kind("ASYNC_INPUT", "input"),
    kind("ASYNC_INPUT_SYNC"),
    kind("ASYNC_CHAR_READ", "charRead"),
    kind("ASYNC_BLOCK", "id"),
    kind("ASYNC_NET", "frame"),
    ...shutdownCauses.map((cause) => kind(`SHUTDOWN_${cause}`)),
    // QEMU's range ends at EVENT_SHUTDOWN + SHUTDOWN_CAUSE__MAX: one number that no cause has.
    kind("SHUTDOWN__MAX"),
    kind("CHAR_WRITE", "charWrite"),
    kind("CHAR_READ_ALL", "bytes"),
    kind("CHAR_READ_ALL_ERROR", "result"),
    kind("AUDIO_OUT", "audioOut"),
    kind("AUDIO_IN", "audioIn"),
    kind("RANDOM", "random"),
    kind("CLOCK_HOST", "clock"),
    kind("CLOCK_VIRTUAL_RT", "clock"),
    ...CHECKPOINTS.map((checkpoint) => kind(`CHECKPOINT_${checkpoint}`)),
    kind("END", "end"),
  ];
}

/** `REPLAY_VERSION` of QEMU 7.1 to 10.2 (`replay/replay.c`). */
export const REPLAY_VERSION = 0xe0200c;
const KINDS_7_1 = kindsSince71(SHUTDOWN_CAUSES_7_1);
const KINDS_7_2 = kindsSince71(SHUTDOWN_CAUSES_7_2);

const TABLE_7_2: RrLogTable = {
  version: REPLAY_VERSION,
  qemu: "7.2",
  verified: true,
  kinds: KINDS_7_2,
};

/** Every table, with the QEMU releases (major × 100 + minor) it belongs to, both ends included. */
const TABLES: readonly {
  readonly from: number;
  readonly to: number;
  readonly table: RrLogTable;
}[] = [
  {
    from: 701,
    to: 701,
    table: { version: REPLAY_VERSION, qemu: "7.1", verified: false, kinds: KINDS_7_1 },
  },
  { from: 702, to: 702, table: TABLE_7_2 },
  {
    from: 800,
    to: 902,
    table: { version: REPLAY_VERSION, qemu: "8.0 to 9.2", verified: false, kinds: KINDS_7_2 },
  },
  {
    from: 1000,
    to: 1000,
    table: { version: REPLAY_VERSION, qemu: "10.0", verified: true, kinds: KINDS_7_2 },
  },
  {
    from: 1001,
    to: 1002,
    table: { version: REPLAY_VERSION, qemu: "10.1 to 10.2", verified: false, kinds: KINDS_7_2 },
  },
];

/** Every known table, oldest QEMU first. */
export const RR_LOG_TABLES: readonly RrLogTable[] = TABLES.map((entry) => entry.table);

/** The number of the kind of events that is called `name`; -1 in a version that has none. */
export function kindOf(table: RrLogTable, name: string): number {
  return table.kinds.findIndex((kind) => kind.name === name);
}

/**
 * The table for a log's version word. QEMU did not change the word when 7.2 added a shutdown cause,
 * so `0xe0200c` stands for 7.2 and later; a log of 7.1 needs {@link tableForQemu}.
 * @throws {VersionError}
 */
export function tableForVersion(version: number): RrLogTable {
  if (version === REPLAY_VERSION) return TABLE_7_2;
  throw new VersionError(
    "rr log",
    0,
    `version word 0x${version.toString(16)} is not known; this build knows ` +
      `0x${REPLAY_VERSION.toString(16)} (QEMU 7.2 and later). Record with one of those`,
  );
}

/**
 * The table for the log that a QEMU has written: by its own version, which tells more than the log's.
 * @throws {VersionError}
 */
export function tableOfLog(
  { version, rrLogVersion }: { readonly version: string; readonly rrLogVersion: number },
): RrLogTable {
  const table = tableForQemu(version);
  return table.version === rrLogVersion ? table : tableForVersion(rrLogVersion);
}

/**
 * The table for a QEMU by its version, such as `7.2.22` (what follows the numbers does not matter).
 * @throws {VersionError}
 */
export function tableForQemu(version: string): RrLogTable {
  const numbers = /^(\d+)\.(\d+)(?![\d])/.exec(version);
  if (numbers !== null) {
    const release = Number(numbers[1]) * 100 + Number(numbers[2]);
    const found = TABLES.find(({ from, to }) => from <= release && release <= to);
    if (found !== undefined) return found.table;
  }
  throw new VersionError(
    "rr log",
    0,
    `the event log of QEMU "${version}" is not known; use one of QEMU ` +
      RR_LOG_TABLES.map((table) => table.qemu).join(", "),
  );
}
