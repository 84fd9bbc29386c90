/** `clusterrr dump`: prints the events of a log, one a line. */
import { object } from "@optique/core/constructs";
import { optional } from "@optique/core/modifiers";
import { argument, option } from "@optique/core/primitives";
import { integer, string } from "@optique/core/valueparser";
import { InterruptedError } from "../errors.ts";
import { defineSubcommand, jsonFlag, locateRecording, sentence } from "./subcommand.ts";
import type { Context } from "./subcommand.ts";
import type { DumpItem } from "./ports.ts";
import { jsonValue } from "./terminal.ts";
import { recordingReference } from "./values.ts";

/** Lines are gathered to about this size before they are written. */
const WRITE_CHARACTERS = 32 * 1024;

export const dump = defineSubcommand({
  name: "dump",
  brief: "Print the events of a log.",
  description: [
    "Prints what a log holds, one event a line: instruction counts, clocks, interrupts, input, " +
    "frames and references to frames. FILE is a segment of a recording or QEMU's own record/replay " +
    "file; DIR is a whole recording, whose VMs are printed one after the other.",
  ],
  examples: [
    "dump trio.clusterrr --vm left --limit 100",
    "dump trio.clusterrr --vm left --from 120000000 --json | jq .kind",
    "dump trio.clusterrr/vms/left/hybrid-000000.seg",
  ],
  parser: object({
    target: argument({ ...recordingReference(), metavar: "FILE|DIR" }, {
      description: sentence("A segment, an rr file, or a recording (directory or name)."),
    }),
    vm: optional(option("--vm", string({ metavar: "NAME" }), {
      description: sentence("Only this VM."),
    })),
    fromIcount: optional(option("--from", integer({ min: 0, metavar: "ICOUNT" }), {
      description: sentence("Begin at this instruction count."),
    })),
    limit: optional(option("--limit", integer({ min: 1, metavar: "N" }), {
      description: sentence("Print at most N events."),
    })),
    json: jsonFlag("Print one JSON object a line."),
  }),
  async run({ target, vm, fromIcount, limit, json }, context) {
    const items = context.operations.dump({
      path: await locateLog(context, target),
      ...(vm === undefined ? {} : { vm }),
      ...(fromIcount === undefined ? {} : { fromIcount }),
      ...(limit === undefined ? {} : { limit }),
    }, context.signal);
    let waiting = "";
    const flush = () => {
      context.terminal.out(waiting);
      waiting = "";
    };
    try {
      for await (const item of items) {
        waiting += (json ? jsonLine(item) : humanLine(item)) + "\n";
        if (waiting.length >= WRITE_CHARACTERS) flush();
        if (context.signal.aborted) throw new InterruptedError("interrupted");
      }
    } finally {
      flush();
    }
    return 0;
  },
});

/** A file is taken as it is; anything else is a recording. */
async function locateLog(context: Context, target: string): Promise<string> {
  const info = await Deno.stat(target).catch(() => undefined);
  return info?.isFile ? target : await locateRecording(context, target);
}

function jsonLine(item: DumpItem): string {
  const { vm, icount, kind, fields } = item;
  return JSON.stringify({ vm, icount, kind, ...fields }, jsonValue);
}

function humanLine(item: DumpItem): string {
  return `${item.vm}  ${String(item.icount).padStart(12)}  ${item.kind.padEnd(16)}  ${item.text}`
    .trimEnd();
}
