/**
 * One segment file, append-only: a record is in the file whole or not at all.
 *
 * Blocks come in encoded, and go out to the file with one write each. Where a write fails, the part of
 * the record that reached the file is cut off again, so that the file stays a sequence of records.
 */
import { createHash } from "node:crypto";
import { ByteWriter } from "../bytes/byte_writer.ts";
import { ClusterrrError } from "../errors.ts";
import { diskError } from "./disk_error.ts";
import { segmentName, type SegmentSummary } from "./hybrid_log.ts";
import {
  checksumSeed,
  encodeFooter,
  encodeSegmentHeader,
  type IndexEntry,
  type NewSegment,
} from "./segment_layout.ts";

export class SegmentWriter {
  /** Starting value of the checksums of this segment's blocks. */
  readonly seed: number;
  readonly entries: IndexEntry[] = [];
  readonly #name: string;
  readonly #path: string;
  readonly #file: Deno.FsFile;
  readonly #hash = createHash("sha256");
  #bytes = 0;

  /**
   * Creates the file with its header.
   * @throws {ClusterrrError} if it exists; {HostError} if it cannot be written
   */
  constructor(dir: string, header: NewSegment) {
    this.#name = segmentName(header.number);
    this.#path = `${dir}/${this.#name}`;
    try {
      this.#file = Deno.openSync(this.#path, { write: true, createNew: true });
    } catch (cause) {
      if (!(cause instanceof Deno.errors.AlreadyExists)) {
        throw diskError("create", this.#path, cause);
      }
      throw new ClusterrrError(
        `${this.#path} exists already; a log is never overwritten. Record into a new directory.`,
        { cause },
      );
    }
    const bytes = encodeSegmentHeader(header);
    this.seed = checksumSeed(bytes);
    try {
      this.append(bytes);
    } catch (error) {
      this.#file.close();
      Deno.removeSync(this.#path);
      throw error;
    }
  }

  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Appends one record.
   * @throws {HostError} after taking back what had reached the file
   */
  append(record: Uint8Array): void {
    this.#append(record, false);
  }

  /** Ends the segment with its encoded index block and the footer, and forces it to the disk. */
  finish(indexBlock: Uint8Array): void {
    const out = new ByteWriter();
    out.bytes(indexBlock);
    out.bytes(encodeFooter(this.#bytes, this.entries.length, this.seed));
    this.#append(out.view(), true);
  }

  /** Closes the file, finished or not. */
  close(): SegmentSummary {
    this.#file.close();
    return { file: this.#name, bytes: this.#bytes, sha256: this.#hash.digest("hex") };
  }

  #append(record: Uint8Array, force: boolean): void {
    try {
      for (let at = 0; at < record.length;) at += this.#file.writeSync(record.subarray(at));
      if (force) this.#file.syncDataSync();
    } catch (cause) {
      this.#takeBack();
      throw diskError("write to", this.#path, cause);
    }
    this.#bytes += record.length;
    this.#hash.update(record);
  }

  #takeBack(): void {
    try {
      this.#file.truncateSync(this.#bytes);
      this.#file.seekSync(this.#bytes, Deno.SeekMode.Start);
    } catch {
      // The reader takes a torn record at the end of the file for what it is: nothing is hidden.
    }
  }
}
