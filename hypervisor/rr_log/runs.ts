/**
 * The runs of instructions in a stretch of events: what the census of a log and the start of a replay in
 * its middle need to know, and no more.
 */
import type { RunReader } from "../../lib/roles/ports.ts";
import {
  badRunLength,
  isRunLength,
  LENGTH_END,
  lengthsOf,
  measureEvent,
  readU32,
} from "./measure.ts";
import { KIND_INSTRUCTION, type RrLogTable } from "./tables.ts";

const INSTRUCTION_BYTES = 5;

/**
 * A reader of whole events without received frames, as a hybrid log holds them.
 * @param name of the log, for errors
 */
export function runReader(table: RrLogTable, name: string): RunReader {
  const lengths = lengthsOf(table);
  return (events, visit) => {
    for (let at = 0; at < events.length;) {
      const kind = events[at]!;
      if (kind === KIND_INSTRUCTION) {
        const count = events.length - at < INSTRUCTION_BYTES ? 0 : readU32(events, at + 1);
        if (!isRunLength(count)) throw badRunLength(count, name, at);
        at += INSTRUCTION_BYTES;
        if (visit(count, at)) return;
        continue;
      }
      const length = lengths[kind]!;
      if (length > 0) at += length;
      else if (length === LENGTH_END) at++;
      else at += measureEvent(events, at, events.length, table, name, at);
    }
  };
}
