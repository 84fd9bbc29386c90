/**
 * The messages of a link: what two agents that replay parts of one cluster say to each other. Bytes,
 * bounds and the order of things are in PROTOCOL.md, "Links at replay".
 *
 * message ─▶ encodeLinkMessage ─▶ kind, body ─▶ Channel ─▶ kind, body ─▶ decodeLinkMessage ─▶ message
 */
import { ByteReader } from "../bytes/byte_reader.ts";
import { ByteWriter } from "../bytes/byte_writer.ts";
import { EPOCH_MAX } from "../clocks/lamport.ts";
import { FormatError, ProtocolError } from "../errors.ts";
import type { VmNumber } from "../units.ts";

/** The version of this protocol; both sides must have the same. */
export const LINK_VERSION = 1;

/** Bounds of single fields; anything beyond is malformed. */
export const VM_NUMBER_MAX = 0xffff;
export const FRAME_BYTES_MAX = 128 << 10;
export const TEXT_BYTES_MAX = 4096;
export const RUN_ID_BYTES_MAX = 128;
/** Entries of one list message: with varints of at most 8 bytes it stays below 256 KiB. */
export const LIST_ENTRIES_MAX = 8192;

/** Consecutive send numbers. */
export interface SendRun {
  readonly first: number;
  readonly count: number;
}

/** The first message on a connection, of either side. */
export interface OpenMessage {
  readonly type: "open";
  readonly runId: string;
  /** Another one each time that an agent begins its replay anew. */
  readonly incarnation: number;
}

/** A part of what the window has to know of one of the sender's VMs. */
export interface EpochsMessage {
  readonly type: "epochs";
  readonly vm: VmNumber;
  /** No more parts follow. */
  readonly last: boolean;
  /** Whether the VM's log ends as QEMU ended it. */
  readonly complete: boolean;
  /** The epoch of the last receive in its log. */
  readonly lastReceive: number;
  /** Epochs of which its log has a cut, ascending. */
  readonly cuts: readonly number[];
}

/** A part of the list of frames that the sender of the message needs. */
export interface WantMessage {
  readonly type: "want";
  /** The VM that sends them, one of the receiver's. */
  readonly vm: VmNumber;
  readonly last: boolean;
  /** Ascending, none touching the next. */
  readonly runs: readonly SendRun[];
}

/** How many of the wanted frames the sender of the message has; ends the opening. */
export interface PositionMessage {
  readonly type: "position";
  readonly counts: readonly { readonly vm: VmNumber; readonly count: number }[];
}

/** A regenerated frame. */
export interface FrameMessage {
  readonly type: "frame";
  readonly vm: VmNumber;
  /** Its place among the wanted frames of the VM, from 0. */
  readonly sequence: number;
  readonly sendNumber: number;
  readonly bytes: Uint8Array;
}

/** The first `count` wanted frames of `vm` are kept by the sender of the message. */
export interface AcknowledgeMessage {
  readonly type: "acknowledge";
  readonly vm: VmNumber;
  readonly count: number;
}

/** How far one of the sender's VMs is. */
export interface VmProgress {
  /** Rises with every change; a message with a lower one is stale. */
  readonly serial: number;
  /** The last epoch whose cut it has passed, or at the end of which it holds. */
  readonly epoch: number;
  /** It stands where it was to stop, or has ended: nobody waits for it. */
  readonly away: boolean;
  readonly ended: boolean;
  /** Frames that it has sent; exact once it has ended, 0 before. */
  readonly sent: number;
}

export interface ProgressMessage extends VmProgress {
  readonly type: "progress";
  readonly vm: VmNumber;
}

/** How the replay of the sender's VMs goes. */
export type HostState = "running" | "done" | "failed";

export interface StateMessage {
  readonly type: "state";
  readonly state: HostState;
  /** Why it failed. */
  readonly text: string;
}

export interface PingMessage {
  readonly type: "ping";
  readonly token: number;
  /** Rises whenever something moves at the sender. */
  readonly moves: number;
}

export interface PongMessage {
  readonly type: "pong";
  readonly token: number;
}

export type LinkMessage =
  | OpenMessage
  | EpochsMessage
  | WantMessage
  | PositionMessage
  | FrameMessage
  | AcknowledgeMessage
  | ProgressMessage
  | StateMessage
  | PingMessage
  | PongMessage;

