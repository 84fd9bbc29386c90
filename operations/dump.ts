/** `clusterrr dump`: a hybrid log or one of QEMU's own rr files, event by event. */
import { decodeEvents, formatFields, type RrEvent } from "../hypervisor/rr_log/events.ts";
import { readRrLogFile } from "../hypervisor/rr_log/stream.ts";
import { type RrLogTable, tableForVersion, tableOfLog } from "../hypervisor/rr_log/tables.ts";
import { equalBytes } from "../lib/bytes/equal_bytes.ts";
import type { DumpItem, DumpOptions } from "../lib/cli/ports.ts";
import { ClusterrrError } from "../lib/errors.ts";
import { EventLoopTurns } from "../lib/event_loop_turns.ts";
import { summarizeFrame } from "../lib/frames/summary.ts";
import { decodeBlock } from "../lib/recording/block_decoder.ts";
import { ColumnUnpacker } from "../lib/recording/column_unpacker.ts";
import type { HybridVisitor } from "../lib/recording/hybrid_log.ts";
import { HybridLogReader } from "../lib/recording/hybrid_log_reader.ts";
import { readManifest, vmDirectory } from "../lib/recording/manifest.ts";
import { shortDigest } from "../lib/recording/ram_digest.ts";
import { SEGMENT_MAGIC } from "../lib/recording/segment_layout.ts";
import { SegmentReader } from "../lib/recording/segment_reader.ts";
import { vmNamed } from "./open_recording.ts";

/**
 * The items that `options` ask for.
 * @throws {FormatError} where the log is damaged, after the items before the damage
 */
export async function* dump(options: DumpOptions, signal: AbortSignal): AsyncIterable<DumpItem> {
  let left = options.limit ?? Infinity;
  const turns = new EventLoopTurns(signal);
  for (const item of await itemsOf(options)) {
    if (turns.due) await turns.take();
    if (item.icount < (options.fromIcount ?? 0)) continue;
    if (left-- <= 0) return;
    yield item;
  }
}

async function itemsOf(options: DumpOptions): Promise<Iterable<DumpItem>> {
  const { path } = options;
  if ((await Deno.stat(path)).isDirectory) return recordingItems(options);
  if (options.vm !== undefined) {
    throw new ClusterrrError(`${path} is the log of one VM: --vm goes with a recording.`);
  }
  return await isSegment(path) ? segmentItems(path) : await rrFileItems(path);
}

async function isSegment(path: string): Promise<boolean> {
  const start = new Uint8Array(SEGMENT_MAGIC.length);
  using file = await Deno.open(path);
  await file.read(start);
  return equalBytes(start, SEGMENT_MAGIC);
}

async function rrFileItems(path: string): Promise<Iterable<DumpItem>> {
  const log = await readRrLogFile(path);
  const name = path.split("/").at(-1)!;
  return decodeEvents(log.events, log.table, path, log.eventsOffset)
    .map((event) => eventItem(name, event, 0));
}

function* recordingItems(options: DumpOptions): Iterable<DumpItem> {
  const manifest = readManifest(options.path);
  const wanted = options.vm === undefined ? manifest.vms : [vmNamed(manifest, options.vm)];
  for (const vm of wanted) {
    const expect = { vm: vm.number, rrLogVersion: vm.qemu.rrLogVersion, closed: vm.logClosed };
    const reader = HybridLogReader.open(vmDirectory(options.path, vm.name), expect); // as it is stored
    try {
      if (options.fromIcount !== undefined) reader.seek(options.fromIcount);
      const items = new ItemVisitor(vm.name, tableOfLog(vm.qemu));
      while (reader.nextBlock(items)) yield* items.take(reader.block!.firstIcount);
      const { complete, reason, file, offset } = reader.ending;
      if (!complete) yield cutItem(vm.name, items.icount, `${reason} (${file} at byte ${offset})`);
    } finally {
      reader.close();
    }
  }
}

