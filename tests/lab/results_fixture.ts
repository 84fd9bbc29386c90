/** Samples for tests of what is made of them. */
import type { RecordingSample, ReplaySample, Results, StockSample } from "./samples.ts";

/** An identical replay of `replayS`; one that differs has a reason. */
export function replay(replayS: number, difference?: string): ReplaySample {
  return {
    identical: difference === undefined,
    ...difference === undefined ? {} : { difference },
    frames: { recorded: 100, matched: difference === undefined ? 100 : 40 },
    checks: { recorded: 3, equal: 3 },
    consolesEqual: true,
    replayS,
    wholeS: replayS + 1,
    use: { cpuS: replayS / 10, rssBytesMax: 150e6 },
  };
}

/** A recording of three VMs that took `recordS`; its timed replay takes half of that. */
export function recording(
  example: string,
  recordS: number,
  replays: readonly ReplaySample[],
  more: Partial<RecordingSample> = {},
): RecordingSample {
  return {
    ...{ piece: 0, example, load: "idle", mayFail: false, unfinishedWork: [] },
    recorded: {
      recordS,
      wholeS: recordS + 2,
      use: { cpuS: recordS / 5, rssBytesMax: 120e6 },
      vms: 3,
      instructions: 3e9,
      bytes: { rrLog: 9e6, hybrid: 1e6, stored: 480_000 },
      frames: { sent: 7000, internal: 7200, external: 5, storedWhole: 0 },
      recorder: { lostEvents: 0, droppedFrames: 0 },
      checks: 3,
    },
    replayTime: { replayS: recordS / 2, use: { cpuS: recordS / 10, rssBytesMax: 140e6 } },
    replays: [...replays],
    ...more,
  };
}

export function stock(example: string, more: Partial<StockSample> = {}): StockSample {
  return {
    piece: 0,
    example,
    plain: { runS: 8 },
    record: { runS: 9 },
    logs: { bytes: 10e6, zstd19Bytes: 800_000 },
    replay: { runS: 30 },
    consolesEqual: true,
    ...more,
  };
}

export function results(
  recordings: readonly RecordingSample[],
  stocks: readonly StockSample[] = [],
  startedAt = "2026-01-31T12:00:00.000Z",
): Results {
  return {
    format: "clusterrr laboratory 2",
    pieces: [{
      startedAt,
      cpu: "A processor",
      cores: 2,
      memoryBytes: 24e9,
      kernel: "6.18.0",
      qemu: "7.2.22",
      deno: "2.9.6",
      zstd: "1.5.4",
      commit: "0123456789ab",
      loadBefore: 0.1,
      options: {
        ...{ examples: ["trio"], recordings: 2, replays: 2, loads: ["idle", "full"] },
        stockRounds: 1,
      },
    }],
    recordings: [...recordings],
    stock: [...stocks],
  };
}
