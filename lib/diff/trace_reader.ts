/**
 * Reads a replay's trace, a line at a time: for each VM the file is read once, and only that VM's
 * records are kept, one at a time. Format: `FORMAT.md`.
 */
import { FormatError, messageOf, VersionError } from "../errors.ts";
import {
  TRACE_FORMAT,
  TRACE_LINE_BYTES_MAX,
  TRACE_VERSION,
  type TraceHeader,
  traceHeaderSchema,
  type TraceRecord,
  traceRecordSchema,
} from "./trace.ts";

const READ_BYTES = 64 << 10;
const LINE_FEED = 10;

/** A whole line and where it begins. */
interface Line {
  readonly text: string;
  readonly offset: number;
}

export class TraceReader {
  readonly header: TraceHeader;
  readonly #file: Deno.FsFile;
  readonly #lines: Iterator<Line, void>;
  #closed = false;
  #offset = 0;

  /** @throws {FormatError} where `path` is no trace; {VersionError} */
  constructor(readonly path: string) {
    this.#file = Deno.openSync(path);
    this.#lines = this.#readLines();
    try {
      this.header = this.#readHeader();
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  /** Whether the trace was seen to end in order; known once `next` has returned `undefined`. */
  get complete(): boolean {
    return this.#closed;
  }

  /** Where the record that `next` gave last begins. */
  get offset(): number {
    return this.#offset;
  }

  /** The next record, of any VM; `undefined` at the end. @throws {FormatError} */
  next(): TraceRecord | undefined {
    const { value: line } = this.#lines.next();
    if (line === undefined) return undefined;
    this.#offset = line.offset;
    if (this.#closed) {
      throw new FormatError(this.path, line.offset, "a line behind the trace's end");
    }
    const result = traceRecordSchema.safeParse(this.#parse(line));
    if (!result.success) {
      const problem = result.error.issues[0]!;
      const where = problem.path.join(".");
      throw new FormatError(
        this.path,
        line.offset,
        `not a record of a trace: ${where === "" ? "" : `${where}: `}${problem.message}`,
        { cause: result.error },
      );
    }
    if (result.data.type !== "close") return result.data;
    this.#closed = true;
    return this.next();
  }

  close(): void {
    this.#file.close();
  }

  #readHeader(): TraceHeader {
    const { value: line } = this.#lines.next();
    const json = line === undefined ? undefined : this.#parse(line);
    const { format, formatVersion } = (json ?? {}) as { format?: unknown; formatVersion?: unknown };
    if (format !== TRACE_FORMAT) {
      throw new FormatError(this.path, 0, "neither a recording nor a whole line of a trace");
    }
    if (formatVersion !== TRACE_VERSION) {
      throw new VersionError(
        this.path,
        0,
        `trace format ${formatVersion}; this build knows format ${TRACE_VERSION}. ` +
          "Use the clusterrr that wrote it, or replay again.",
      );
    }
    const result = traceHeaderSchema.safeParse(json);
    if (result.success) return result.data;
    const detail = result.error.issues.map((i) => `${i.path.join(".")}: ${i.message}`).join("; ");
    throw new FormatError(this.path, 0, detail, { cause: result.error });
  }

  #parse({ text, offset }: Line): unknown {
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new FormatError(this.path, offset, `not JSON: ${messageOf(cause)}`, { cause });
    }
  }

  /** Lines with their line feed; a last one without it was cut off. */
  *#readLines(): Generator<Line, void> {
    const decoder = new TextDecoder("utf-8", { fatal: true });
    let buffer = new Uint8Array(READ_BYTES);
    let start = 0;
    let filled = 0;
    let offset = 0;
    for (;;) {
      const end = buffer.subarray(0, filled).indexOf(LINE_FEED, start);
      if (end >= 0) {
        let text: string;
        try {
          text = decoder.decode(buffer.subarray(start, end));
        } catch (cause) {
          throw new FormatError(this.path, offset, "not UTF-8", { cause });
        }
        yield { text, offset };
        offset += end + 1 - start;
        start = end + 1;
        continue;
      }
      buffer.copyWithin(0, start, filled);
      filled -= start;
      start = 0;
      if (filled > TRACE_LINE_BYTES_MAX) {
        throw new FormatError(
          this.path,
          offset,
          `a line of more than ${TRACE_LINE_BYTES_MAX} bytes`,
        );
      }
      if (filled === buffer.length) {
        const larger = new Uint8Array(2 * buffer.length);
        larger.set(buffer);
        buffer = larger;
      }
      const n = this.#file.readSync(buffer.subarray(filled));
      if (n === null) return;
      filled += n;
    }
  }
}