/** The message kinds of a channel that links use. */
export const LINK_KINDS: Readonly<Record<LinkMessage["type"], number>> = {
  open: 16,
  epochs: 17,
  want: 18,
  position: 19,
  frame: 20,
  acknowledge: 21,
  progress: 22,
  state: 23,
  ping: 24,
  pong: 25,
};

/** "CRLK". */
const MAGIC = 0x4b4c5243;
const STATES: readonly HostState[] = ["running", "done", "failed"];
const LAST = 1;
const COMPLETE = 2;
const AWAY = 1;
const ENDED = 2;

/** The kind and the body of a message. Values out of bounds are broken invariants of the caller. */
export function encodeLinkMessage(message: LinkMessage): { kind: number; body: Uint8Array } {
  const size = message.type === "frame" ? message.bytes.length + 24 : 64;
  const writer = new ByteWriter(size);
  write(writer, message);
  return { kind: LINK_KINDS[message.type], body: writer.view() };
}

function write(writer: ByteWriter, message: LinkMessage): void {
  switch (message.type) {
    case "open":
      writer.u32(MAGIC);
      writer.u16(LINK_VERSION);
      writeText(writer, message.runId);
      writer.varint(message.incarnation);
      break;
    case "epochs":
      writer.varint(message.vm);
      writer.u8((message.last ? LAST : 0) | (message.complete ? COMPLETE : 0));
      writer.varint(message.lastReceive);
      writer.varint(message.cuts.length);
      message.cuts.forEach((epoch, i) => writer.varint(epoch - (message.cuts[i - 1] ?? 0)));
      break;
    case "want": {
      writer.varint(message.vm);
      writer.u8(message.last ? LAST : 0);
      writer.varint(message.runs.length);
      let end = 0;
      for (const { first, count } of message.runs) {
        writer.varint(first - end);
        writer.varint(count);
        end = first + count;
      }
      break;
    }
    case "position":
      writer.varint(message.counts.length);
      for (const { vm, count } of message.counts) {
        writer.varint(vm);
        writer.varint(count);
      }
      break;
    case "frame":
      writer.varint(message.vm);
      writer.varint(message.sequence);
      writer.varint(message.sendNumber);
      writer.bytes(message.bytes);
      break;
    case "acknowledge":
      writer.varint(message.vm);
      writer.varint(message.count);
      break;
    case "progress":
      writer.varint(message.vm);
      writer.varint(message.serial);
      writer.u8((message.away ? AWAY : 0) | (message.ended ? ENDED : 0));
      writer.varint(message.epoch);
      writer.varint(message.sent);
      break;
    case "state":
      writer.u8(STATES.indexOf(message.state));
      writeText(writer, message.text);
      break;
    case "ping":
      writer.varint(message.token);
      writer.varint(message.moves);
      break;
    case "pong":
      writer.varint(message.token);
  }
}

function writeText(writer: ByteWriter, text: string): void {
  const bytes = new TextEncoder().encode(text);
  writer.varint(bytes.length);
  writer.bytes(bytes);
}

const TYPES = new Map(
  Object.entries(LINK_KINDS).map(([type, kind]) => [kind, type as LinkMessage["type"]]),
);

/**
 * The message in `body`. A frame's bytes are a view of it.
 * @throws {ProtocolError} whatever is wrong with it
 */
export function decodeLinkMessage(kind: number, body: Uint8Array): LinkMessage {
  const type = TYPES.get(kind);
  if (type === undefined) throw new ProtocolError(`a link has no messages of kind ${kind}`);
  try {
    const reader = new ByteReader(body, `a link's message "${type}"`);
    const message = read(reader, type);
    reader.end("the message");
    return message;
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause;
    throw new ProtocolError(cause.message, { cause });
  }
}

