/** Items of a log as the report shows them. */
import type { Checked, Ended, LoggedEvent, Observed, Received, Sent } from "./observation.ts";
import { ramDiffers, shortDigest } from "../recording/ram_digest.ts";
import { receivedLength, type ReferencedFrames } from "./received_frames.ts";

/** A frame in a report is shown up to here. */
const SHOWN_BYTES_MAX = 2048;

export function describeEvent(event: LoggedEvent, icount: number): Observed {
  return { icount, kind: event.kind, text: event.text };
}

export function describeReceived(
  received: Received,
  frames: ReferencedFrames,
  icount: number,
): Observed {
  const { content } = received;
  const length = `${receivedLength(received)} bytes`;
  if (content.stored !== "reference") {
    const from = content.stored === "external" ? "from outside" : "of a source that is not known";
    const bytes = content.payload.subarray(0, SHOWN_BYTES_MAX).toHex();
    return { icount, kind: "RECEIVE", text: `${length} ${from}`, bytes };
  }
  const sent = frames.find(content.source, content.number);
  const text = `${length}, frame ${content.number} of VM ${frames.nameOf(content.source)}` +
    (sent === undefined ? "" : `, SHA-256 ${sent.hash.toHex()}…`);
  return {
    icount,
    kind: "RECEIVE",
    text,
    ...(sent === undefined || sent.head.length === 0 ? {} : { bytes: sent.head.toHex() }),
  };
}

export function describeSent(sent: Sent, icount: number): Observed {
  return {
    icount,
    kind: "SEND",
    text: `frame ${sent.number}, ${sent.length} bytes, SHA-256 ${sent.hash.toHex()}…`,
    ...(sent.head.length === 0 ? {} : { bytes: sent.head.toHex() }),
  };
}

/** @param other the check that it is compared with: only registers that differ are shown */
export function describeCheck(check: Checked, other: Checked): Observed {
  const parts: string[] = [];
  if (ramDiffers(check.ramDigest, other.ramDigest)) {
    parts.push(`RAM ${shortDigest(check.ramDigest)}`);
  }
  if (check.registersSha256 !== other.registersSha256) {
    const lines = check.registers?.split("\n");
    const others = other.registers?.split("\n");
    parts.push(
      ...(lines === undefined || others === undefined
        ? [`registers with SHA-256 ${check.registersSha256.slice(0, 16)}…`]
        : lines.filter((line, i) => line !== others[i])),
    );
  }
  return { icount: check.icount, kind: "CHECK", text: parts.join("\n") };
}

export function describeEnd(end: Ended, icount: number): Observed {
  const text = end.damage ?? (end.complete ? "the log ends" : `ends early: ${end.reason}`);
  return { icount, kind: "END", text };
}