function* segmentItems(path: string): Iterable<DumpItem> {
  const segment = new SegmentReader(path);
  try {
    if (segment.header === undefined) return;
    const { version } = segment.header;
    const unpacker = new ColumnUnpacker();
    const name = `VM ${segment.header.vm}`;
    const items = new ItemVisitor(name, tableForVersion(segment.header.rrLogVersion));
    for (let record = segment.next(); record.kind !== "end"; record = segment.next()) {
      if (record.kind === "cut") {
        yield cutItem(name, items.icount, record.reason);
        return;
      }
      const { header, offset, payload } = record;
      const block = { ...header, index: header.number, file: path, offset };
      decodeBlock(payload, header, version, block, unpacker, items);
      yield* items.take(header.firstIcount);
    }
  } finally {
    segment.close();
  }
}

function cutItem(vm: string, icount: number, reason: string): DumpItem {
  return { vm, icount, kind: "CUT OFF", text: reason, fields: { reason } };
}

function eventItem(vm: string, event: RrEvent, base: number): DumpItem {
  const { icount, name, offset, kind: _, ...fields } = event;
  const hex = Object.entries(fields).map((
    [key, value],
  ) => [key, value instanceof Uint8Array ? value.toHex() : value]);
  return {
    vm,
    icount: base + icount,
    kind: name,
    text: formatFields(event),
    fields: { offset, ...Object.fromEntries(hex) },
  };
}

/** Gathers the items of one block; instruction counts are known once its first one is. */
class ItemVisitor implements HybridVisitor {
  icount = 0;
  #items: (() => Iterable<DumpItem>)[] = [];

  constructor(private readonly vm: string, private readonly table: RrLogTable) {}

  /** The gathered items, counted from `firstIcount`. */
  *take(firstIcount: number): Iterable<DumpItem> {
    this.icount = firstIcount;
    const items = this.#items;
    this.#items = [];
    for (const make of items) yield* make();
  }

  #add(kind: string, text: string, fields: Record<string, unknown>): void {
    this.#items.push(() => [{ vm: this.vm, icount: this.icount, kind, text, fields }]);
  }

  events(bytes: Uint8Array): void {
    const copy = bytes.slice();
    this.#items.push(() => this.#decode(copy));
  }

  *#decode(bytes: Uint8Array): Iterable<DumpItem> {
    const base = this.icount;
    for (const event of decodeEvents(bytes, this.table, `the rr log of ${this.vm}`)) {
      this.icount = base + event.icount;
      yield eventItem(this.vm, event, base);
    }
  }

  reference(_header: Uint8Array, source: number, sendNumber: number, lamport: bigint): void {
    const text = `frame ${sendNumber} of VM ${source} lamport=${lamport}`;
    this.#add("REFERENCE", text, { source, sendNumber, lamport });
  }

  frame(_header: Uint8Array, payload: Uint8Array, lamport: bigint, origin: string): void {
    const bytes = payload.toHex();
    const summary = summarizeFrame(payload);
    const text = `${origin} bytes=${payload.length} lamport=${lamport} ${summary}`;
    this.#add("FRAME", text, { origin, lamport, bytes, summary });
  }

  send(
    sendNumber: number,
    length: number,
    hash: Uint8Array,
    lamport: bigint,
    head: Uint8Array,
  ): void {
    const summary = head.length === 0 ? "" : summarizeFrame(head);
    const text = `frame ${sendNumber} bytes=${length} lamport=${lamport} ${summary}`.trimEnd();
    this.#add("SEND", text, {
      sendNumber,
      length,
      lamport,
      hash: hash.toHex(),
      head: head.toHex(),
      summary,
    });
  }

  check(check: Parameters<HybridVisitor["check"]>[0]): void {
    const text = `at ${check.icount} ram=${shortDigest(check.ramDigest)}`;
    this.#add("CHECK", text, { ...check });
  }

  epoch(epoch: number, icount: number): void {
    this.#add("EPOCH", `${epoch} begins at ${icount}`, { epoch, at: icount });
  }

  end(complete: boolean, icount: number): void {
    this.#add("LOG END", complete ? "complete" : "closed early", { complete, at: icount });
  }
}
