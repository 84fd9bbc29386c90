/** The state checker with a VM that stops where it is told to. */
import assert from "node:assert/strict";
import type { CheckPoint } from "../recording/hybrid_log.ts";
import type { MachineState, ReplayedVm } from "./ports.ts";
import { StateChecker } from "./state_checker.ts";

const check = (icount: number): CheckPoint => ({
  icount,
  inside: true,
  registers: `RAX=${icount}\nRIP=1\n`,
  ramSha256: `ram ${icount}`,
  ramBytes: 4096,
  wallMs: 0,
});

/** A VM with an end; `change` makes its states differ from the recorded ones. */
class FakeVm {
  readonly journal: string[] = [];
  #icount = 0;
  #breakAt = Infinity;

  constructor(
    private readonly endsAt: number,
    private readonly change: (state: MachineState) => Partial<MachineState> = () => ({}),
  ) {}

  /** As the port that the checker drives; it needs no more than this. */
  get port(): ReplayedVm {
    return this as unknown as ReplayedVm;
  }

  breakAt(icount: number): Promise<void> {
    assert.ok(icount > this.#icount, "a break behind the VM is never reached");
    this.journal.push(`break ${icount}`);
    this.#breakAt = icount;
    return Promise.resolve();
  }
  stopped(): Promise<boolean> {
    if (this.#breakAt > this.endsAt) return Promise.resolve(false);
    this.#icount = this.#breakAt;
    return Promise.resolve(true);
  }
  state(): Promise<MachineState> {
    const { registers, ramSha256, ramBytes } = check(this.#icount);
    const ram = Promise.resolve({ sha256: ramSha256, bytes: ramBytes });
    const state: MachineState = { icount: this.#icount, registers, idle: false, ram };
    this.journal.push(`state ${this.#icount}`);
    return Promise.resolve({ ...state, ...this.change(state) });
  }
  resume(): Promise<void> {
    this.journal.push("resume");
    return Promise.resolve();
  }
}

async function checked(vm: FakeVm, checks: CheckPoint[]) {
  let touched = 0;
  const checker = new StateChecker(vm.port, checks, () => touched++);
  await checker.arm();
  assert.equal(await checker.run(), false, "nowhere to stay");
  const { results } = checker;
  return { results, touched };
}

Deno.test("every check is stopped at, compared and left again", async () => {
  const vm = new FakeVm(1000);
  const { results, touched } = await checked(vm, [check(10), check(20)]);
  const same = { icount: true, registers: true, ram: true, difference: "" };
  assert.deepEqual(results, [{ at: 10, ...same }, { at: 20, ...same }]);
  assert.deepEqual(vm.journal, [
    "break 10",
    "state 10",
    "break 20",
    "resume",
    "state 20",
    "resume",
  ]);
  assert.ok(touched >= results.length, "a check is no stall");
});

Deno.test("each difference is told apart, and the checks go on", async () => {
  const only = (at: number, change: Partial<MachineState>) => (state: MachineState) =>
    state.icount === at ? change : {};
  const first = async (change: Partial<MachineState>) => {
    const { results } = await checked(new FakeVm(1000, only(10, change)), [check(10), check(20)]);
    assert.equal(results.length, 2);
    assert.ok(results[1]!.icount && results[1]!.registers && results[1]!.ram);
    const { at, ...rest } = results[0]!;
    assert.equal(at, 10);
    return rest;
  };
  const same = { icount: true, registers: true, ram: true, difference: "" };
  assert.deepEqual(await first({ icount: 11 }), { ...same, icount: false });
  const ram = Promise.resolve({ sha256: "another", bytes: 4096 });
  assert.deepEqual(await first({ ram }), { ...same, ram: false });
  assert.deepEqual(await first({ registers: "RAX=10\nRIP=2\n" }), {
    ...same,
    registers: false,
    difference: "- RIP=1\n+ RIP=2",
  });
});

Deno.test("a VM that ends before a check ends the checking", async () => {
  const { results } = await checked(new FakeVm(15), [check(10), check(20), check(30)]);
  assert.deepEqual(results.map(({ at }) => at), [10]);
});

Deno.test("a VM without checks is not stopped", async () => {
  const vm = new FakeVm(1000);
  assert.deepEqual((await checked(vm, [])).results, []);
  assert.deepEqual(vm.journal, []);
});

Deno.test("a VM that is to stop for good is left standing there, behind its checks", async () => {
  for (const checks of [[], [check(10), check(20)]]) {
    const vm = new FakeVm(100);
    const checker = new StateChecker(vm.port, checks, () => {}, 30);
    await checker.arm();
    assert.equal(await checker.run(), true);
    assert.equal(checker.results.length, checks.length);
    const last = checks.length === 0 ? ["break 30"] : ["state 20", "break 30", "resume"];
    assert.deepEqual(vm.journal.slice(-last.length), last);
  }
  const early = new StateChecker(new FakeVm(25).port, [check(10)], () => {}, 30);
  await early.arm();
  assert.equal(await early.run(), false, "it ended before");
});
