/** The coordinator with agents that do what they are told and write down in which order. */
import assert from "node:assert/strict";
import { ClusterrrError, HostError } from "../errors.ts";
import type { VmEnd } from "./ports.ts";
import { crashOf } from "./recording_agent.ts";
import { coordinateRecording, type RecordingAgentPort } from "./recording_coordinator.ts";

type Phase = "arm" | "run" | "quiesce" | "seal" | "abort";

/** An agent; `during` is called at the start of each of its phases and may throw or wait. */
class FakeAgent implements RecordingAgentPort {
  readonly #finished = Promise.withResolvers<void>();
  readonly #crashed = Promise.withResolvers<ClusterrrError>();

  constructor(
    private readonly name: string,
    private readonly journal: string[],
    private readonly during: (phase: Phase) => Promise<void> | void = () => {},
  ) {}

  arm(): void {
    this.journal.push(`${this.name} arm`);
    const late = this.during("arm");
    assert.equal(late, undefined, "arming is synchronous");
  }
  run = () => this.#phase("run");
  readonly ticks: number[] = [];
  tick(epoch: number): void {
    this.ticks.push(epoch);
  }
  quiesce = () => this.#phase("quiesce");
  seal = () => this.#phase("seal");
  abort = () => this.#phase("abort");
  get finished(): Promise<void> {
    return this.#finished.promise;
  }
  crashed = () => this.#crashed.promise;

