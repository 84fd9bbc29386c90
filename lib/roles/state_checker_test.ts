/** The state checker with a VM that stops where it is told to. */
import assert from "node:assert/strict";
import type { CheckPoint } from "../recording/hybrid_log.ts";
import { sleep } from "../sleep.ts";
import type { MachineState, ReplayedVm } from "./ports.ts";
import { afterHalt, StateChecker } from "./state_checker.ts";

const check = (icount: number): CheckPoint => ({
  icount,
  inside: true,
  registers: `RAX=${icount}\nRIP=1\n`,
  ramDigest: `xxh64:${icount}`,
  ramBytes: 4096,
  wallMs: 0,
});

/** A VM with an end; `change` makes its states differ from the recorded ones. */
class FakeVm {
  readonly journal: string[] = [];
  readonly algorithms: (string | undefined)[] = [];
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
  state(algorithm?: string): Promise<MachineState> {
    this.algorithms.push(algorithm);
    const { wallMs: _, inside: __, ...recorded } = check(this.#icount);
    const state: MachineState = { ...recorded, idle: false };
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
  assert.deepEqual(await first({ ramDigest: "xxh64:another" }), { ...same, ram: false });
  assert.deepEqual(await first({ registers: "RAX=10\nRIP=2\n" }), {
    ...same,
    registers: false,
    difference: "- RIP=1\n+ RIP=2",
  });
});

Deno.test("the RAM is digested as the recording has it", async () => {
  const older = { ...check(20), ramDigest: "sha256:20" as const };
  const vm = new FakeVm(1000, ({ icount }) => icount === 20 ? { ramDigest: older.ramDigest } : {});
  const { results } = await checked(vm, [check(10), older]);
  assert.deepEqual(vm.algorithms, ["xxh64", "sha256"]);
  assert.ok(results.every(({ ram }) => ram));
});

Deno.test("a VM that is looked at for long is no stall", async () => {
  const vm = new FakeVm(1000);
  const look = vm.state.bind(vm);
  vm.state = async () => {
    await sleep(2_500);
    return await look();
  };
  let touchedAt = performance.now();
  let longestMs = 0;
  const checker = new StateChecker(vm.port, [check(10)], () => {
    longestMs = Math.max(longestMs, performance.now() - touchedAt);
    touchedAt = performance.now();
  });
  await checker.arm();
  await checker.run();
  assert.ok(longestMs < 2_000, `${longestMs} ms without a sign`);
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

const BEFORE_HALT = "RIP=ffffffff81a17a0a RFL=00000246 [---Z-P-] CPL=0 II=1 A20=1 SMM=0 HLT=0\n";
const AFTER_HALT = "RIP=ffffffff81a17a0b RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\n";

Deno.test("what a HLT does is reckoned", () => {
  assert.equal(afterHalt(BEFORE_HALT), AFTER_HALT);
  assert.equal(afterHalt("EIP=000fffff II=0 HLT=0"), "EIP=00100000 II=0 HLT=1");
  assert.equal(afterHalt(AFTER_HALT), AFTER_HALT, "no HLT follows a HLT");
});

Deno.test("a VM that is to stop for good where it is compared before its HLT stays there", async () => {
  const idle = { ...check(10), registers: AFTER_HALT };
  const vm = new FakeVm(100, () => ({
    registers: BEFORE_HALT,
    ramDigest: "xxh64:10",
  }));
  const checker = new StateChecker(vm.port, [idle], () => {}, 9, undefined, () => true);
  await checker.arm();
  assert.equal(await checker.run(), true);
  assert.deepEqual(vm.journal, ["break 9", "state 9"]);
  assert.ok(checker.results[0]!.registers && checker.results[0]!.ram);
});

Deno.test("an idle VM is stopped before its HLT, a busy one and one that has no such place at the check", async () => {
  const idle = { ...check(10), registers: AFTER_HALT };
  const stops = async (
    isInside: (icount: number) => boolean,
    change: Partial<MachineState> = {},
  ) => {
    const vm = new FakeVm(
      1000,
      (state) =>
        state.icount === 9
          ? {
            registers: BEFORE_HALT,
            ramDigest: "xxh64:10",
            ...change,
          }
          : {},
    );
    const checker = new StateChecker(vm.port, [idle], () => {}, Infinity, undefined, isInside);
    await checker.arm();
    await checker.run();
    return { first: vm.journal[0], result: checker.results[0]! };
  };
  const same = { at: 10, icount: true, registers: true, ram: true, difference: "" };
  assert.deepEqual(await stops(() => true), { first: "break 9", result: same });
  const other = await stops(() => true, { registers: BEFORE_HALT.replace("0a", "0c") });
  assert.equal(other.result.registers, false, "another HLT");
  assert.equal((await stops(() => false)).first, "break 10");
  assert.equal((await checked(new FakeVm(100), [check(10)])).results.length, 1);
});
