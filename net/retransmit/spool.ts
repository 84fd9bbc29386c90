/**
 * The spool: every frame that came over one link in one replay, in a file that is only appended to. A
 * frame is in it before it is acknowledged, so that an agent that was killed and begins its replay anew
 * has what its peers have freed. Frames are read from here when they are needed; of those that came last, for
 * which a VM may be waiting, {@link RECENT_MAX} are kept in memory too.
 *
 * ```
 * spool  = magic "CRSP" u32, version u16, length u16, run id
 * record = length of the body u32, crc32 of the body u32, body
 * body   = VM varint, sequence varint, send number varint, the frame's bytes
 * ```
 * A record that is not whole ends the spool, and is cut off. It withstands the end of a process, not of a
 * host: it is not forced to the disk. A frame that was lost so shows when the link opens.
 */
import { crc32 } from "node:zlib";
import { ByteReader } from "../../lib/bytes/byte_reader.ts";
import { ByteWriter } from "../../lib/bytes/byte_writer.ts";
import { equalBytes } from "../../lib/bytes/equal_bytes.ts";
import { GrowingArray } from "../../lib/bytes/growing_array.ts";
import { FormatError, VersionError } from "../../lib/errors.ts";
import { FRAME_BYTES_MAX } from "../../lib/protocol/link_messages.ts";
import type { VmNumber } from "../../lib/units.ts";

const MAGIC = 0x50535243;
const VERSION = 1;
const RECORD_HEADER_BYTES = 8;
const BODY_BYTES_MAX = FRAME_BYTES_MAX + 24;
const RECENT_MAX = 16;

/** A frame as it came over the link. */
export interface SpooledFrame {
  readonly vm: VmNumber;
  readonly sequence: number;
  readonly sendNumber: number;
  readonly bytes: Uint8Array;
}

/** One VM's frames: where each record begins, and how long it is. */
interface Index {
  readonly offsets: GrowingArray<Float64Array>;
  readonly lengths: GrowingArray<Float64Array>;
}

/** An open spool; the owner calls {@link close}. */
export class Spool {
  readonly #index = new Map<VmNumber, Index>();
  readonly #writer = new ByteWriter(2048);
  readonly #recent: SpooledFrame[] = [];
  /** Where the file stands: reading and writing begin there. */
  #position = 0;
  #end = 0;
  #closed = false;

  private constructor(private readonly file: Deno.FsFile, private readonly path: string) {}

  /**
   * Opens or makes the spool of a run and reads which frames it holds.
   * @throws {FormatError} it is of another run, or no spool
   */
  static open(path: string, runId: string): Spool {
    const file = Deno.openSync(path, { read: true, write: true, create: true });
    const spool = new Spool(file, path);
    try {
      spool.#begin(runId);
      return spool;
    } catch (error) {
      spool.close();
      throw error;
    }
  }

  /** How many frames of `vm` it holds: those with a sequence below. */
  count(vm: VmNumber): number {
    return this.#index.get(vm)?.offsets.view().length ?? 0;
  }

  /** Bytes of the file. */
  get bytes(): number {
    return this.#end;
  }

