/**
 * An agent without VMs, TLS or files: what `operations/agent/agent.ts` does with the coordinator's calls, in virtual time.
 *
 * ```
 * away ──connect──▶ hello ──▶ connected ──breaks, or no heartbeat is answered──▶ away ──lostAfterMs──▶ ends its recordings
 * ```
 */
import { ClusterrrError } from "../errors.ts";
import type { Channel } from "../protocol/channel.ts";
import {
  AGENT_METHODS,
  AGENT_REPORTS,
  CONTROL_VERSION,
  type ReplayPlan,
} from "../protocol/control.ts";
import { type Handlers, type Rpc, startRpc } from "../protocol/rpc.ts";
import { sleep, sleepUnless } from "../sleep.ts";
import {
  type RecordingConduct,
  SimulatedRecording,
  type StepWitness,
} from "./simulated_recording_fixture.ts";
import { type ReplayConduct, SimulatedReplay } from "./simulated_replay_fixture.ts";

export interface AgentWorld {
  /** Replays of which a host has told that they diverge. */
  readonly diverged: Set<string>;
  /** @throws where the coordinator cannot be reached */
  connect(agent: SimulatedAgent): Promise<Channel>;
  readonly witness: StepWitness;
  recordingConduct(host: string): RecordingConduct;
  replayConduct(host: string): ReplayConduct;
  readonly lostAfterMs: number;
  /** Leaves runs out of its hello: a broken agent. */
  readonly forgetsRuns?: boolean;
}

let instances = 0;

export class SimulatedAgent {
  readonly instance = (++instances).toString(16).padStart(16, "0");
  readonly recordings = new Map<string, SimulatedRecording>();
  readonly replays = new Map<string, SimulatedReplay>();
  removed: string[] = [];
  revoked: readonly string[] = [];
  /** What the coordinator said to its last hello that failed. */
  refusal: string | undefined;
  protocol: number = CONTROL_VERSION;
  readonly #stop = new AbortController();
  #rpc: Rpc<typeof AGENT_REPORTS> | undefined;
  readonly loop: Promise<void>;

  constructor(
    readonly name: string,
    private readonly world: AgentWorld,
    /** Replays of an agent before it that was killed. */
    private readonly left: readonly string[] = [],
  ) {
    this.loop = this.#keepLink();
  }

  /** It and its VMs are gone at once. */
  kill(): void {
    this.#stop.abort();
    this.#rpc?.close();
  }

  get rpc(): Rpc<typeof AGENT_REPORTS> | undefined {
    return this.#rpc;
  }

  async #keepLink(): Promise<void> {
    const { signal } = this.#stop;
    let away: ReturnType<typeof setTimeout> | undefined;
    while (!signal.aborted) {
      try {
        const channel = await this.world.connect(this);
        const rpc = startRpc(channel, {
          serves: AGENT_METHODS,
          handlers: this.#handlers,
          calls: AGENT_REPORTS,
        });
        this.#rpc = rpc;
        try {
          const answer = await rpc.call("hello", this.#hello());
          this.revoked = answer.revoked;
          clearTimeout(away);
          away = undefined;
          const ended = new AbortController();
          void rpc.closed.then(() => ended.abort());
          while (await sleepUnless(answer.heartbeatMs, ended.signal)) {
            await rpc.call("heartbeat", {}, { timeoutMs: answer.lostAfterMs });
          }
        } finally {
          rpc.close();
          await rpc.closed;
        }
      } catch (error) {
        this.refusal = error instanceof Error ? error.message : String(error);
      }
      away ??= setTimeout(() => {
        if (signal.aborted) return;
        for (const recording of this.recordings.values()) void recording.endAlone();
      }, this.world.lostAfterMs);
      await sleepUnless(300, signal);
    }
    clearTimeout(away);
  }

  #hello() {
    const runs = [
      ...[...this.recordings].map(([run, { phase }]) => ({ run, kind: "record" as const, phase })),
      ...[...this.replays].map(([run, { phase }]) => ({ run, kind: "replay" as const, phase })),
      ...this.left.filter((run) => !this.replays.has(run))
        .map((run) => ({ run, kind: "replay" as const, phase: "left" })),
    ];
    return {
      protocol: this.protocol,
      toolVersion: "0.0.0",
      instance: this.instance,
      link: { host: "10.0.0.1", port: 7000 },
      host: { kernel: "6.1", cpu: "any", cores: 8, memoryMiB: 16_384 },
      qemu: null,
      runs: this.world.forgetsRuns ? [] : runs,
    };
  }

  #recording(run: string): SimulatedRecording {
    const recording = this.recordings.get(run);
    if (recording !== undefined) return recording;
    throw new ClusterrrError(`Host ${this.name} has no recording ${run} under way.`);
  }

  #replay(run: string): SimulatedReplay {
    const replay = this.replays.get(run);
    if (replay !== undefined) return replay;
    throw new ClusterrrError(`Host ${this.name} has no replay ${run} under way.`);
  }

  readonly #handlers: Handlers<typeof AGENT_METHODS> = {
    "record.prepare": async (plan) => {
      let recording = this.recordings.get(plan.run);
      if (recording === undefined) {
        const conduct = this.world.recordingConduct(this.name);
        recording = new SimulatedRecording(plan, this.name, conduct, this.world.witness);
        this.recordings.set(plan.run, recording);
      }
      await recording.prepare();
      return {};
    },
    "record.arm": async ({ run }) => (await this.#recording(run).arm(), {}),
    "record.run": async ({ run }) => (await this.#recording(run).run(), {}),
    "record.tick": async ({ run, epoch }) => {
      const { tickMs } = this.world.replayConduct(this.name);
      if (tickMs > 0) await sleep(tickMs);
      return this.#recording(run).tick(epoch);
    },
    "record.status": ({ run }) => this.#recording(run).status(),
    "record.quiesce": async ({ run }) => (await this.#recording(run).quiesce(), {}),
    "record.seal": async ({ run }) => (await this.#recording(run).seal(), {}),
    "record.abort": async ({ run }) => (await this.#recording(run).abort(), {}),
    "record.conclude": ({ run }) => this.#recording(run).conclude(),
    "replay.prepare": async (plan: ReplayPlan) => {
      let replay = this.replays.get(plan.run);
      if (replay === undefined) {
        replay = new SimulatedReplay(plan, this.name, this.world.replayConduct(this.name), () => {
          this.world.diverged.add(plan.run);
        });
        this.replays.set(plan.run, replay);
      }
      await replay.prepare();
      return {};
    },
    "replay.start": async ({ run }) => (await this.#replay(run).start(), {}),
    "replay.status": ({ run }) => this.#replay(run).status(),
    "replay.stop": ({ run }) => {
      this.replays.get(run)?.stop();
      this.replays.delete(run);
      return {};
    },
    "recordings.remove": ({ recording }) => {
      this.removed.push(recording);
      return {};
    },
    "revoked": ({ serials }) => {
      this.revoked = serials;
      return {};
    },
  };
}
