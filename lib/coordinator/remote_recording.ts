/** The agent of another host as the coordinator of a recording drives it: phases become calls. */
import { ClusterrrError } from "../errors.ts";
import type { RecordedPart, RecordPlan, RecordStatus } from "../protocol/control.ts";
import type { RecordingAgentPort, RecordingEnd } from "../roles/recording_coordinator.ts";
import { sleepUnless } from "../sleep.ts";
import { type ConnectedHost, HostLostError } from "./connected_host.ts";

const POLL_MS = 250;
/** Images are hashed, VMs are made: on a slow disk that takes its time. */
const PREPARE_MS = 180_000;
/** What a VM still has in its log is written out. */
const SEAL_MS = 120_000;

/** One host's part of a recording. The owner calls {@link close}. */
export class RemoteRecording implements RecordingAgentPort {
  readonly finished: Promise<void>;
  /** What was heard last. */
  status: RecordStatus | undefined;
  readonly #finish = Promise.withResolvers<void>();
  readonly #crash = Promise.withResolvers<ClusterrrError>();
  readonly #closed = new AbortController();
  readonly #stopListening: (() => void)[];
  /** The agent that prepared it: one that is started anew has nothing of it any more. */
  #instance: string | undefined;
  #isLost = false;
  #heardAt = -Infinity;

  constructor(readonly host: ConnectedHost, private readonly run_: string) {
    this.finished = this.#finish.promise;
    this.finished.catch(() => {}); // heard by whoever waits for it
    this.#stopListening = [
      host.onLost(() => this.#lose("was lost while recording")),
      host.onAttach(() => {
        if (this.#instance === undefined || this.#instance === host.hello!.instance) return;
        this.#lose("started again while recording");
      }),
    ];
  }

  async prepare(plan: RecordPlan): Promise<void> {
    await this.host.whenConnected();
    this.#instance = this.host.hello!.instance;
    this.watch();
    await this.host.call("record.prepare", plan, { timeoutMs: PREPARE_MS });
    if (this.#isLost) await this.#giveBack();
  }

  /** The agent that prepared it in the end is not the one that was asked: nobody will ask that one again. */
  async #giveBack(): Promise<never> {
    const message = `Host ${this.host.name} started again while it prepared the recording.`;
    const end = { by: "failure", message } as const;
    await this.host.call("record.conclude", { run: this.run_, end, recordS: 0 }, {
      timeoutMs: SEAL_MS,
    }).catch(() => {}); // an agent that is lost now ends it by itself
    throw new ClusterrrError(message);
  }

  async arm(): Promise<void> {
    await this.host.call("record.arm", { run: this.run_ });
  }

  async run(): Promise<void> {
    await this.host.call("record.run", { run: this.run_ });
  }

  /** Asks for the host's state from now on, wherever no tick has just brought it. */
  watch(): void {
    void (async () => {
      while (await sleepUnless(POLL_MS, this.#closed.signal)) {
        if (this.#isLost) return;
        if (performance.now() - this.#heardAt < POLL_MS) continue;
        await this.look().catch(() => {}); // a host that is lost is heard of by other means
      }
    })();
  }

  async look(): Promise<RecordStatus> {
    await this.host.whenConnected();
    const { instance } = this.host.hello!;
    const status = await this.host.call("record.status", { run: this.run_ });
    this.#instance ??= instance;
    this.#hear(status);
    return status;
  }

  async tick(epoch: number): Promise<void> {
    await this.#unlessLost(async () => {
      this.#hear(await this.host.call("record.tick", { run: this.run_, epoch }));
    });
  }

  async quiesce(): Promise<void> {
    await this.#unlessLost(() => this.host.call("record.quiesce", { run: this.run_ }));
  }

  async seal(): Promise<void> {
    const options = { timeoutMs: SEAL_MS };
    await this.#unlessLost(() => this.host.call("record.seal", { run: this.run_ }, options));
  }

  async abort(): Promise<void> {
    await this.#unlessLost(() => this.host.call("record.abort", { run: this.run_ }));
  }

  /** @returns what the host has of the recording; `undefined` where it is lost */
  async conclude(end: RecordingEnd, recordS: number): Promise<RecordedPart | undefined> {
    const message = end.by === "failure" ? { message: end.error.message } : {};
    let part: RecordedPart | undefined;
    await this.#unlessLost(async () => {
      part = await this.host.call(
        "record.conclude",
        { run: this.run_, end: { by: end.by, ...message }, recordS },
        { timeoutMs: SEAL_MS },
      );
    });
    return part;
  }

  async crashed(): Promise<ClusterrrError> {
    return await this.#crash.promise;
  }

  close(): void {
    this.#closed.abort();
    for (const stop of this.#stopListening) stop();
  }

  #hear(status: RecordStatus): void {
    this.status = status;
    this.#heardAt = performance.now();
    const { finished, failure, crash } = status;
    if (failure !== undefined) {
      this.#finish.reject(
        new ClusterrrError(`Recording failed on host ${this.host.name}: ${failure}`),
      );
    }
    if (crash !== undefined) this.#crash.resolve(new ClusterrrError(crash));
    if (finished) this.#finish.resolve();
    if (status.phase === "concluded" && !this.#closed.signal.aborted) {
      this.#crash.resolve(
        new ClusterrrError(`Host ${this.host.name} ended its part of the recording by itself.`),
      );
    }
  }

  #lose(how: string): void {
    if (this.#isLost) return;
    this.#isLost = true;
    const names = this.status?.vms.map(({ name }) => name).join(", ") ?? "";
    this.#crash.resolve(
      new ClusterrrError(
        `Host ${this.host.name} ${how}${names ? `, with the VMs ${names}` : ""}.\n` +
          "The other hosts have stopped and keep what they recorded; what the lost one recorded is in " +
          "its own state directory, and counts again when it is back.",
      ),
    );
  }

  /** A host that is lost has nothing to do. */
  async #unlessLost(work: () => Promise<unknown>): Promise<void> {
    if (this.#isLost) return;
    try {
      await work();
    } catch (error) {
      if (this.#isLost) return; // the agent that answered is another one
      if (!(error instanceof HostLostError)) throw error;
      this.#lose("was lost while recording");
    }
  }
}
