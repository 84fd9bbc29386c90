/**
 * Splits the log of a recorded VM into the phases that its guest names on its console.
 *
 * ```
 * console   GUEST role=fetch … up ¶ PHASE idle ¶        PHASE transfer ¶          PHASE end ¶
 * log       ───────── boot ───────── CHAR_WRITE ─ idle ─ CHAR_WRITE ─ transfer ─ CHAR_WRITE ───
 * ```
 * The log says how many bytes a write to the console took, not which: the bytes are in the console's file.
 */
import { decodeEvents } from "../../hypervisor/rr_log/events.ts";
import { type RrLogTable, tableForVersion } from "../../hypervisor/rr_log/tables.ts";
import type { HybridVisitor } from "../../lib/recording/hybrid_log.ts";
import { readManifest, vmDirectory } from "../../lib/recording/manifest.ts";
import { openLog } from "../../lib/recording/recording_directory.ts";
import { vmNamed } from "../../operations/open_recording.ts";

/** What QEMU logged in one phase. */
export interface Phase {
  readonly name: string;
  instructions: number;
  /** Events of QEMU's log, received frames among them. */
  events: number;
  /** Bytes of QEMU's log but for the bytes of frames. */
  bytes: number;
  readonly kinds: Map<string, number>;
}

const MARK = /^PHASE ([a-z]+)/gm;
const FRAME = "ASYNC_NET";
/** Kind, network number, flags, length. */
const FRAME_HEADER_BYTES = 10;

/** Where on the console each phase begins, as a number of bytes; latin1 keeps one character a byte. */
export function phaseMarks(console: Uint8Array): { name: string; at: number }[] {
  const text = new TextDecoder("latin1").decode(console);
  return [...text.matchAll(MARK)].map((match) => ({ name: match[1]!, at: match.index }));
}

/** The phases of one VM of the recording in `directory`, `boot` first. */
export function readPhases(directory: string, name: string): Phase[] {
  const manifest = readManifest(directory);
  const vm = vmNamed(manifest, name);
  const folder = vmDirectory(directory, name);
  const marks = phaseMarks(Deno.readFileSync(`${folder}/console.log`));
  const counter = new PhaseCounter(marks, tableForVersion(vm.qemu.rrLogVersion));
  const reader = openLog(directory, vm, manifest);
  try {
    while (reader.nextBlock(counter));
  } finally {
    reader.close();
  }
  return counter.phases;
}

/** Counts the items of a hybrid log by phase. */
export class PhaseCounter implements HybridVisitor {
  readonly phases: Phase[] = [];
  readonly #marks: readonly { readonly name: string; readonly at: number }[];
  #written = 0;

  constructor(
    marks: readonly { readonly name: string; readonly at: number }[],
    private readonly table: RrLogTable,
  ) {
    this.#marks = marks;
    this.#begin("boot");
  }

  events(bytes: Uint8Array): void {
    let offset = 0;
    let last: { name: string } | undefined;
    for (const event of decodeEvents(bytes, this.table, "the rr log")) {
      if (last !== undefined) this.#count(last.name, event.offset - offset);
      offset = event.offset;
      last = event;
      if (event.type === "instruction") this.#phase.instructions += event.count;
      if (event.type === "charWrite") this.#write(event.written);
    }
    if (last !== undefined) this.#count(last.name, bytes.length - offset);
  }

  reference(): void {
    this.#count(FRAME, FRAME_HEADER_BYTES);
  }

  frame(): void {
    this.#count(FRAME, FRAME_HEADER_BYTES);
  }

  send(): void {}
  check(): void {}
  epoch(): void {}
  end(): void {}

  get #phase(): Phase {
    return this.phases.at(-1)!;
  }

  #begin(name: string): void {
    this.phases.push({ name, instructions: 0, events: 0, bytes: 0, kinds: new Map() });
  }

  #count(kind: string, bytes: number): void {
    const phase = this.#phase;
    phase.events++;
    phase.bytes += bytes;
    phase.kinds.set(kind, (phase.kinds.get(kind) ?? 0) + 1);
  }

  /** A phase begins with the write of its mark's first byte. */
  #write(bytes: number): void {
    this.#written += bytes;
    const next = this.#marks[this.phases.length - 1];
    if (next !== undefined && this.#written > next.at) this.#begin(next.name);
  }
}