  async #phase(phase: Phase): Promise<void> {
    this.journal.push(`${this.name} ${phase}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
    await this.during(phase);
    this.journal.push(`${this.name} ${phase} done`);
  }

  finish(error?: Error): void {
    if (error === undefined) this.#finished.resolve();
    else this.#finished.reject(error);
  }
  crash(end: Partial<VmEnd>): void {
    this.#crashed.resolve(crashOf(this.name, { code: 1, signal: null, stderr: "", ...end }));
  }
}

/** Agents a and b; what a phase of theirs does is decided by `during`. */
function twoAgents(during: (agent: FakeAgent, phase: Phase) => Promise<void> | void = () => {}) {
  const journal: string[] = [];
  const agents: FakeAgent[] = ["a", "b"].map((name): FakeAgent =>
    new FakeAgent(name, journal, (phase) => during(agents[name === "a" ? 0 : 1]!, phase))
  );
  return { journal, agents, a: agents[0]!, b: agents[1]! };
}

/** Every agent is through with `first` before any begins `second`. */
function assertPhases(journal: readonly string[], first: string, second: string): void {
  const ends = ["a", "b"].map((name) => journal.indexOf(`${name} ${first}`));
  const begins = ["a", "b"].map((name) => journal.indexOf(`${name} ${second}`));
  assert.ok(Math.min(...ends, ...begins) >= 0, `${first}, ${second} in ${journal}`);
  assert.ok(Math.max(...ends) < Math.min(...begins), `${first} before ${second}: ${journal}`);
}

const lasting = (durationMs: number | undefined) => ({ durationMs, epochMs: 0 });
const UNTIL_POWEROFF = lasting(undefined);
const never = new AbortController().signal;

Deno.test("coordinator: all are armed before any runs, and sealed once all have powered off", async () => {
  const { journal, agents } = twoAgents((agent, phase) => {
    if (phase === "run") agent.finish();
  });
  assert.deepEqual(await coordinateRecording(agents, UNTIL_POWEROFF, never), { by: "poweroff" });
  assertPhases(journal, "arm", "run");
  assertPhases(journal, "run done", "seal");
  assert.equal(journal.filter((line) => line.endsWith("seal done")).length, 2);
  assert.doesNotMatch(journal.join(), /quiesce|abort/);
});

Deno.test("coordinator: one VM's poweroff does not end the recording, the duration does", async () => {
  const { journal, agents } = twoAgents((agent, phase) => {
    if (phase === "run" && agent === agents[0]) agent.finish();
  });
  assert.deepEqual(await coordinateRecording(agents, lasting(20), never), { by: "duration" });
  assertPhases(journal, "run done", "quiesce");
  assertPhases(journal, "quiesce done", "seal");
  assert.doesNotMatch(journal.join(), /abort/);
});

Deno.test("coordinator: an interrupt at any phase ends a complete recording in order", async () => {
  for (const at of ["before", "arm", "run", "running", "quiesce", "seal"] as const) {
    const interrupt = new AbortController();
    const { journal, agents } = twoAgents((_agent, phase) => {
      if (phase === at) interrupt.abort();
    });
    if (at === "before") interrupt.abort();
    if (at === "running") setTimeout(() => interrupt.abort(), 10);
    const stopsItself = at === "quiesce" || at === "seal";
    const end = await coordinateRecording(
      agents,
      lasting(stopsItself ? 5 : undefined),
      interrupt.signal,
    );
    assert.deepEqual(end, { by: stopsItself ? "duration" : "interrupt" }, at);
    assertPhases(journal, "arm", "run");
    assertPhases(journal, "run done", "quiesce");
    assertPhases(journal, "quiesce done", "seal");
    assert.equal(journal.filter((line) => line.endsWith("seal done")).length, 2, at);
  }
});

Deno.test("coordinator: a VM that crashes stops the others, and the report names it", async () => {
  const cases: [Partial<VmEnd>, RegExp][] = [
    [{ code: 1, stderr: "out of memory\n" }, /^QEMU of VM b ended with status 1: out of memory\n/],
    [{ code: null, signal: "SIGKILL" }, /^QEMU of VM b was ended by SIGKILL\nThe other VMs/],
  ];
  for (const [how, message] of cases) {
    const { journal, agents, b } = twoAgents();
    setTimeout(() => b.crash(how), 5);
    const end = await coordinateRecording(agents, UNTIL_POWEROFF, never);
    assert.ok(end.by === "failure");
    assert.match(end.error.message, message);
    assertPhases(journal, "quiesce done", "seal");
    assert.doesNotMatch(journal.join(), /abort/);
  }
});

Deno.test("coordinator: a crash of the last VM is no poweroff, though its log ends first", async () => {
  const { agents, a, b } = twoAgents((agent, phase) => {
    if (phase === "run") agent.finish();
    if (phase === "seal" && agent === b) b.crash({ signal: "SIGSEGV", code: null });
  });
  assert.equal(a, agents[0]);
  const end = await coordinateRecording(agents, UNTIL_POWEROFF, never);
  assert.ok(end.by === "failure");
  assert.match(end.error.message, /VM b was ended by SIGSEGV/);
});

Deno.test("coordinator: an agent that fails in any phase aborts all, and is reported", async () => {
  for (const at of ["arm", "run", "finished", "quiesce", "seal"] as const) {
    const failure = new HostError("write", 28, "disk full");
    const { journal, agents, b } = twoAgents((agent, phase) => {
      if (agent === b && phase === at) throw failure;
    });
    if (at === "finished") setTimeout(() => b.finish(failure), 5);
    const end = await coordinateRecording(
      agents,
      lasting(at === "finished" ? undefined : 5),
      never,
    );
    assert.ok(end.by === "failure", at);
    assert.equal(end.error, failure);
    for (const name of ["a", "b"]) {
      assert.equal(journal.filter((line) => line === `${name} abort done`).length, 1, at);
    }
    if (at === "arm") assert.ok(!journal.includes("a run"), "nothing runs that is not recorded");
    if (at === "quiesce") assert.ok(!journal.includes("a seal"));
  }
});

Deno.test("coordinator: what failed first is reported, also where aborting fails too", async () => {
  const { agents, b } = twoAgents((agent, phase) => {
    if (agent === b && phase === "run") throw new TypeError("a bug");
    if (phase === "abort") throw new Error("cannot abort");
  });
  const end = await coordinateRecording(agents, UNTIL_POWEROFF, never);
  assert.ok(end.by === "failure" && end.error instanceof ClusterrrError);
  assert.equal(end.error.message, "Recording failed: a bug");
  assert.ok(end.error.cause instanceof TypeError);
});

Deno.test("coordinator: an interrupt that comes afterwards finds no listener", async () => {
  let listeners = 0;
  const interrupt = new AbortController();
  const { signal } = interrupt;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => (listeners++, add(...args));
  signal.removeEventListener = (...args: Parameters<typeof add>) => (listeners--, remove(...args));
  const { agents } = twoAgents();
  await coordinateRecording(agents, lasting(5), signal);
  assert.equal(listeners, 0);
});

Deno.test("coordinator: all agents hear of every epoch while the VMs run, and of none afterwards", async () => {
  const { agents, a, b } = twoAgents();
  const schedule = { durationMs: 600, epochMs: 10 };
  assert.deepEqual(await coordinateRecording(agents, schedule, never), { by: "duration" });
  const heard = a.ticks.length;
  assert.ok(heard >= 2, `${heard} epochs in 600 ms`);
  assert.deepEqual(a.ticks, b.ticks);
  assert.ok(a.ticks.every((epoch, i) => epoch > (a.ticks[i - 1] ?? 0)), `${a.ticks} rise`);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(a.ticks.length, heard);
});

Deno.test("coordinator: no epoch begins before every agent has begun the one before", async () => {
  const { agents, a, b } = twoAgents();
  const journal: string[] = [];
  for (const [agent, ms] of [[a, 1], [b, 15]] as const) {
    agent.tick = async (epoch) => {
      journal.push(`begin ${epoch}`);
      await new Promise((resolve) => setTimeout(resolve, ms));
      journal.push(`done ${epoch}`);
    };
  }
  await coordinateRecording(agents, { durationMs: 1000, epochMs: 5 }, never);
  const epochs = [...new Set(journal.map((line) => Number(line.split(" ")[1])))];
  assert.ok(epochs.length >= 3, journal.join());
  for (const [i, epoch] of epochs.slice(1).entries()) {
    const before = epochs[i]!;
    assert.ok(journal.lastIndexOf(`done ${before}`) < journal.indexOf(`begin ${epoch}`));
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
});

Deno.test("coordinator: one that takes over ticks on and keeps to the time that is left", async () => {
  const { journal, agents, a } = twoAgents();
  const running = { elapsedMs: 1000, epoch: 70 };
  const startedAt = performance.now();
  const end = await coordinateRecording(
    agents,
    { durationMs: 1060, epochMs: 10, running },
    never,
  );
  assert.deepEqual(end, { by: "duration" });
  assert.ok(performance.now() - startedAt < 900);
  assert.doesNotMatch(journal.join(), /arm|run/);
  assert.equal(
    a.ticks[0],
    70,
    "an agent that the one before did not reach any more begins it first",
  );
  assert.ok(a.ticks[1]! >= 100, `the epochs that were missed are left out: ${a.ticks}`);
});
