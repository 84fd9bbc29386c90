/**
 * What the coordinator knows and must not forget when it is killed, in Deno KV.
 *
 * ```
 * ["host", NAME]        → StoredHost
 * ["run", ID]           → StoredRun         recordings and replays that go on, and the last ones that ended
 * ["recording", ID]     → RecordingEntry    what there is on the hosts
 * ```
 * A run's phase is written down before it begins: what a new coordinator finds is at most one step behind.
 */
import { gunzipSync, gzipSync } from "node:zlib";
import { z } from "zod";
import { whenUnlocked } from "../catalog/store.ts";
import { ClusterrrError } from "../errors.ts";
import { byAge } from "./recording_pages.ts";
import { sleep } from "../sleep.ts";
import {
  address,
  hostName,
  placedVms,
  recordingEnd,
  type RecordingEntry,
  recordingEntry,
  replayPlan,
  replayResult,
  runId,
} from "../protocol/control.ts";

const storedHost = z.object({
  name: hostName,
  addedAt: z.iso.datetime(),
  drained: z.boolean(),
  link: address.nullable(),
});

const common = z.object({
  run: runId,
  name: z.string(),
  startedAt: z.iso.datetime(),
  phase: z.string(),
  placement: z.array(placedVms),
  ended: z.boolean(),
  failure: z.string().optional(),
});

const storedRun = z.discriminatedUnion("kind", [
  common.extend({
    kind: z.literal("record"),
    cluster: z.string(),
    forMs: z.number().optional(),
    epochMs: z.number(),
    /** When the VMs began to run. */
    runningSince: z.iso.datetime().optional(),
    /** What ends it, once that is known. */
    end: recordingEnd.optional(),
  }),
  common.extend({
    kind: z.literal("replay"),
    plan: replayPlan,
    results: z.array(replayResult).optional(),
  }),
]);

export type StoredHost = z.infer<typeof storedHost>;
export type StoredRun = z.infer<typeof storedRun>;
export type StoredRecord = Extract<StoredRun, { kind: "record" }>;
export type StoredReplay = Extract<StoredRun, { kind: "replay" }>;

/** Ended runs that are kept, so that whoever started one still learns how it ended. */
const ENDED_RUNS_MAX = 100;

/**
 * Values whose JSON is longer are stored compressed: Deno KV's end at 64 KiB. That holds an entry of a recording
 * of 200 VMs, and a verified replay's results with about 8,000 checks; what is larger still is refused.
 */
const PLAIN_BYTES_MAX = 16 << 10;
const compressed = z.strictObject({ gzip: z.instanceof(Uint8Array) });

/** Writes that come within this time of each other are one. */
const HOSTS_TOGETHER_MS = 20;
/** Below what Deno KV takes in one transaction. */
const MUTATIONS_MAX = 500;

export class CoordinatorStore {
  readonly #newHosts = new Map<string, StoredHost>();
  #writing: Promise<void> | undefined;
  #changing: Promise<void> = Promise.resolve();

  constructor(private readonly kv: Deno.Kv) {}

  async hosts(): Promise<StoredHost[]> {
    return await this.#list(["host"], storedHost);
  }

  /** Written with others that come at the same time: when a coordinator starts, all hosts come at once. */
  putHost(host: StoredHost): Promise<void> {
    this.#newHosts.set(host.name, host);
    return this.#writing ??= this.#writeHosts();
  }

  async #writeHosts(): Promise<void> {
    await sleep(HOSTS_TOGETHER_MS);
    const hosts = [...this.#newHosts.values()];
    this.#newHosts.clear();
    this.#writing = undefined;
    for (let i = 0; i < hosts.length; i += MUTATIONS_MAX) {
      const atomic = this.kv.atomic();
      for (const host of hosts.slice(i, i + MUTATIONS_MAX)) atomic.set(["host", host.name], host);
      await whenUnlocked(() => atomic.commit());
    }
  }

