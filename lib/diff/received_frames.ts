/**
 * Whether two received frames are the same, however they are stored: two references by the source's
 * name and the hash of what it sent, anything else by its bytes.
 *
 * Most references of equal runs name the same frame of the same VM. Such a pair is *trusted* at first:
 * it is equal if that VM's sends are, and these are compared anyway. Where the sends turn out to
 * differ, the comparison is done again with `proven`, and looks the rest up.
 */
import { equalBytes } from "../bytes/equal_bytes.ts";
import { hashFrame, storedHash } from "../roles/frame_matcher.ts";
import { RR_FRAME_HEADER_BYTES } from "../recording/hybrid_log.ts";
import type { OpenLog } from "./log_side.ts";
import type { Received, Sent } from "./observation.ts";
import { sameSend } from "./pairs.ts";
import { SentFrames } from "./sent_frames.ts";

/** A VM of a recording whose log can be opened. */
export interface LogOfVm {
  readonly number: number;
  readonly name: string;
  readonly open: OpenLog;
}

/** The frames that one recording's references name. */
export class ReferencedFrames {
  readonly #vms: ReadonlyMap<number, LogOfVm>;
  readonly #sent = new Map<number, SentFrames>();

  constructor(vms: readonly LogOfVm[]) {
    this.#vms = new Map(vms.map((vm) => [vm.number, vm]));
  }

  nameOf(source: number): string {
    return this.#vms.get(source)?.name ?? `number ${source}`;
  }

  /** The frame as its sender's log has it; `undefined` where that ends before. */
  find(source: number, number: number): Sent | undefined {
    const vm = this.#vms.get(source);
    if (vm === undefined) return undefined;
    let sent = this.#sent.get(source);
    if (sent === undefined) this.#sent.set(source, sent = new SentFrames(vm.open));
    return sent.find(number);
  }

  close(): void {
    for (const sent of this.#sent.values()) sent.close();
  }
}

/** The length that a received frame's header states. */
export function receivedLength({ header }: Received): number {
  const at = RR_FRAME_HEADER_BYTES - 4; // big-endian, behind kind, id and flags
  return (header[at]! << 24 | header[at + 1]! << 16 | header[at + 2]! << 8 | header[at + 3]!) >>> 0;
}

export class ReceivedFrames {
  /** For each source the highest number that was trusted. */
  readonly trusted = new Map<string, number>();
  /** Pairs that name the same frame, whose bytes one side does not have. */
  unproven = 0;

  /** @param proven for each VM how many of its sends are equal; without it, names are trusted */
  constructor(
    private readonly a: ReferencedFrames,
    private readonly b: ReferencedFrames,
    private readonly proven?: ReadonlyMap<string, number>,
  ) {}

  /** What differs, in a few words; `undefined` where nothing does. */
  difference(a: Received, b: Received): string | undefined {
    if (!equalBytes(a.header, b.header)) {
      const [lengthA, lengthB] = [receivedLength(a), receivedLength(b)];
      return lengthA === lengthB
        ? "another network card or other flags"
        : `${lengthA} bytes in A, ${lengthB} in B`;
    }
    if (a.content.stored !== "reference") {
      return b.content.stored === "reference"
        ? this.#unlikeSent(this.b, b.content, a.content.payload)
        : equalBytes(a.content.payload, b.content.payload)
        ? undefined
        : "other bytes";
    }
    if (b.content.stored !== "reference") {
      return this.#unlikeSent(this.a, a.content, b.content.payload);
    }
    return this.#unlikeReference(a.content, b.content);
  }

  #unlikeReference(a: Reference, b: Reference): string | undefined {
    const name = this.a.nameOf(a.source);
    const other = this.b.nameOf(b.source);
    if (name !== other) return `sent by VM ${name} in A, by VM ${other} in B`;
    const sameNumber = a.number === b.number;
    if (sameNumber && this.proven === undefined) {
      this.trusted.set(name, Math.max(a.number, this.trusted.get(name) ?? 0));
      return undefined;
    }
    if (sameNumber && a.number < (this.proven?.get(name) ?? 0)) return undefined;
    const sentA = this.a.find(a.source, a.number);
    const sentB = this.b.find(b.source, b.number);
    if (sentA !== undefined && sentB !== undefined) {
      return sameSend(sentA, sentB) ? undefined : `VM ${name} sent other bytes`;
    }
    if (!sameNumber) return `frame ${a.number} of VM ${name} in A, frame ${b.number} in B`;
    this.unproven++;
    return undefined;
  }

  /** Compares a frame that is kept whole with what the other side's sender sent. */
  #unlikeSent(frames: ReferencedFrames, named: Reference, payload: Uint8Array): string | undefined {
    const sent = frames.find(named.source, named.number);
    if (sent === undefined) {
      this.unproven++;
      return undefined;
    }
    const padding = payload.subarray(sent.length);
    const frame = payload.subarray(0, sent.length);
    const same = frame.length === sent.length && padding.every((byte) => byte === 0) &&
      equalBytes(storedHash(hashFrame(frame)), sent.hash);
    return same ? undefined : "other bytes";
  }
}

type Reference = Extract<Received["content"], { stored: "reference" }>;
