/** Points of a recording at which a replay can be stopped, as a user writes them. */
import { UNIT_MS } from "../cli/quantities.ts";
import { ClusterrrError } from "../errors.ts";

/** Where to go. */
export type SeekTarget =
  /** The checkpoint at the beginning of an epoch. */
  | { readonly kind: "checkpoint"; readonly epoch: number }
  /** One VM after exactly so many instructions, the others as consistent with it. */
  | { readonly kind: "instruction"; readonly vm: string; readonly icount: number }
  /** The last checkpoint at or before this time of the recording, in ms. */
  | { readonly kind: "time"; readonly ms: number };

/** `undefined` where the text is no target: `42`, `1234567@left`, `12.5s`. */
export function parseTarget(text: string): SeekTarget | undefined {
  const checkpoint = /^(\d{1,9})$/.exec(text);
  if (checkpoint !== null) return { kind: "checkpoint", epoch: Number(checkpoint[1]) };
  const instruction = /^(\d{1,15})@([a-z][a-z0-9-]*)$/.exec(text);
  if (instruction !== null) {
    return { kind: "instruction", icount: Number(instruction[1]), vm: instruction[2]! };
  }
  const time = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  if (time !== null) return { kind: "time", ms: Number(time[1]) * UNIT_MS[time[2]!]! };
  return undefined;
}

/** The text that {@link parseTarget} reads as `target`. */
export function formatTarget(target: SeekTarget): string {
  switch (target.kind) {
    case "checkpoint":
      return `${target.epoch}`;
    case "instruction":
      return `${target.icount}@${target.vm}`;
    case "time":
      return `${target.ms / 1000}s`;
  }
}

/** @throws {ClusterrrError} with what would be right */
export function requireTarget(text: string): SeekTarget {
  const target = parseTarget(text);
  if (target !== undefined) return target;
  throw new ClusterrrError(
    `"${text}" is no point of a recording: name a checkpoint (42), an instruction of a VM ` +
      "(1234567@left), or a time (12.5s).",
  );
}
