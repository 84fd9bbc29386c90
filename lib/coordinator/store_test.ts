/** The coordinator's store on a Deno KV in memory. */
import assert from "node:assert/strict";
import type { RecordingEntry } from "../protocol/control.ts";
import { CoordinatorStore, type StoredReplay } from "./store.ts";

async function withStore(work: (store: CoordinatorStore) => Promise<void>): Promise<void> {
  const kv = await Deno.openKv(":memory:");
  try {
    await work(new CoordinatorStore(kv));
  } finally {
    kv.close();
  }
}

/** A recording of so many VMs, one a host, all with the longest names. */
function entryOf(vms: number): RecordingEntry {
  const name = (i: number) => `v${String(i).padStart(30, "0")}`;
  return {
    id: "0123456789abcdef",
    name: "large",
    cluster: "large",
    createdAt: "2026-01-01T00:00:00.000Z",
    endedBy: "poweroff",
    complete: true,
    recordS: 10,
    placement: Array.from({ length: vms }, (_, i) => ({ host: name(i), vms: [i + 1] })),
    vms: Array.from({ length: vms }, (_, i) => ({
      name: name(i),
      instructions: 123_456_789_012 + i,
      bytes: { rrLog: 1_234_567_890 + i, hybrid: 234_567_890, stored: 34_567_890 },
      frames: { internal: 1_234_567, external: 234_567, stored: 345_678, sent: 1_234_567 + i },
      checks: 12_345,
    })),
  };
}

Deno.test("an entry of a recording of 200 VMs is stored, and found", () =>
  withStore(async (store) => {
    for (const vms of [1, 200]) {
      const entry = entryOf(vms);
      await store.putRecording(entry);
      assert.deepEqual(await store.recordings(), [entry]);
      assert.deepEqual(await store.findRecording("large"), entry);
    }
  }));

Deno.test("a verified replay of an hour with three VMs is stored: 2,160 checks", () =>
  withStore(async (store) => {
    const address = { host: "192.0.2.1", port: 7401 };
    const run: StoredReplay = {
      kind: "replay",
      run: "0123456789abcdef",
      name: "hour",
      startedAt: "2026-01-01T00:00:00.000Z",
      phase: "ended",
      placement: [{ host: "alpha", vms: [1, 2, 3] }],
      ended: true,
      plan: {
        run: "0123456789abcdef",
        recording: "0123456789abcdef",
        placement: [{ host: "alpha", vms: [1, 2, 3], address }],
        sources: [{ host: "alpha", vms: [1, 2, 3], address }],
        checks: true,
      },
      results: [{
        vms: [1, 2, 3].map((number) => ({
          number,
          name: `vm-${number}`,
          framesRecorded: 100,
          framesMatched: 100,
          instructions: 1e12,
          consoleEqual: true,
          replayS: 1800,
          endedBy: "end of log",
          checks: Array.from({ length: 720 }, (_, i) => ({
            at: number * 987_654_321 * (i + 1),
            icount: true,
            registers: true,
            ram: true,
          })),
        })),
        replayS: 1800,
        recordS: 3600,
        queueBytesMax: 0,
        links: [],
      }],
    };
    await store.putRun(run);
    assert.deepEqual(await store.run(run.run), run);
    assert.deepEqual(await store.runs(), [run]);
  }));
