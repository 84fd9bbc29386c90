/**
 * What the laboratory keeps: raw samples, from which every report is made. One file holds the samples of
 * one or several runs of the laboratory (*pieces*); each sample says which piece it is from.
 */
import { z } from "zod";
import { ClusterrrError, messageOf } from "../../lib/errors.ts";

const count = z.number().nonnegative();

/** A run of the laboratory: machine, versions, what was asked for. */
export const pieceSchema = z.strictObject({
  startedAt: z.iso.datetime(),
  cpu: z.string(),
  cores: z.int().positive(),
  memoryBytes: count,
  kernel: z.string(),
  qemu: z.string(),
  deno: z.string(),
  zstd: z.string(),
  /** clusterrr's, 12 hex digits, `-dirty` behind them where the sources differed from it. */
  commit: z.string(),
  /** Load average of the last minute before the run. */
  loadBefore: count,
  options: z.strictObject({
    examples: z.array(z.string()),
    recordings: z.int(),
    replays: z.int(),
    loads: z.array(z.enum(["idle", "full"])),
    stockRounds: z.int(),
  }),
});
export type Piece = z.infer<typeof pieceSchema>;

/** `idle`: nothing else of ours runs. `full`: a busy loop on every core, all the time. */
export type Load = Piece["options"]["loads"][number];

const useSchema = z.strictObject({ cpuS: count, rssBytesMax: count });

/** One verification: a replay that is stopped at each check and compared with its recording in everything. */
export const replaySchema = z.strictObject({
  identical: z.boolean(),
  /** What differed, or why there was no replay. */
  difference: z.string().optional(),
  frames: z.strictObject({ recorded: count, matched: count }),
  checks: z.strictObject({ recorded: count, equal: count }),
  consolesEqual: z.boolean(),
  /** From the first instruction to the last; absent where it did not come that far. */
  replayS: count.optional(),
  /** The whole command. */
  wholeS: count.optional(),
  /** Of clusterrr's process, not QEMU's. */
  use: useSchema.optional(),
});
export type ReplaySample = z.infer<typeof replaySchema>;

/** A replay that compares frames only, as `clusterrr replay` does; or what went wrong. */
const replayTimeSchema = z.union([
  z.strictObject({ replayS: count, wholeS: count.optional(), use: useSchema }),
  z.strictObject({ failure: z.string() }),
]);
export type ReplayTime = z.infer<typeof replayTimeSchema>;

/** What was measured of one recording; sums over its VMs. */
const recordedSchema = z.strictObject({
  recordS: count,
  wholeS: count,
  use: useSchema,
  vms: z.int().positive(),
  instructions: count,
  /** `rrLog`: what QEMU wrote into our FIFOs. */
  bytes: z.strictObject({ rrLog: count, hybrid: count, stored: count }),
  /** Received ones: from recorded VMs, from elsewhere, and internal ones that were stored whole. */
  frames: z.strictObject({ sent: count, internal: count, external: count, storedWhole: count }),
  recorder: z.strictObject({ lostEvents: count, droppedFrames: count }).optional(),
  checks: count,
});
export type Recorded = z.infer<typeof recordedSchema>;

/** One recording with its replays, all under the same load. */
export const recordingSchema = z.strictObject({
  piece: z.int().nonnegative(),
  example: z.string(),
  load: z.enum(["idle", "full"]),
  /** Why there is no recording. */
  failure: z.string().optional(),
  recorded: recordedSchema.optional(),
  /** What guests did not do of their work, one line each. */
  unfinishedWork: z.array(z.string()),
  /** The example may fail: its unfinished work is no failure of the laboratory. */
  mayFail: z.boolean(),
  /** What a replay takes that stops nowhere. */
  replayTime: replayTimeSchema.optional(),
  replays: z.array(replaySchema),
  /** Where the recording is, where something was wrong with it. */
  kept: z.string().optional(),
});
export type RecordingSample = z.infer<typeof recordingSchema>;

/** One run of a cluster under stock QEMU; a time, or why it has none. */
const stockRunSchema = z.union([
  z.strictObject({ runS: count }),
  z.strictObject({ failure: z.string() }),
]);
export type StockRun = z.infer<typeof stockRunSchema>;

/** The same cluster under stock QEMU, without any of clusterrr's parts. */
export const stockSchema = z.strictObject({
  piece: z.int().nonnegative(),
  example: z.string(),
  /** Without record/replay. */
  plain: stockRunSchema,
  record: stockRunSchema,
  /** Its logs, of all VMs. */
  logs: z.strictObject({ bytes: count, zstd19Bytes: count }).optional(),
  /** From those logs. `boundS`: it had not ended by then, and was given up. */
  replay: z.union([stockRunSchema, z.strictObject({ boundS: count })]).optional(),
  /** Whether that replay's consoles were the recording's. */
  consolesEqual: z.boolean().optional(),
});
export type StockSample = z.infer<typeof stockSchema>;

const FORMAT = "clusterrr laboratory 2";

export const resultsSchema = z.strictObject({
  format: z.literal(FORMAT),
  pieces: z.array(pieceSchema).min(1),
  recordings: z.array(recordingSchema),
  stock: z.array(stockSchema),
});
/** The content of a file of results. */
export type Results = z.infer<typeof resultsSchema>;

/** Results of one piece, without samples yet. */
export function emptyResults(piece: Piece): Results {
  return { format: FORMAT, pieces: [piece], recordings: [], stock: [] };
}

/** Writes `results`: whoever reads sees the old file or the new one, whole. */
export function writeResults(path: string, results: Results): void {
  Deno.writeTextFileSync(`${path}.tmp`, JSON.stringify(results, null, 1) + "\n");
  Deno.renameSync(`${path}.tmp`, path);
}

/** Reads a file that the laboratory wrote. @throws {ClusterrrError} where it is something else */
export function readResults(path: string): Results {
  let json: unknown;
  try {
    json = JSON.parse(Deno.readTextFileSync(path));
  } catch (cause) {
    throw new ClusterrrError(`${path} holds no results: ${messageOf(cause)}`, { cause });
  }
  const results = resultsSchema.safeParse(json);
  if (!results.success) {
    throw new ClusterrrError(
      `${path} holds no results of this laboratory: ${z.prettifyError(results.error)}`,
    );
  }
  const { pieces, recordings, stock } = results.data;
  if ([...recordings, ...stock].some(({ piece }) => piece >= pieces.length)) {
    throw new ClusterrrError(`${path} has a sample of a piece that is not in it.`);
  }
  return results.data;
}

/** The samples of several files as one; a piece that is in two of them is an error. */
export function mergeResults(all: readonly Results[]): Results {
  const merged: Results = { format: FORMAT, pieces: [], recordings: [], stock: [] };
  for (const { pieces, recordings, stock } of all) {
    const first = merged.pieces.length;
    for (const piece of pieces) {
      if (merged.pieces.some((other) => JSON.stringify(other) === JSON.stringify(piece))) {
        throw new ClusterrrError(`The run of ${piece.startedAt} is in two of the files.`);
      }
      merged.pieces.push(piece);
    }
    const moved = <T extends { piece: number }>(sample: T): T => ({
      ...sample,
      piece: sample.piece + first,
    });
    merged.recordings.push(...recordings.map(moved));
    merged.stock.push(...stock.map(moved));
  }
  return merged;
}