  async removeHost(name: string): Promise<void> {
    await whenUnlocked(() => this.kv.delete(["host", name]));
  }

  async runs(): Promise<StoredRun[]> {
    return await this.#list(["run"], storedRun);
  }

  async run(id: string): Promise<StoredRun | undefined> {
    return await this.#get(["run", id], storedRun);
  }

  async putRun(run: StoredRun): Promise<void> {
    await this.#set(["run", run.run], run);
    if (run.ended) await this.#forgetOldRuns();
  }

  async #forgetOldRuns(): Promise<void> {
    const ended = (await this.runs()).filter((run) => run.ended)
      .sort((a, b) => b.startedAt.localeCompare(a.startedAt));
    for (const { run } of ended.slice(ENDED_RUNS_MAX)) {
      await whenUnlocked(() => this.kv.delete(["run", run]));
    }
  }

  async recordings(): Promise<RecordingEntry[]> {
    const entries = await this.#list(["recording"], recordingEntry);
    return entries.sort(byAge);
  }

  async putRecording(entry: RecordingEntry): Promise<void> {
    await this.#set(["recording", entry.id], entry);
  }

  async recording(id: string): Promise<RecordingEntry | undefined> {
    return await this.#get(["recording", id], recordingEntry);
  }

  /** Changes an entry, one change after the other; `undefined` for none, and to leave it as it is. */
  async changeRecording(
    id: string,
    change: (entry: RecordingEntry | undefined) => RecordingEntry | undefined,
  ): Promise<void> {
    const changing = this.#changing.then(async () => {
      const entry = change(await this.recording(id));
      if (entry !== undefined) await this.putRecording(entry);
    });
    this.#changing = changing.catch(() => {});
    await changing;
  }

  /** Forgets a recording and the run that made it: a host that is back would make an entry of that again. */
  async removeRecording(id: string): Promise<void> {
    await whenUnlocked(() =>
      this.kv.atomic().delete(["recording", id]).delete(["run", id]).commit()
    );
  }

  /** @param reference its name (the newest of that name), or the beginning of its id */
  async findRecording(reference: string): Promise<RecordingEntry> {
    const all = await this.recordings();
    const named = all.find(({ name }) => name === reference);
    if (named !== undefined) return named;
    const found = reference.length < 4 ? [] : all.filter(({ id }) => id.startsWith(reference));
    if (found.length === 1) return found[0]!;
    throw new ClusterrrError(
      found.length === 0
        ? `The coordinator knows no recording "${reference}". ` +
          (all.length === 0
            ? "It has none yet."
            : `It has: ${all.slice(0, 10).map(({ name, id }) => `${name} (${id})`).join(", ")}`)
        : `"${reference}" is the beginning of ${found.length} ids: ` +
          found.map(({ id }) => id).join(", "),
    );
  }

  async #get<T>(key: Deno.KvKey, schema: z.ZodType<T>): Promise<T | undefined> {
    const { value } = await whenUnlocked(() => this.kv.get(key));
    return value === null ? undefined : schema.parse(expand(value));
  }

  async #set(key: Deno.KvKey, value: unknown): Promise<void> {
    const stored = compress(value);
    await whenUnlocked(() => this.kv.set(key, stored));
  }

  async #list<T>(prefix: Deno.KvKey, schema: z.ZodType<T>): Promise<T[]> {
    return await whenUnlocked(async () => {
      const found: T[] = [];
      for await (const { value } of this.kv.list({ prefix })) {
        found.push(schema.parse(expand(value)));
      }
      return found;
    });
  }
}

function compress(value: unknown): unknown {
  const text = JSON.stringify(value);
  return text.length <= PLAIN_BYTES_MAX ? value : { gzip: new Uint8Array(gzipSync(text)) };
}

function expand(value: unknown): unknown {
  const { success, data } = compressed.safeParse(value);
  return success ? JSON.parse(new TextDecoder().decode(gunzipSync(data.gzip))) : value;
}
