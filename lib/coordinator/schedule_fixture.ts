/** A random schedule: what is recorded and replayed, and all that goes wrong meanwhile. The seed says it all. */
import { newRunId } from "../protocol/run_id.ts";
import { sleep } from "../sleep.ts";
import { RECORDING_STEPS } from "./simulated_recording_fixture.ts";
import { LOST_AFTER_MS, SimulatedWorld, type WorldOptions } from "./simulated_world_fixture.ts";

/** From the last fault on, everything can be reached; by then everything has ended. */
const SETTLING_MS = 150_000;

/** How often what happened: a simulation in which nothing goes wrong tests nothing. */
export type Tally = Map<string, number>;

/** @returns what does not hold at the end */
export async function runSchedule(
  seed: number,
  tally: Tally,
  options: WorldOptions = {},
): Promise<string[]> {
  return await SimulatedWorld.run({ ...options, seed }, async (world) => {
    const schedule = new Schedule(world, tally);
    await schedule.run();
    return await world.check();
  });
}

class Schedule {
  readonly #hosts: string[];
  readonly #happening = new Set<Promise<void>>();

  constructor(private readonly world: SimulatedWorld, private readonly tally: Tally) {
    this.#hosts = ["left", "mid", "right", "spare"].slice(0, 1 + this.#below(4));
  }

  #below(n: number): number {
    return Math.floor(this.world.random() * n);
  }

  #pick<T>(values: readonly T[]): T {
    return values[this.#below(values.length)]!;
  }

  #between(from: number, to: number): number {
    return from + this.world.random() * (to - from);
  }

  #count(what: string): void {
    this.tally.set(what, (this.tally.get(what) ?? 0) + 1);
  }

  async run(): Promise<void> {
    const { world } = this;
    await world.startCoordinator();
    await world.startAgents(...this.#hosts);
    this.#prepareConduct();
    const recordings = 1 + this.#below(2);
    for (let i = 0; i < recordings; i++) await this.#record();
    const faults = this.#below(5);
    for (let i = 0; i < faults; i++) {
      const happening = this.#fault().finally(() => this.#happening.delete(happening));
      this.#happening.add(happening);
    }
    await sleep(12_000);
    if (this.#below(2) === 0) await this.#replay();
    await sleep(8_000);
    await Promise.all(this.#happening);
    await world.startCoordinator();
    world.isolated.clear();
    for (const run of await world.store.runs()) {
      if (!run.ended) await world.operator.call("runs.stop", { run: run.run }).catch(() => {});
    }
    await sleep(SETTLING_MS);
    for (const run of await world.store.runs()) {
      const end = run.kind === "record"
        ? run.end?.by ?? "given up"
        : run.failure ?? (world.diverged.has(run.run) ? "diverged" : "ended");
      this.#count(`${run.kind} ${end.split(/[:.]/)[0]}`.slice(0, 40));
    }
  }

  #prepareConduct(): void {
    for (const host of this.#hosts) {
      if (this.#below(8) === 0) {
        this.world.recordingConducts.set(host, { fails: new Set([this.#pick(RECORDING_STEPS)]) });
        this.#count("a step fails");
      } else if (this.#below(10) === 0) {
        this.world.recordingConducts.set(host, { breaksAfterMs: this.#between(0, 5_000) });
        this.#count("recording breaks");
      } else if (this.#below(4) === 0) {
        this.world.recordingConducts.set(host, { powersOffAfterMs: this.#between(0, 6_000) });
      }
      this.world.replayConducts.set(host, {
        prepareMs: this.#between(0, 4_000),
        replayMs: this.#between(100, 6_000),
        ends: this.#pick(["well", "well", "well", "failed", "diverged", "never"]),
        tickMs: this.#below(4) === 0 ? this.#between(0, 700) : 0,
      });
    }
  }

  async #record(): Promise<void> {
    const hosts = this.#hosts.filter(() => this.#below(4) > 0);
    if (hosts.length === 0) hosts.push(this.#hosts[0]!);
    let vm = 0;
    const placement = Object.fromEntries(
      hosts.map((host) => [host, Array.from({ length: 1 + this.#below(2) }, () => ++vm)]),
    );
    const forMs = this.#below(4) === 0 ? undefined : this.#between(0, 8_000);
    const options = {
      epochMs: this.#pick([0, 100, 250]),
      ...(forMs === undefined ? {} : { forMs }),
    };
    await this.world.record(placement, options).catch(() => {}); // a host is away just now
  }

  async #replay(): Promise<void> {
    const run = newRunId();
    const params = { run, recording: "a recording", checks: false, placement: [] };
    try {
      await this.world.operator.call("runs.replay", params);
      this.#count("replay");
      for (let i = this.#below(3); i > 0; i--) await this.#fault();
    } catch {
      // There is no recording, or no host.
    }
  }

  async #fault(): Promise<void> {
    const { world } = this;
    // In the first second much happens between two messages.
    await sleep(this.#below(2) === 0 ? this.#between(0, 1_000) : this.#between(0, 8_000));
    const host = this.#pick(this.#hosts);
    const kind = this.#pick(["break", "hang", "isolate", "kill", "kill", "restart", "stop"]);
    this.#count(kind);
    if (kind === "break") world.wireOf(host)?.break();
    else if (kind === "hang") {
      const ms = this.#between(100, 25_000);
      if (ms > LOST_AFTER_MS / 2) world.troubled.add(host);
      world.wireOf(host)?.hang(ms);
    } else if (kind === "isolate") {
      const ms = this.#between(100, 30_000);
      if (ms > LOST_AFTER_MS / 2) world.troubled.add(host);
      world.isolated.add(host);
      world.wireOf(host)?.break();
      await sleep(ms);
      world.isolated.delete(host);
    } else if (kind === "kill") {
      const ms = this.#between(0, 15_000);
      if (ms > LOST_AFTER_MS / 2) { for (const each of this.#hosts) world.troubled.add(each); }
      world.killCoordinator();
      await sleep(ms);
      await world.startCoordinator();
    } else if (kind === "restart") world.restartAgent(host);
    else {
      for (const { run } of await world.store.runs()) {
        await Promise.resolve().then(() => world.operator.call("runs.stop", { run })).catch(
          () => {},
        );
      }
    }
  }
}
