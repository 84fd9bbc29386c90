/** One host's part of a recording without VMs: the states of `operations/agent/agent_recording.ts`, and what holds in each. */
import { ClusterrrError } from "../errors.ts";
import type { RecordedPart, RecordPlan, RecordStatus } from "../protocol/control.ts";
import type { ManifestVm } from "../recording/manifest.ts";
import { sleep } from "../sleep.ts";

export const RECORDING_STEPS = [
  "prepare",
  "arm",
  "run",
  "quiesce",
  "seal",
  "abort",
  "conclude",
] as const;
export type RecordingStep = (typeof RECORDING_STEPS)[number];

/** What a simulated host does otherwise than well. */
export interface RecordingConduct {
  /** How long a step takes. */
  stepMs(step: RecordingStep): number;
  /** Steps that fail. */
  readonly fails: ReadonlySet<RecordingStep>;
  /** Its VMs power off so long after they began to run. */
  readonly powersOffAfterMs: number;
  /** Recording fails so long after the VMs began to run. */
  readonly breaksAfterMs: number;
}

/** Hears of each step when it is taken, and throws where it may not be. */
export type StepWitness = (step: RecordingStep | "tick", part: SimulatedRecording) => void;

export class SimulatedRecording {
  readonly #taken = new Map<string, Promise<unknown>>();
  phase: RecordStatus["phase"] = "preparing";
  epoch = 0;
  /** Every time at which a new epoch began here. */
  ranAt: number | undefined;
  isAborted = false;
  #doing = "preparing";

  constructor(
    readonly plan: RecordPlan,
    readonly host: string,
    private readonly conduct: RecordingConduct,
    private readonly witness: StepWitness,
  ) {}

  get vms(): readonly number[] {
    return this.plan.placement.find(({ host }) => host === this.host)?.vms ?? [];
  }

  /** Whether VMs of it are there and not stopped. */
  get isRunning(): boolean {
    return this.phase === "running" && !this.finished && !this.isAborted;
  }

  /** It has something that a recording's entry should know of. */
  get hasRecorded(): boolean {
    return this.ranAt !== undefined && !this.conduct.fails.has("conclude");
  }

  get finished(): boolean {
    return this.ranAt !== undefined &&
      (performance.now() - this.ranAt >= this.conduct.powersOffAfterMs || this.isAborted);
  }

  #once<T>(step: RecordingStep, work: () => Promise<T> | T): Promise<T> {
    const taken = this.#taken.get(step) as Promise<T> | undefined;
    if (taken !== undefined) return taken;
    const taking = (async () => {
      if (step !== "conclude" && step !== "abort" && this.#taken.has("conclude")) {
        throw new ClusterrrError(`Host ${this.host} has ended its part already.`);
      }
      this.witness(step, this);
      await sleep(this.conduct.stepMs(step));
      const fails = this.conduct.fails.has(step);
      if (fails && step === "conclude") this.#enter("concluded"); // whatever it cannot write, the VMs go
      if (fails) throw new ClusterrrError(`${step} failed`);
      return await work();
    })();
    taking.catch(() => {});
    this.#taken.set(step, taking);
    return taking;
  }

  #enter(phase: RecordStatus["phase"]): void {
    if (this.phase !== "concluded") this.phase = phase;
    this.#doing = phase;
  }

  prepare = () => this.#once("prepare", () => this.#enter("prepared"));
  arm = () => this.#once("arm", () => this.#enter("armed"));
  run = () =>
    this.#once("run", () => {
      if (this.isAborted) throw new ClusterrrError("aborted meanwhile");
      this.ranAt = performance.now();
      this.#enter("running");
    });
  quiesce = () => this.#once("quiesce", () => this.#enter("quiet"));
  seal = () => this.#once("seal", () => this.#enter("sealed"));
  abort = () =>
    this.#once("abort", async () => {
      this.isAborted = true;
      await this.prepare().catch(() => {});
    });
  conclude = (): Promise<RecordedPart> =>
    this.#once("conclude", async () => {
      await this.prepare().catch(() => {});
      this.#enter("concluded");
      const begun = this.ranAt !== undefined;
      return { vms: begun ? this.vms.map(recordedVm) : [], complete: !this.isAborted };
    });

  tick(epoch: number): RecordStatus {
    if (this.phase === "running" && epoch > this.epoch) {
      this.witness("tick", this);
      this.epoch = epoch;
    }
    return this.status();
  }

  async endAlone(): Promise<void> {
    if (this.phase === "concluded") return;
    try {
      if (!this.#taken.has("run")) await this.abort();
      else {
        await this.quiesce();
        await this.seal();
      }
    } catch {
      await this.abort().catch(() => {});
    }
    await this.conclude().catch(() => {});
  }

  status(): RecordStatus {
    const isBroken = this.ranAt !== undefined &&
      performance.now() - this.ranAt >= this.conduct.breaksAfterMs;
    return {
      phase: this.phase,
      doing: this.#doing,
      epoch: this.epoch,
      finished: this.finished,
      ...(isBroken ? { failure: "its disk is full" } : {}),
      vms: this.ranAt === undefined ? [] : this.vms.map((number) => ({
        number,
        name: vmNameOf(number),
        icount: 1,
        rrLogBytes: 1,
        storedBytes: 1,
        framesSent: 0,
        framesInternal: 0,
        framesExternal: 0,
        framesUnmatched: 0,
        checks: 0,
        ended: "no",
      })),
    };
  }
}

export function vmNameOf(number: number): string {
  return `vm${number}`;
}

/** A VM as a manifest has it. */
export function recordedVm(number: number): ManifestVm {
  const sha256 = "5a".repeat(32);
  return {
    number,
    name: vmNameOf(number),
    qemu: {
      path: "/usr/bin/qemu-system-x86_64",
      version: "7.2.22",
      sha256,
      rrLogVersion: 0xe0200c,
    },
    images: [{ role: "kernel", path: "/boot/vmlinuz", sha256, bytes: 7_000_000 }],
    commandLine: ["-machine", "q35", "-icount", "shift=1,rr=record"],
    console: `vms/${vmNameOf(number)}/console.log`,
    logComplete: true,
    logClosed: true,
    end: { icount: 123_456_789_012, reason: "guest powered off" },
    totals: {
      rrLogBytes: 1_234_567_890,
      hybridBytes: 234_567_890,
      storedBytes: 34_567_890,
      framesInternal: 4_567_890,
      framesExternal: 567_890,
      framesUnmatched: 7_890,
      framesSent: 5_678_901,
      checks: 890,
      epochs: 14_400,
    },
  };
}
