/**
 * What a VM did as far as others see it: the frames that it sent, its state at checks, how it ended.
 * A trace has no more than this; of a recording the rest is passed over.
 */
import { FormatError } from "../errors.ts";
import { LogSide, type OpenLog } from "./log_side.ts";
import type { Checked, Ended, Sent } from "./observation.ts";
import { TraceReader } from "./trace_reader.ts";

/** One thing, and an instruction count near it. An end is the last one and is given again and again. */
export interface OutwardThing {
  readonly thing: Sent | Checked | Ended;
  readonly near: number;
}

export interface OutwardSource {
  next(): OutwardThing;
  close(): void;
}

/** Of a recorded VM. */
export class RecordedOutward implements OutwardSource {
  readonly #side: LogSide;

  constructor(open: OpenLog) {
    this.#side = new LogSide(open);
  }

  next(): OutwardThing {
    for (;;) {
      if (this.#side.empty) this.#side.load();
      const { current } = this.#side;
      const near = this.#side.blockIcount;
      if (current.item === "end") return { thing: current, near };
      this.#side.pass();
      if (current.item === "send" || current.item === "check") return { thing: current, near };
    }
  }

  close(): void {
    this.#side.close();
  }
}

/** Of a replayed VM. */
export class TracedOutward implements OutwardSource {
  readonly #path: string;
  readonly #vm: string;
  #reader: TraceReader | undefined;
  #end: Ended | undefined;
  #sends = 0;
  #near = 0;

  constructor(path: string, vm: string) {
    this.#path = path;
    this.#vm = vm;
  }

  next(): OutwardThing {
    let thing: Sent | Checked | Ended | undefined;
    try {
      thing = this.#end ?? this.#read();
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      thing = { item: "end", complete: false, reason: "damaged", damage: error.message };
    }
    if (thing.item === "end") this.#end = thing;
    return { thing, near: this.#near };
  }

  close(): void {
    this.#reader?.close();
    this.#reader = undefined;
  }

  #read(): Sent | Checked | Ended {
    const reader = this.#reader ??= new TraceReader(this.#path);
    for (;;) {
      const record = reader.next();
      if (record === undefined) {
        const reason = reader.complete ? "stopped before its end" : "the trace is cut off";
        return { item: "end", complete: false, reason };
      }
      if (record.type === "close" || record.vm !== this.#vm) continue;
      switch (record.type) {
        case "send": {
          const { number, length, near, lamport } = record;
          if (number !== this.#sends) {
            const gap = `frame ${number} of VM ${this.#vm}, ${this.#sends} expected`;
            throw new FormatError(this.#path, reader.offset, gap);
          }
          this.#sends++;
          this.#near = near;
          return {
            item: "send",
            number,
            length,
            hash: Uint8Array.fromHex(record.hash),
            head: Uint8Array.fromHex(record.head),
            lamport: lamport === undefined ? undefined : BigInt(lamport),
          };
        }
        case "check": {
          const { icount, registers, ram } = record;
          return { item: "check", icount, registersSha256: registers, ramDigest: ram };
        }
        case "divergence":
          this.#near = record.icount;
          return { item: "end", complete: false, reason: `diverged: ${record.what}` };
        case "end":
          return { item: "end", complete: record.complete, reason: record.reason };
        case "console":
          continue;
      }
    }
  }
}
