/** One host's part of a replay without VMs: the states of `operations/agent/agent_replay.ts`. */
import { ClusterrrError } from "../errors.ts";
import type { ReplayPlan, ReplayResult, ReplayStatus } from "../protocol/control.ts";
import { sleep } from "../sleep.ts";
import { vmNameOf } from "./simulated_recording_fixture.ts";

/** What a simulated host does at replay. */
export interface ReplayConduct {
  readonly prepareMs: number;
  readonly replayMs: number;
  readonly ends: "well" | "failed" | "diverged" | "never";
  /** How long it takes to begin an epoch while recording. */
  readonly tickMs: number;
}

export class SimulatedReplay {
  phase: ReplayStatus["phase"] = "preparing";
  isStopped = false;
  #preparing: Promise<void> | undefined;
  #startedAt: number | undefined;

  constructor(
    readonly plan: ReplayPlan,
    readonly host: string,
    private readonly conduct: ReplayConduct,
    private readonly onDiverged: () => void = () => {},
  ) {}

  prepare(): Promise<void> {
    return this.#preparing ??= sleep(this.conduct.prepareMs).then(() => {
      this.phase = "prepared";
    });
  }

  // deno-lint-ignore require-await -- a step is asynchronous
  async start(): Promise<void> {
    if (this.phase === "preparing") throw new ClusterrrError("The replay is not prepared.");
    this.#startedAt ??= performance.now();
    this.phase = "running";
  }

  stop(): void {
    this.isStopped = true;
  }

  status(): ReplayStatus {
    const { ends, replayMs } = this.conduct;
    const isOver = ends !== "never" && this.#startedAt !== undefined &&
      performance.now() - this.#startedAt >= replayMs;
    if (isOver) this.phase = "ended";
    if (isOver && ends === "diverged") this.onDiverged();
    return {
      phase: this.phase,
      doing: this.phase,
      vms: [],
      links: [],
      failedElsewhere: false,
      ...(isOver && ends === "failed" ? { failure: "its log is damaged" } : {}),
      ...(isOver && ends !== "failed" ? { result: this.#result() } : {}),
    };
  }

  #result(): ReplayResult {
    const vms = this.plan.placement.find(({ host }) => host === this.host)?.vms ?? [];
    return {
      vms: vms.map((number) => ({
        number,
        name: vmNameOf(number),
        framesRecorded: 10,
        framesMatched: 10,
        instructions: 1_000,
        consoleEqual: true,
        replayS: 1,
        endedBy: "end of log",
        checks: [],
      })),
      replayS: 1,
      recordS: 1,
      queueBytesMax: 0,
      links: [],
      ...(this.conduct.ends !== "diverged" ? {} : {
        divergence: {
          vm: vmNameOf(vms[0] ?? 0),
          instructionCount: "12",
          sendNumber: null,
          what: "another frame",
          expected: "a",
          actual: "b",
          likelyCause: "none",
        },
      }),
    };
  }
}
