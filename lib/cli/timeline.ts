/** `clusterrr timeline`: what the VMs printed and received, in one order. */
import { object } from "@optique/core/constructs";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, flag, option } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import { InterruptedError } from "../errors.ts";
import type { TimelineItem } from "./ports.ts";
import { defineSubcommand, jsonFlag, locateRecording, sentence } from "./subcommand.ts";
import { jsonValue } from "./terminal.ts";
import { duration, recordingReference, vmNames } from "./values.ts";

export const timeline = defineSubcommand({
  name: "timeline",
  brief: "Print what the VMs printed and received, in one order.",
  description: [
    "Prints the lines of all consoles, and with --frames every frame that a VM received, each with its " +
    "time in the recording and its place: what `replay --to` and `seek` take to stop just behind it.",
    "A received frame comes after all that it may be an answer to. What a VM sent is shown where it was " +
    "received.",
  ],
  examples: [
    "timeline trio.clusterrr",
    "timeline trio.clusterrr --frames --from 12s --to 13s",
    "timeline failed --vm left,right --frames --grep 'LOCK 7'",
  ],
  parser: object({
    reference: argument(recordingReference(), {
      description: sentence("The recording: its directory, its name, or the beginning of its id."),
    }),
    frames: withDefault(
      flag("--frames", { description: sentence("Received frames too.") }),
      false,
    ),
    vms: optional(option("--vm", vmNames(), { description: sentence("Only these VMs.") })),
    grep: optional(option("--grep", string({ metavar: "TEXT" }), {
      description: sentence("Only what contains this text."),
    })),
    fromMs: optional(option("--from", duration({ zero: true }), {
      description: sentence("Begin at this time of the recording, e.g. 12s."),
    })),
    toMs: optional(option("--to", duration(), { description: sentence("End at this time.") })),
    json: jsonFlag("Print one JSON object a line."),
  }),
  async run({ reference, frames, vms, grep, fromMs = 0, toMs = Infinity, json }, context) {
    const directory = await locateRecording(context, reference);
    const options = { directory, frames, ...(vms && { vms }) };
    const items = context.operations.timeline(options, context.signal);
    for await (const item of items) {
      if (context.signal.aborted) throw new InterruptedError("interrupted");
      const ms = item.seconds * 1000;
      if (ms < fromMs || ms > toMs) continue;
      const text = describe(item);
      if (grep !== undefined && !text.includes(grep)) continue;
      context.terminal.out(json ? `${JSON.stringify(item, jsonValue)}\n` : humanLine(item, text));
    }
    return 0;
  },
});

function describe({ kind, text, from, sendNumber }: TimelineItem): string {
  if (kind === "line") return text;
  return `◀ ${from === null ? "outside" : `${from} ${sendNumber}`}  ${text}`.trimEnd();
}

const PLACE_COLUMNS = 18;

function humanLine({ seconds, icount, vm }: TimelineItem, text: string): string {
  const place = `${icount ?? "-"}@${vm}`.padEnd(PLACE_COLUMNS);
  return `${seconds.toFixed(3).padStart(8)}  ${place}  ${text}`.trimEnd() + "\n";
}
