/**
 * One replay over several hosts. Agents exchange frames among themselves; the coordinator starts them, looks
 * after them and collects what they found.
 *
 * An agent takes each step of a run once. So whatever happens, to a host or to the coordinator, the same steps
 * are asked for again: an agent that was started anew replays its VMs anew, and the others wait for it.
 */
import { ClusterrrError, messageOf, RemoteError } from "../errors.ts";
import type { ReplayResult, ReplayStatus, RunStatus } from "../protocol/control.ts";
import { sleepUnless } from "../sleep.ts";
import { type ConnectedHost, HostLostError } from "./connected_host.ts";
import type { CoordinatorStore, StoredReplay } from "./store.ts";

const POLL_MS = 250;
/** Logs are fetched from other hosts and read once. */
const PREPARE_MS = 600_000;
/** When one host stops since another one failed, that one says why within this time. */
const CAUSE_MS = 5_000;

/** One host's part. */
class ReplayPart {
  status: ReplayStatus | undefined;
  /** The agents that have been asked to prepare and to start: another one has to be asked again. */
  #prepared: string | undefined;
  #started: string | undefined;

  constructor(readonly host: ConnectedHost, private readonly stored: StoredReplay) {}

  get result(): ReplayResult | undefined {
    return this.status?.result;
  }

  async prepare(): Promise<void> {
    await this.#ofOneAgent((instance) => this.#prepare(instance));
  }

  async start(): Promise<void> {
    await this.#ofOneAgent((instance) => this.#start(instance));
  }

  /** Looks at the host; one whose agent is another one by now is asked to begin anew. */
  async look(): Promise<void> {
    await this.#ofOneAgent(async (instance) => {
      await this.#start(instance);
      this.status = await this.host.call("replay.status", { run: this.stored.run });
    });
  }

  async #prepare(instance: string): Promise<void> {
    if (this.#prepared === instance) return;
    await this.host.call("replay.prepare", this.stored.plan, { timeoutMs: PREPARE_MS });
    this.#prepared = instance;
  }

  async #start(instance: string): Promise<void> {
    await this.#prepare(instance);
    if (this.#started === instance) return;
    await this.host.call("replay.start", { run: this.stored.run });
    this.#started = instance;
  }

  /** Does `work` with one agent: it may be started anew between any two calls, and then knows of nothing. */
  async #ofOneAgent(work: (instance: string) => Promise<void>): Promise<void> {
    for (;;) {
      await this.host.whenConnected();
      const { instance } = this.host.hello!;
      try {
        await work(instance);
      } catch (error) {
        if (!(error instanceof RemoteError) || this.host.hello!.instance === instance) throw error;
      }
      if (this.host.hello!.instance === instance) return;
    }
  }

  async stop(): Promise<void> {
    await this.host.call("replay.stop", { run: this.stored.run });
  }
}

/** A replay that goes on. */
export class ReplayRun {
  readonly #stop = new AbortController();
  readonly #parts: readonly ReplayPart[];
  #stored: StoredReplay;
  /** Resolves when everything about it has been written down. Never rejects. */
  readonly ended: Promise<void>;

  /**
   * Begins a replay, or goes on with one.
   * @param patienceMs how long a host may be away; the others wait for it
   */
  constructor(
    stored: StoredReplay,
    private readonly store: CoordinatorStore,
    hosts: ReadonlyMap<string, ConnectedHost>,
    private readonly patienceMs: number,
  ) {
    this.#stored = stored;
    this.#parts = stored.placement.map(({ host }) => new ReplayPart(hosts.get(host)!, stored));
    this.ended = this.#run()
      // Without results: they may be what the store does not take.
      .catch((error) => this.#end({ failure: messageOf(error), results: [] }))
      .catch(() => {}); // the store does not take it: the next coordinator goes on with the run
  }

  stop(): void {
    this.#stop.abort();
  }

  get stored(): StoredReplay {
    return this.#stored;
  }

  status(): RunStatus["hosts"] {
    return this.#parts.map(({ host, status }) => ({
      host: host.name,
      connected: host.connected,
      ...(status === undefined ? {} : { replay: status }),
    }));
  }

  async #run(): Promise<void> {
    try {
      await this.#write({ phase: "preparing" });
      await this.#all((part) => part.prepare());
      await this.#write({ phase: "replaying" });
      await this.#all((part) => part.start());
      await this.#watch();
    } finally {
      await Promise.allSettled(this.#parts.map((part) => part.stop()));
    }
    const results = this.#parts.flatMap(({ result }) => result === undefined ? [] : [result]);
    await this.#end({ results });
  }

  /** Does `work` on every host, as soon as each is there. */
  async #all(work: (part: ReplayPart) => Promise<void>): Promise<void> {
    const stopped = Promise.withResolvers<never>();
    const onStop = () => stopped.reject(new ClusterrrError("The replay was stopped."));
    if (this.#stop.signal.aborted) onStop();
    this.#stop.signal.addEventListener("abort", onStop, { once: true });
    try {
      await Promise.race([
        Promise.all(this.#parts.map((part) => this.#patiently(part, () => work(part)))),
        stopped.promise,
      ]);
    } finally {
      this.#stop.signal.removeEventListener("abort", onStop);
    }
  }

  async #patiently(part: ReplayPart, work: () => Promise<void>): Promise<void> {
    let lostSince: number | undefined;
    for (;;) {
      if (part.host.connected) lostSince = undefined;
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof HostLostError)) throw error;
        lostSince ??= performance.now();
        if (performance.now() - lostSince > this.patienceMs) throw error;
        if (!await sleepUnless(POLL_MS, this.#stop.signal)) throw error;
      }
    }
  }

  async #watch(): Promise<void> {
    let failedAt = Infinity;
    for (;;) {
      await this.#all((part) => part.look());
      if (this.#parts.some(({ result }) => result?.divergence !== undefined)) return;
      const failed = this.#parts.filter(({ status }) => status?.failure !== undefined);
      if (failed.length > 0) failedAt = Math.min(failedAt, performance.now());
      const cause = failed.find(({ status }) => !status!.failedElsewhere) ??
        (performance.now() - failedAt > CAUSE_MS ? failed[0] : undefined);
      if (cause !== undefined) {
        throw new ClusterrrError(`Host ${cause.host.name}: ${cause.status!.failure}`);
      }
      if (this.#parts.every(({ result }) => result !== undefined)) return;
      await sleepUnless(POLL_MS, this.#stop.signal);
    }
  }

  async #end(outcome: Pick<StoredReplay, "failure" | "results">): Promise<void> {
    await this.#write({ phase: "ended", ended: true, ...outcome });
  }

  async #write(change: Partial<StoredReplay>): Promise<void> {
    this.#stored = { ...this.#stored, ...change };
    await this.store.putRun(this.#stored);
  }
}
