/**
 * One recording over several hosts, from its preparation to its entry in the store; also one that a
 * coordinator before this one began.
 *
 * ```
 * preparing ─▶ arming ─▶ running ─▶ quiescing ─▶ sealing ─▶ ended
 *     └───────────┴── begun by a coordinator that was killed: ended; kept where VMs ran already
 *                          └──────────┴────────────┴── the new one goes on from there
 * ```
 */
import { ClusterrrError, messageOf } from "../errors.ts";
import type { RecordPlan, RunStatus } from "../protocol/control.ts";
import { coordinateRecording, type RecordingEnd } from "../roles/recording_coordinator.ts";
import type { ConnectedHost } from "./connected_host.ts";
import { entryOf } from "./recording_entry.ts";
import { RemoteRecording } from "./remote_recording.ts";
import type { RunObserver } from "./run_observer.ts";
import type { CoordinatorStore, StoredRecord } from "./store.ts";

/** A recording that goes on. */
export class RecordingRun {
  readonly #stop = new AbortController();
  readonly #parts: readonly RemoteRecording[];
  #stored: StoredRecord;
  /** Resolves when everything about it has been written down. Never rejects. */
  readonly ended: Promise<void>;

  private constructor(
    stored: StoredRecord,
    private readonly store: CoordinatorStore,
    hosts: ReadonlyMap<string, ConnectedHost>,
    private readonly observer: RunObserver,
    work: (run: RecordingRun) => Promise<void>,
  ) {
    this.#stored = stored;
    this.#parts = stored.placement.map(({ host }) =>
      new RemoteRecording(hosts.get(host)!, stored.run)
    );
    this.ended = work(this)
      .catch((error) => this.#giveUp(error))
      .catch((error) => this.#fail(messageOf(error)))
      .catch(() => {}) // the store does not take it: the next coordinator finds the run as it is
      .finally(() => this.#parts.forEach((part) => part.close()));
  }

  /** Begins a recording. */
  static begin(
    stored: StoredRecord,
    plan: RecordPlan,
    store: CoordinatorStore,
    hosts: ReadonlyMap<string, ConnectedHost>,
    observer: RunObserver,
  ): RecordingRun {
    return new RecordingRun(stored, store, hosts, observer, (run) => run.#begin(plan));
  }

  /** Goes on with what another coordinator left. Hosts that are not back in time count as lost. */
  static takeOver(
    stored: StoredRecord,
    store: CoordinatorStore,
    hosts: ReadonlyMap<string, ConnectedHost>,
    observer: RunObserver,
  ): RecordingRun {
    return new RecordingRun(stored, store, hosts, observer, (run) => run.#takeOver());
  }

  /** Ends it in order. */
  stop(): void {
    this.#stop.abort();
  }

  get stored(): StoredRecord {
    return this.#stored;
  }

  status(): RunStatus["hosts"] {
    return this.#parts.map(({ host, status }) => ({
      host: host.name,
      connected: host.connected,
      ...(status === undefined ? {} : { record: status }),
    }));
  }

  async #begin(plan: RecordPlan): Promise<void> {
    const prepared = await Promise.allSettled(this.#parts.map((part) => part.prepare(plan)));
    const failed = prepared.find((each) => each.status === "rejected");
    if (failed !== undefined) return await this.#giveUp(failed.reason);
    if (this.#stop.signal.aborted) {
      return await this.#giveUp(new ClusterrrError("Stopped before the recording began."));
    }
    const startedAt = performance.now();
    await this.#conclude(
      await this.#coordinate(undefined),
      () => (performance.now() - startedAt) / 1000,
    );
  }

