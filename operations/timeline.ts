/**
 * `clusterrr timeline`: what the VMs of a recording printed and received, in one order, from the logs alone.
 *
 * ```
 * events of a VM's log ─┬─ a character went to the console ─▶ a line is whole ─┐
 *                       ├─ a clock was read ─▶ the time                        ├─▶ moments ─▶ mergeMoments
 *                       └─ a run of instructions ─▶ the place to stop at       │
 * received frames ─────────────────────────────────────────────────────────────┘
 * ```
 * Where a VM sends is not in its log: the receiver's side shows the frame.
 */
import { decodeEvents } from "../hypervisor/rr_log/events.ts";
import { type RrLogTable, tableOfLog } from "../hypervisor/rr_log/tables.ts";
import type { TimelineItem, TimelineOptions } from "../lib/cli/ports.ts";
import { EventLoopTurns } from "../lib/event_loop_turns.ts";
import { summarizeFrame } from "../lib/frames/summary.ts";
import type { HybridVisitor } from "../lib/recording/hybrid_log.ts";
import type { HybridLogReader } from "../lib/recording/hybrid_log_reader.ts";
import { type Manifest, type ManifestVm, readManifest } from "../lib/recording/manifest.ts";
import { mergeMoments, type Moment } from "../lib/timeline/merge.ts";
import type { VmNumber } from "../lib/units.ts";
import { openLog } from "../lib/recording/recording_directory.ts";
import { vmNamed } from "./open_recording.ts";

/** The clock that runs while the VM runs, in nanoseconds; QEMU logs it whenever a VM falls idle or wakes. */
const CLOCK = "CLOCK_VIRTUAL_RT";

/** A line on a console, or a received frame. */
interface VmMoment extends Moment {
  /** The first instruction count behind it that lies inside a run: where a replay can stop. */
  place: number | undefined;
  readonly line?: string;
  readonly frame?: {
    readonly source: VmNumber;
    readonly number: number;
    readonly summary?: string;
  };
}

/** What was sent, by sender and send number: one line each. */
type Summaries = Map<VmNumber, Map<number, string>>;

/**
 * The moments of a recording that `options` ask for.
 * @throws {FormatError} where a log is damaged; {ClusterrrError} for a VM that it does not have
 */
export async function* timeline(
  options: TimelineOptions,
  signal: AbortSignal,
): AsyncIterable<TimelineItem> {
  const { directory, frames, vms } = options;
  const manifest = readManifest(directory);
  const wanted = vms && new Set(vms.map((name) => vmNamed(manifest, name).number));
  const summaries: Summaries | undefined = frames ? new Map() : undefined;
  const turns = new EventLoopTurns(signal);
  const sequences = [];
  for (const vm of manifest.vms) {
    sequences.push(await readMoments(directory, manifest, vm, summaries, turns));
  }
  const nameOf = (vm: VmNumber) => manifest.vms.find(({ number }) => number === vm)?.name ?? null;
  for (const moment of mergeMoments(sequences)) {
    if (turns.due) await turns.take();
    const { vm, ns, place, line, frame } = moment;
    if (wanted?.has(vm) === false || frame !== undefined && !frames) continue;
    const common = { vm: nameOf(vm)!, seconds: ns / 1e9, icount: place ?? null };
    if (frame === undefined) yield { ...common, kind: "line", text: line! };
    else {
      const { source, number } = frame;
      const text = frame.summary ?? summaries?.get(source)?.get(number) ?? "";
      yield { ...common, kind: "frame", text, from: nameOf(source), sendNumber: number };
    }
  }
}

async function readMoments(
  directory: string,
  manifest: Manifest,
  vm: ManifestVm,
  summaries: Summaries | undefined,
  turns: EventLoopTurns,
): Promise<VmMoment[]> {
  const reader = openLog(directory, vm, manifest);
  try {
    const console = Deno.readFileSync(`${directory}/${vm.console}`);
    const sent = summaries && new Map<number, string>();
    if (sent !== undefined) summaries!.set(vm.number, sent);
    const fromPowerOn = manifest.snapshot === undefined;
    const collector = new MomentCollector(reader, vm, console, fromPowerOn, sent);
    while (reader.nextBlock(collector)) {
      if (turns.due) await turns.take();
    }
    return collector.moments;
  } finally {
    reader.close();
  }
}

/** Gathers the moments of one VM. */
class MomentCollector implements HybridVisitor {
  readonly moments: VmMoment[] = [];
  readonly #table: RrLogTable;
  readonly #decoder = new TextDecoder();
  #block: HybridLogReader["block"];
  #icount = 0;
  /** The clock at the start; a VM that goes on from a snapshot has one that ran before. */
  #startNs: number | undefined;
  #ns = 0;
  /** Characters of the console so far, and where its line at hand begins. */
  #written = 0;
  #lineStart = 0;
  /** How many of `moments` have their place. */
  #placed = 0;

  constructor(
    private readonly reader: HybridLogReader,
    private readonly vm: ManifestVm,
    private readonly console: Uint8Array,
    fromPowerOn: boolean,
    /** What was sent, where frames are to be shown. */
    private readonly sent: Map<number, string> | undefined,
  ) {
    this.#table = tableOfLog(vm.qemu);
    if (fromPowerOn) this.#startNs = 0;
  }

  events(bytes: Uint8Array): void {
    if (this.#block !== this.reader.block) {
      this.#block = this.reader.block;
      this.#icount = this.#block!.firstIcount;
    }
    for (const event of decodeEvents(bytes, this.#table, `the rr log of ${this.vm.name}`)) {
      if (event.type === "instruction") this.#run(event.count);
      else if (event.type === "charWrite") this.#print(event.written);
      else if (event.type === "clock" && event.name === CLOCK) this.#tell(Number(event.value));
    }
  }

  #run(count: number): void {
    if (count > 1) {
      for (; this.#placed < this.moments.length; this.#placed++) {
        this.moments[this.#placed]!.place = this.#icount + 1;
      }
    }
    this.#icount += count;
  }

  #tell(clockNs: number): void {
    this.#startNs ??= clockNs;
    this.#ns = clockNs - this.#startNs;
  }

  #print(characters: number): void {
    const from = this.#written;
    this.#written += characters;
    for (let at = from; at < this.#written; at++) {
      if (this.console[at] === "\n".charCodeAt(0)) this.#endLine(at + 1);
    }
  }

  #endLine(end: number): void {
    const line = this.#decoder.decode(this.console.subarray(this.#lineStart, end)).trimEnd();
    this.#lineStart = end;
    this.#add({ line });
  }

  #add(what: Pick<VmMoment, "lamport" | "line" | "frame">): void {
    this.moments.push({ vm: this.vm.number, ns: this.#ns, place: undefined, ...what });
  }

  reference(_header: Uint8Array, source: VmNumber, number: number, lamport: bigint): void {
    this.#add({ lamport, frame: { source, number } });
  }

  frame(_header: Uint8Array, payload: Uint8Array, lamport: bigint): void {
    const summary = this.sent && summarizeFrame(payload);
    this.#add({
      lamport,
      frame: { source: 0, number: 0, ...(summary === undefined ? {} : { summary }) },
    });
  }

  send(
    number: number,
    _length: number,
    _hash: Uint8Array,
    _lamport: bigint,
    head: Uint8Array,
  ): void {
    if (head.length > 0) this.sent?.set(number, summarizeFrame(head));
  }

  check(): void {}

  epoch(): void {}

  end(): void {
    // What it printed last may have no end of line.
    if (this.#lineStart < Math.min(this.#written, this.console.length)) {
      this.#endLine(this.#written);
    }
  }
}