function read(reader: ByteReader, type: LinkMessage["type"]): LinkMessage {
  switch (type) {
    case "open":
      return readOpen(reader);
    case "epochs":
      return readEpochs(reader);
    case "want":
      return readWant(reader);
    case "position":
      return readPosition(reader);
    case "frame": {
      const vm = readVm(reader);
      const sequence = reader.varint();
      const sendNumber = reader.varint();
      require(reader, sequence <= sendNumber, `frame ${sendNumber} as number ${sequence}`);
      const length = reader.remaining;
      require(reader, length >= 1 && length <= FRAME_BYTES_MAX, `a frame of ${length} bytes`);
      return { type, vm, sequence, sendNumber, bytes: reader.bytes(length) };
    }
    case "acknowledge":
      return { type, vm: readVm(reader), count: reader.varint() };
    case "progress": {
      const vm = readVm(reader);
      const serial = reader.varint();
      const flags = readFlags(reader, AWAY | ENDED);
      const [away, ended] = [(flags & AWAY) !== 0, (flags & ENDED) !== 0];
      require(reader, away || !ended, "a VM that has ended and is waited for");
      const epoch = readEpoch(reader);
      const sent = reader.varint();
      require(reader, ended || sent === 0, `${sent} frames before its end`);
      return { type, vm, serial, epoch, away, ended, sent };
    }
    case "state": {
      const number = reader.u8();
      const state = STATES[number];
      if (state === undefined) throw malformed(reader, `state ${number}`);
      const text = readText(reader, TEXT_BYTES_MAX);
      require(reader, state === "failed" || text === "", "a reason without a failure");
      return { type, state, text };
    }
    case "ping":
      return { type, token: reader.varint(), moves: reader.varint() };
    case "pong":
      return { type, token: reader.varint() };
  }
}

function readOpen(reader: ByteReader): OpenMessage {
  require(reader, reader.u32() === MAGIC, "not a link");
  const version = reader.u16();
  require(
    reader,
    version === LINK_VERSION,
    `version ${version} of the protocol, this build has ${LINK_VERSION}: use one build on all hosts`,
  );
  const runId = readText(reader, RUN_ID_BYTES_MAX);
  require(reader, runId !== "", "no run");
  return { type: "open", runId, incarnation: reader.varint() };
}

function readEpochs(reader: ByteReader): EpochsMessage {
  const vm = readVm(reader);
  const flags = readFlags(reader, LAST | COMPLETE);
  const lastReceive = readEpoch(reader);
  const cuts: number[] = [];
  for (let left = readCount(reader), epoch = 0; left > 0; left--) {
    const step = reader.varint();
    epoch += step;
    require(reader, step > 0 && epoch <= EPOCH_MAX, `epoch ${epoch}`);
    cuts.push(epoch);
  }
  const [last, complete] = [(flags & LAST) !== 0, (flags & COMPLETE) !== 0];
  return { type: "epochs", vm, last, complete, lastReceive, cuts };
}

function readWant(reader: ByteReader): WantMessage {
  const vm = readVm(reader);
  const last = (readFlags(reader, LAST) & LAST) !== 0;
  const runs: SendRun[] = [];
  for (let left = readCount(reader), end = 0; left > 0; left--) {
    const gap = reader.varint();
    const count = reader.varint();
    require(reader, count > 0 && (gap > 0 || runs.length === 0), `${count} frames behind ${gap}`);
    const first = end + gap;
    end = first + count;
    require(reader, end <= Number.MAX_SAFE_INTEGER, `frame ${end}`);
    runs.push({ first, count });
  }
  return { type: "want", vm, last, runs };
}

function readPosition(reader: ByteReader): PositionMessage {
  const counts: { vm: VmNumber; count: number }[] = [];
  for (let left = readCount(reader); left > 0; left--) {
    const vm = readVm(reader);
    require(reader, vm > (counts.at(-1)?.vm ?? 0), `VM ${vm} out of order`);
    counts.push({ vm, count: reader.varint() });
  }
  return { type: "position", counts };
}

function readVm(reader: ByteReader): VmNumber {
  const vm = reader.varint();
  require(reader, vm >= 1 && vm <= VM_NUMBER_MAX, `VM ${vm}`);
  return vm;
}

function readEpoch(reader: ByteReader): number {
  const epoch = reader.varint();
  require(reader, epoch <= EPOCH_MAX, `epoch ${epoch}`);
  return epoch;
}

function readCount(reader: ByteReader): number {
  const count = reader.varint();
  require(reader, count <= LIST_ENTRIES_MAX, `${count} entries`);
  return count;
}

function readFlags(reader: ByteReader, known: number): number {
  const flags = reader.u8();
  require(reader, (flags & ~known) === 0, `flags ${flags}`);
  return flags;
}

function readText(reader: ByteReader, bytesMax: number): string {
  const length = reader.varint();
  require(reader, length <= bytesMax, `a text of ${length} bytes`);
  const bytes = reader.bytes(length);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw malformed(reader, "a text that is not UTF-8");
  }
}

function require(reader: ByteReader, ok: boolean, otherwise: string): void {
  if (!ok) throw malformed(reader, otherwise);
}

function malformed(reader: ByteReader, what: string): FormatError {
  return new FormatError(reader.file, reader.offset, what);
}
