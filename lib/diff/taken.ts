/** What a comparison takes of one side's log where bytes alone do not decide. */
import { equalBytes } from "../bytes/equal_bytes.ts";
import { describeEnd, describeEvent, describeReceived } from "./describe.ts";
import type { DifferenceKind, Ended, LoggedEvent, Observed, Received } from "./observation.ts";
import type { ReceivedFrames, ReferencedFrames } from "./received_frames.ts";

/** The next thing of one side that is no run of instructions. */
export type Taken =
  & {
    readonly icount: number;
    /** Whole events that led to it and, if it is one, it itself. */
    readonly bytes: readonly Uint8Array[];
  }
  & (
    | { readonly thing: "event"; readonly event: LoggedEvent; readonly raw: Uint8Array }
    | { readonly thing: "receive"; readonly received: Received }
    | { readonly thing: "end"; readonly end: Ended }
  );

/** How they differ; `undefined` where they are equal. */
export function differenceOf(
  a: Taken,
  b: Taken,
  received: ReceivedFrames,
): { kind: DifferenceKind; what: string } | undefined {
  if (a.thing === "end" && b.thing === "end") {
    if (a.end.complete === b.end.complete && a.icount === b.icount) return undefined;
    return { kind: "end", what: "the runs end differently" };
  }
  if (a.thing === "end" || b.thing === "end") {
    const [name, end] = a.thing === "end" ? ["A", a.end] : ["B", (b as { end: Ended }).end];
    const how = end.complete ? "ends" : "ends early";
    return { kind: "end", what: `${name} ${how} where ${name === "A" ? "B" : "A"} goes on` };
  }
  if (a.icount === b.icount) {
    if (a.thing === "event" && b.thing === "event") {
      if (equalBytes(a.raw, b.raw)) return undefined;
      return {
        kind: "event",
        what: a.event.kind === b.event.kind ? `another ${a.event.kind}` : "another event",
      };
    }
    if (a.thing === "receive" && b.thing === "receive") {
      const how = received.difference(a.received, b.received);
      if (how === undefined) return undefined;
      return { kind: "receive", what: `another received frame: ${how}` };
    }
  }
  const kind = a.thing === "receive" || b.thing === "receive" ? "receive" : "event";
  const [inA, inB] = [kindOf(a), kindOf(b)];
  if (a.icount === b.icount) return { kind, what: `${inA} in A, ${inB} in B` };
  const instructions = Math.abs(a.icount - b.icount);
  const before = (early: string, late: string, side: string) =>
    `${early} in ${side}, ${instructions} instructions before ` +
    `${late} in ${side === "A" ? "B" : "A"}`;
  return { kind, what: a.icount < b.icount ? before(inA, inB, "A") : before(inB, inA, "B") };
}

export function describeTaken(taken: Taken, frames: ReferencedFrames): Observed {
  switch (taken.thing) {
    case "event":
      return describeEvent(taken.event, taken.icount);
    case "receive":
      return describeReceived(taken.received, frames, taken.icount);
    case "end":
      return describeEnd(taken.end, taken.icount);
  }
}

function kindOf(taken: Taken): string {
  return taken.thing === "event" ? taken.event.kind : taken.thing.toUpperCase();
}