  /** Appends the next frame of its VM. @throws {Error} the disk is full: the frame is not in it */
  append(frame: SpooledFrame): void {
    if (frame.sequence !== this.count(frame.vm)) {
      throw new Error(`frame ${frame.sequence} of VM ${frame.vm} is not the next one in the spool`);
    }
    const writer = this.#writer;
    writer.reset();
    writer.u32(0);
    writer.u32(0);
    writer.varint(frame.vm);
    writer.varint(frame.sequence);
    writer.varint(frame.sendNumber);
    writer.bytes(frame.bytes);
    const record = writer.view();
    const header = new DataView(record.buffer, record.byteOffset, RECORD_HEADER_BYTES);
    header.setUint32(0, record.length - RECORD_HEADER_BYTES, true);
    header.setUint32(4, crc32(record.subarray(RECORD_HEADER_BYTES)), true);
    this.#write(record);
    this.#note(frame.vm, this.#end, record.length);
    this.#end += record.length;
    this.#recent.push(frame);
    if (this.#recent.length > RECENT_MAX) this.#recent.shift();
  }

  /** The bytes of a frame; `undefined` where it is not there yet. @throws {FormatError} damaged since */
  read(vm: VmNumber, sequence: number): Uint8Array | undefined {
    const recent = this.#recent.findLast((each) => each.vm === vm && each.sequence === sequence);
    if (recent !== undefined) return recent.bytes;
    const index = this.#index.get(vm);
    const offset = index?.offsets.view()[sequence];
    if (index === undefined || offset === undefined) return undefined;
    const record = new Uint8Array(index.lengths.view()[sequence]!);
    this.#read(record, offset);
    const frame = parseRecord(record, this.path, offset);
    if (frame?.vm !== vm || frame.sequence !== sequence) {
      throw new FormatError(this.path, offset, "a frame has been damaged");
    }
    return frame.bytes;
  }

  close(): void {
    if (!this.#closed) this.file.close();
    this.#closed = true;
  }

  #begin(runId: string): void {
    const size = this.file.statSync().size;
    const header = encodeHeader(runId);
    const start = new Uint8Array(Math.min(size, header.length));
    this.#read(start, 0);
    if (size < header.length && equalBytes(start, header.subarray(0, size))) {
      this.#write(header); // new, or cut off in its first moment
      this.#end = header.length;
      return;
    }
    checkHeader(start, header, this.path);
    this.#end = header.length;
    this.#scan(size);
    this.file.truncateSync(this.#end);
  }

  /** Notes the whole records, up to the first that is not. */
  #scan(size: number): void {
    let buffer = new Uint8Array(0);
    let bufferAt = this.#end;
    const CHUNK_BYTES = 1 << 20;
    for (;;) {
      const from = this.#end - bufferAt;
      const record = wholeRecord(buffer.subarray(from));
      if (record === undefined) {
        if (bufferAt + buffer.length >= size) return;
        if (buffer.length - from > BODY_BYTES_MAX + RECORD_HEADER_BYTES) return; // nonsense
        const more = new Uint8Array(Math.min(CHUNK_BYTES, size - bufferAt - buffer.length));
        this.#read(more, bufferAt + buffer.length);
        const joined = new Uint8Array(buffer.length - from + more.length);
        joined.set(buffer.subarray(from));
        joined.set(more, buffer.length - from);
        [buffer, bufferAt] = [joined, this.#end];
        continue;
      }
      const frame = parseRecord(record, this.path, this.#end);
      if (frame === undefined || frame.sequence !== this.count(frame.vm)) return;
      this.#note(frame.vm, this.#end, record.length);
      this.#end += record.length;
    }
  }

  #note(vm: VmNumber, offset: number, length: number): void {
    let index = this.#index.get(vm);
    if (index === undefined) {
      index = { offsets: GrowingArray.numbers(), lengths: GrowingArray.numbers() };
      this.#index.set(vm, index);
    }
    index.offsets.push(offset);
    index.lengths.push(length);
  }

  /** Writes at the end; what is half written is overwritten by the next try. */
  #write(bytes: Uint8Array): void {
    this.#seek(this.#end);
    for (let done = 0; done < bytes.length;) {
      const count = this.file.writeSync(bytes.subarray(done));
      done += count;
      this.#position += count;
    }
  }

  #seek(offset: number): void {
    if (this.#position !== offset) this.file.seekSync(offset, Deno.SeekMode.Start);
    this.#position = offset;
  }

  #read(into: Uint8Array, offset: number): void {
    this.#seek(offset);
    for (let done = 0; done < into.length;) {
      const count = this.file.readSync(into.subarray(done));
      if (count === null) throw new FormatError(this.path, offset + done, "the file ends");
      done += count;
      this.#position += count;
    }
  }
}

function encodeHeader(runId: string): Uint8Array {
  const writer = new ByteWriter();
  const id = new TextEncoder().encode(runId);
  writer.u32(MAGIC);
  writer.u16(VERSION);
  writer.u16(id.length);
  writer.bytes(id);
  return writer.view();
}

function checkHeader(start: Uint8Array, header: Uint8Array, path: string): void {
  const reader = new ByteReader(start, path);
  if (reader.u32() !== MAGIC) throw new FormatError(path, 0, "not a spool of a replay");
  const version = reader.u16();
  if (version !== VERSION) throw new VersionError(path, 4, `version ${version} of the spool`);
  if (!equalBytes(start, header)) {
    throw new FormatError(path, 6, "it is the spool of another replay: remove it");
  }
}

/** The record that `bytes` begins with, if it is all there. */
function wholeRecord(bytes: Uint8Array): Uint8Array | undefined {
  if (bytes.length < RECORD_HEADER_BYTES) return undefined;
  const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  if (length > BODY_BYTES_MAX || bytes.length < RECORD_HEADER_BYTES + length) return undefined;
  return bytes.subarray(0, RECORD_HEADER_BYTES + length);
}

/** `undefined` where the checksum is wrong. */
function parseRecord(record: Uint8Array, path: string, at: number): SpooledFrame | undefined {
  const reader = new ByteReader(record, path, at);
  const length = reader.u32();
  const sum = reader.u32();
  if (length !== reader.remaining || crc32(record.subarray(RECORD_HEADER_BYTES)) !== sum) {
    return undefined;
  }
  return {
    vm: reader.varint(),
    sequence: reader.varint(),
    sendNumber: reader.varint(),
    bytes: reader.bytes(reader.remaining),
  };
}