  async #coordinate(
    running: { elapsedMs: number; epoch: number } | undefined,
  ): Promise<RecordingEnd> {
    const { forMs, epochMs } = this.#stored;
    return await coordinateRecording(
      this.#parts,
      { durationMs: forMs, epochMs, ...(running && { running }) },
      this.#stop.signal,
      {
        phase: (phase, end) =>
          this.#write({
            phase,
            ...(phase === "running" ? { runningSince: new Date().toISOString() } : {}),
            ...(end === undefined ? {} : { end: endToStore(end) }),
          }),
        ticked: (ms) => this.observer.ticked(this.#stored.run, ms),
      },
    );
  }

  async #takeOver(): Promise<void> {
    const { phase, runningSince, end } = this.#stored;
    const reached = await Promise.allSettled(this.#parts.map((part) => part.look()));
    if (runningSince === undefined) {
      const why = `The coordinator was started again while the recording was ${phase}.`;
      return await this.#giveUp(new ClusterrrError(why));
    }
    const elapsedMs = Date.now() - Date.parse(runningSince);
    const recordS = () => (Date.now() - Date.parse(runningSince)) / 1000;
    const goOn = end === undefined &&
      reached.every((each) => each.status === "fulfilled" && each.value.phase === "running");
    if (goOn) {
      const epoch = Math.max(...this.#parts.map(({ status }) => status!.epoch));
      for (const part of this.#parts) part.watch();
      return await this.#conclude(await this.#coordinate({ elapsedMs, epoch }), recordS);
    }
    await Promise.allSettled(this.#parts.map((part) => part.quiesce()));
    await Promise.allSettled(this.#parts.map((part) => part.seal()));
    await this.#conclude(end === undefined ? this.#whyNot(reached) : endFromStore(end), recordS);
  }

  /** Why the recording does not go on, after a new coordinator has looked at all hosts. */
  #whyNot(reached: readonly PromiseSettledResult<unknown>[]): RecordingEnd {
    const away = this.#parts.filter((_, i) => reached[i]!.status === "rejected")
      .map(({ host }) => host.name);
    const why = away.length > 0
      ? `The coordinator was started again, and without ${away.join(", ")}: not heard of since.`
      : "The coordinator was away for too long: a host had ended its part by itself.";
    return { by: "failure", error: new ClusterrrError(why) };
  }

  /** Ends every host's part at once; where VMs have run, what they recorded is kept. */
  async #giveUp(reason: unknown): Promise<void> {
    const error = reason instanceof ClusterrrError ? reason : new ClusterrrError(messageOf(reason));
    const { runningSince } = this.#stored;
    const ranMs = runningSince === undefined ? 0 : Date.now() - Date.parse(runningSince);
    await Promise.allSettled(this.#parts.map((part) => part.abort()));
    await this.#conclude({ by: "failure", error }, () => ranMs / 1000);
  }

  async #fail(failure: string): Promise<void> {
    await this.#write({ phase: "ended", ended: true, failure });
  }

  async #conclude(end: RecordingEnd, recordS: () => number): Promise<void> {
    const seconds = recordS();
    const concluded = await Promise.allSettled(
      this.#parts.map((part) => part.conclude(end, seconds)),
    );
    const parts = concluded.map((each) => each.status === "fulfilled" ? each.value : undefined);
    // What a lost host has is added when it is back.
    const begun = this.#stored.runningSince !== undefined ||
      parts.some((part) => part !== undefined && part.vms.length > 0);
    const failure = end.by === "failure" ? { failure: end.error.message } : {};
    const stored = endToStore(end);
    if (begun) await this.store.putRecording(entryOf(this.#stored, stored, seconds, parts));
    await this.#write({ phase: "ended", ended: true, end: stored, ...failure });
  }

  async #write(change: Partial<StoredRecord>): Promise<void> {
    this.#stored = { ...this.#stored, ...change };
    await this.store.putRun(this.#stored);
  }
}

function endToStore(end: RecordingEnd): NonNullable<StoredRecord["end"]> {
  return end.by === "failure" ? { by: end.by, message: end.error.message } : { by: end.by };
}

function endFromStore({ by, message }: NonNullable<StoredRecord["end"]>): RecordingEnd {
  return by === "failure"
    ? { by, error: new ClusterrrError(message ?? "The recording failed.") }
    : { by };
}
