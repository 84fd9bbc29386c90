/** `clusterrr diff`: gives the comparison what decodes rr logs, and keeps the user informed. */
import { decodeEvents, formatFields } from "../hypervisor/rr_log/events.ts";
import { RrLogScanner } from "../hypervisor/rr_log/scanner.ts";
import { type RrLogTable, tableOfLog } from "../hypervisor/rr_log/tables.ts";
import type { DiffOptions, Progress } from "../lib/cli/ports.ts";
import { compareRuns } from "../lib/diff/cluster_comparison.ts";
import type { DiffReport, EventCodec, LoggedEvent } from "../lib/diff/observation.ts";
import { openRun } from "../lib/diff/runs.ts";
import { EventLoopTurns } from "../lib/event_loop_turns.ts";

/** QEMU's own: a clock of the host was read, the main loop passed a checkpoint. */
const HOST_ONLY = /^(CLOCK|CHECKPOINT)_/;

/** Compares two runs. An abort throws `InterruptedError`. */
export async function diff(
  options: DiffOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<DiffReport> {
  progress.show({ phase: "comparing", vms: [] });
  const turns = new EventLoopTurns(signal);
  return await compareRuns(openRun(options.a), openRun(options.b), {
    guestOnly: options.guestOnly,
    context: options.context,
    codec: (qemu) => eventCodec(tableOfLog(qemu)),
    turn: async (name, logBytes, total) => {
      if (!turns.due) return;
      const fraction = total === 0 ? undefined : Math.min(1, logBytes / total);
      progress.show({
        phase: "comparing",
        vms: [{ name, rrLogBytes: logBytes, ...(fraction === undefined ? {} : { fraction }) }],
      });
      await turns.take();
    },
  });
}

/** The rr log of one QEMU version for `lib/diff`. */
export function eventCodec(table: RrLogTable): EventCodec {
  return {
    counter: (name, firstIcount) =>
      new RrLogScanner(table, { events: () => {}, frame: () => {} }, name, firstIcount),
    *decode(bytes, name, offset): Generator<LoggedEvent> {
      let last: Omit<LoggedEvent, "length"> | undefined;
      let start = offset;
      for (const event of decodeEvents(bytes, table, name, offset)) {
        if (last !== undefined) yield { ...last, length: event.offset - start };
        start = event.offset;
        last = {
          instructions: event.type === "instruction" ? event.count : 0,
          hostOnly: HOST_ONLY.test(event.name),
          kind: event.name,
          text: formatFields(event),
        };
      }
      if (last !== undefined) yield { ...last, length: offset + bytes.length - start };
    },
  };
}
