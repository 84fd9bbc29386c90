/**
 * Properties of checkpoints over random executions: every cut is consistent by a brute-force
 * happened-before relation, and a replay under a window goes through. The same properties refute
 * placers and agents that leave a rule out.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { VmNumber } from "../units.ts";
import { CutPlacer } from "./cut_placer.ts";
import {
  type Deed,
  Execution,
  type ExecutionOptions,
  type ModelVm,
  type Step,
} from "./execution_fixture.ts";
import { epochStart } from "./lamport.ts";
import { ReplayWindow } from "./replay_window.ts";

const fate = fc.oneof(
  { weight: 10, arbitrary: fc.constant("arrives" as const) },
  { weight: 1, arbitrary: fc.constantFrom("doubles" as const, "lost" as const) },
);
const troubledFate = fc.oneof(
  { weight: 10, arbitrary: fate },
  { weight: 1, arbitrary: fc.constantFrom("unreported" as const, "dropped" as const) },
);

interface Scenario {
  readonly vms: number;
  readonly hosts: number;
  readonly bufferBytes: number;
  readonly everyBoundary: boolean;
  readonly steps: readonly Step[];
}

/** Executions of 1 to 6 VMs; of `quiet` ones the recorder reports everything and no tap overflows. */
function scenarios(quiet: boolean): fc.Arbitrary<Scenario> {
  const fates = quiet ? fate : troubledFate;
  return fc.tuple(fc.integer({ min: 1, max: 6 }), fc.constantFrom(64, 64, 4096)).chain(
    ([vms, bufferBytes]) => {
      const vm = fc.nat(vms - 1);
      const bytes = fc.integer({ min: 1, max: bufferBytes / 2 });
      const step: fc.Arbitrary<Step> = fc.oneof(
        {
          weight: 60,
          arbitrary: fc.record({
            do: fc.constant("send" as const),
            vm,
            to: fc.nat(127),
            byTimer: fc.boolean(),
          }),
        },
        {
          weight: 80,
          arbitrary: fc.record({
            do: fc.constant("deliver" as const),
            which: fc.nat(50),
            fate: fates,
          }),
        },
        {
          weight: 10,
          arbitrary: fc.record({ do: fc.constant("external" as const), vm, fate: fates }),
        },
        { weight: 80, arbitrary: fc.record({ do: fc.constant("receive" as const), vm, bytes }) },
        { weight: 50, arbitrary: fc.record({ do: fc.constant("log" as const), vm, bytes }) },
        {
          weight: 40,
          arbitrary: fc.record({
            do: fc.constant("tick" as const),
            host: fc.nat(2),
            skip: fc.constantFrom(0, 0, 0, 3),
          }),
        },
        { weight: 80, arbitrary: fc.record({ do: fc.constant("turn" as const), vm }) },
        { weight: 1, arbitrary: fc.record({ do: fc.constant("end" as const), vm }) },
      );
      return fc.record({
        vms: fc.constant(vms),
        hosts: fc.constantFrom(1, 1, 2, 3).map((hosts) => Math.min(hosts, vms)),
        bufferBytes: fc.constant(bufferBytes),
        everyBoundary: fc.boolean(),
        steps: fc.array(step, { maxLength: 200, size: "max" }),
      });
    },
  );
}

function execute(scenario: Scenario, change: Partial<ExecutionOptions> = {}): Execution {
  const { steps, ...options } = scenario;
  return new Execution({
    ...options,
    patienceEpochs: Infinity,
    placer: (placerOptions) => new CutPlacer(placerOptions),
    ...change,
  }, steps);
}

/** The epochs that have a cut in every log. */
function completeEpochs({ epochs, vms }: Execution): number[] {
  return epochs.filter((epoch) => vms.every((vm) => vm.cuts.has(epoch)));
}

/**
 * Whether a VM that is held at `cut` has done this. A send shows in the log by the instructions that
 * are logged behind it; a timer's send is done before the header of a frame that comes next.
 */
function isInside(vm: ModelVm, deed: Deed, cut: number): boolean {
  if (deed.kind !== "send" || !deed.byTimer || deed.at !== cut) return deed.at < cut;
  return vm.deeds.some((next) => next.kind === "receive" && next.at === cut);
}

/** What happened before each deed, directly: the VM's deed before it, and of a receive its send. */
function causesOf(execution: Execution): Map<Deed, Deed[]> {
  const sends = new Map<unknown, Deed>();
  const causes = new Map<Deed, Deed[]>();
  for (const { deeds } of execution.vms) {
    deeds.forEach((deed, i) => {
      causes.set(deed, deeds.slice(Math.max(0, i - 1), i));
      if (deed.kind === "send") sends.set(deed.frame, deed);
    });
  }
  for (const [deed, before] of causes) {
    if (deed.kind !== "receive" || deed.frame.source === 0) continue;
    before.push(sends.get(deed.frame)!);
  }
  return causes;
}

/** Everything that happened before something inside the cut of `epoch` is inside it. */
function assertConsistent(execution: Execution, epoch: number): void {
  const causes = causesOf(execution);
  const inside = new Set<Deed>();
  for (const vm of execution.vms) {
    const cut = vm.cuts.get(epoch)!;
    for (const deed of vm.deeds) if (isInside(vm, deed, cut)) inside.add(deed);
  }
  const reached = new Set(inside);
  for (const deed of reached) { // grows while it is walked
    for (const cause of causes.get(deed)!) {
      reached.add(cause);
      assert(inside.has(cause), `epoch ${epoch}: the cause of something inside is outside`);
    }
  }
}

/** The definition of a cut in one log, by the true times. */
function assertPlaced(execution: Execution, vm: ModelVm): void {
  let before = -1;
  for (const [epoch, cut] of [...vm.cuts].toSorted(([a], [b]) => a - b)) {
    assert(cut >= before, "cuts are in the order of their epochs");
    before = cut;
    assert(execution.epochs.includes(epoch), "only of epochs that began");
    if (execution.options.hosts === 1) assert(cut >= vm.ticked.get(epoch)!, "not before the tick");
    for (const deed of vm.deeds) {
      if (deed.kind === "event") {
        assert(deed.end <= cut || deed.at >= cut, "at a boundary of the log");
      } else if (deed.kind === "send") {
        if (deed.frame.stamp < epochStart(epoch)) {
          assert(isInside(vm, deed, cut), "behind every send before the tick");
        }
      } else if (deed.at < cut) {
        assert(deed.lamport < epochStart(epoch), "before every receive of the epoch");
      } else if (deed.reported && execution.options.patienceEpochs === Infinity) {
        assert(deed.lamport >= epochStart(epoch), "behind every receive before it");
      }
    }
  }
}

function assertCheckpoints(execution: Execution): void {
  for (const vm of execution.vms) assertPlaced(execution, vm);
  for (const epoch of completeEpochs(execution)) assertConsistent(execution, epoch);
}

type ReplayItem = { readonly cut: number } | Deed;

/** What a VM goes through in a replay: its deeds, with its cuts among them. */
function replayItems(vm: ModelVm, epochs: readonly number[]): ReplayItem[] {
  const cuts = epochs.map((epoch) => ({ cut: epoch, at: vm.cuts.get(epoch)! }));
  const items: ReplayItem[] = [];
  for (const deed of vm.deeds) {
    while (cuts.length > 0 && !isInside(vm, deed, cuts[0]!.at)) items.push(cuts.shift()!);
    items.push(deed);
  }
  return [...items, ...cuts];
}

/** Replays in an order of `choices`; every receive waits for its send. Returns what each VM did. */
function replay(
  execution: Execution,
  windowEpochs: number,
  choices: Iterator<number>,
): Deed[][] {
  const epochs = completeEpochs(execution);
  const window = new ReplayWindow(execution.vms.map((vm) => vm.number), windowEpochs);
  const items = new Map(execution.vms.map((vm) => [vm, replayItems(vm, epochs)]));
  const sent = new Map<VmNumber, number>(execution.vms.map((vm) => [vm.number, 0]));
  const done = new Map<ModelVm, Deed[]>(execution.vms.map((vm) => [vm, []]));

  const advance = (vm: ModelVm): boolean => {
    const item = items.get(vm)![0];
    if (item === undefined) {
      window.leave(vm.number);
      items.delete(vm);
      return true;
    }
    if ("cut" in item) {
      if (!window.enter(vm.number, item.cut)) return false;
      assert(item.cut - window.slowest <= windowEpochs, "too far ahead");
    } else {
      if (item.kind === "send") sent.set(vm.number, item.frame.sendNumber + 1);
      if (item.kind === "receive" && item.frame.source !== 0) {
        if (sent.get(item.frame.source)! <= item.frame.sendNumber) return false;
      }
      done.get(vm)!.push(item);
    }
    items.get(vm)!.shift();
    return true;
  };
  let stuck = 0;
  while (items.size > 0) {
    const live = [...items.keys()];
    // Random turns; where they lead nowhere, everyone is asked twice before it counts as a deadlock.
    const vm = live[(stuck < 10 ? choices.next().value : stuck) % live.length]!;
    stuck = advance(vm) ? 0 : stuck + 1;
    assert(stuck < 10 + 2 * live.length, "deadlock");
  }
  return [...done.values()];
}

const RUNS = { numRuns: 1500 };

Deno.test("property: every cut is consistent, whatever the network does", () =>
  fc.assert(
    fc.property(scenarios(true), (scenario) => {
      const execution = execute(scenario);
      assertCheckpoints(execution);
      assert.deepEqual(completeEpochs(execution), execution.epochs, "each epoch has all its cuts");
    }),
    RUNS,
  ));

Deno.test("property: ... whatever the recorder loses and the taps drop", () =>
  fc.assert(
    fc.property(scenarios(false), (scenario) => {
      const execution = execute(scenario);
      assertCheckpoints(execution);
      for (const vm of execution.vms) {
        assert.equal(vm.cuts.size + vm.placer.voided, execution.epochs.length);
        const unreported = vm.deeds.some((deed) => deed.kind === "receive" && !deed.reported);
        if (!unreported) assert.equal(vm.placer.voided, 0, "only lost events leave an epoch out");
      }
    }),
    RUNS,
  ));

Deno.test("property: ... and however soon a cut gives up waiting for late frames", () =>
  fc.assert(
    fc.property(scenarios(false), fc.nat(2), (scenario, patienceEpochs) => {
      assertCheckpoints(execute(scenario, { patienceEpochs }));
    }),
    RUNS,
  ));

Deno.test("property: a replay under any window goes through, and every VM does the same in it", () =>
  fc.assert(
    fc.property(
      scenarios(false),
      fc.integer({ min: 1, max: 3 }),
      fc.nat(3),
      fc.infiniteStream(fc.nat(1000)),
      (scenario, windowEpochs, patienceEpochs, choices) => {
        const execution = execute(scenario, { patienceEpochs });
        const bounded = replay(execution, windowEpochs, choices);
        assert.deepEqual(bounded, replay(execution, Infinity, choices));
        assert.deepEqual(bounded, execution.vms.map((vm) => vm.deeds));
      },
    ),
    RUNS,
  ));

/** Leaves the rule out that a receive of the epoch forces the cut before it. */
class NeverForced extends CutPlacer {
  override beforeReceive(_lamport: bigint | undefined, _logBytes: number): number[] {
    return [];
  }
}

const WRONG: Record<string, [Partial<ExecutionOptions>, RegExp]> = {
  "cuts at the tick, whatever QEMU's buffer holds": [
    { placer: (options) => new CutPlacer({ ...options, bufferBytes: 0 }) },
    /cause of something inside is outside/,
  ],
  "cuts one byte before it may": [
    { placer: (options) => new CutPlacer({ ...options, bufferBytes: options.bufferBytes! - 1 }) },
    /cause of something inside is outside/,
  ],
  "takes a frame of unknown time from another host for an old one": [
    { placer: (options) => new CutPlacer({ ...options, remoteEpochs: false }) },
    /cause of something inside is outside/,
  ],
  "forgets what is in the FIFO at the tick": [
    { countsBeforeTick: true },
    /cause of something inside is outside/,
  ],
  "is not forced by a receive of the epoch": [
    { placer: (options) => new NeverForced(options) },
    /cause of something inside is outside/,
  ],
  "guesses the time of a frame whose event was lost": [
    { guessesTimes: true },
    /cause of something inside is outside/,
  ],
  "does not wait for frames that are in the tap": [
    { placer: ({ oldestDelivery: _, ...options }) => new CutPlacer(options) },
    /behind every receive before it/,
  ],
};

for (const [mistake, [change, expected]] of Object.entries(WRONG)) {
  Deno.test(`refuted: a placer that ${mistake}`, () => {
    const check = (scenario: Scenario) => {
      const execution = execute(scenario, change);
      if (expected.source.startsWith("cause")) {
        for (const epoch of completeEpochs(execution)) assertConsistent(execution, epoch);
      } else for (const vm of execution.vms) assertPlaced(execution, vm);
    };
    const verdict = fc.check(fc.property(scenarios(false), check), {
      seed: 1,
      numRuns: 20_000,
      endOnFailure: true,
    });
    assert(verdict.failed, "the properties do not notice");
    assert.match(String(verdict.errorInstance), expected);
  });
}

Deno.test("refuted: a window over cuts that are not consistent deadlocks", () => {
  const verdict = fc.check(
    fc.property(scenarios(true), fc.infiniteStream(fc.nat(1000)), (scenario, choices) => {
      replay(execute(scenario, { placer: (options) => new NeverForced(options) }), 1, choices);
    }),
    { seed: 1, numRuns: 20_000, endOnFailure: true },
  );
  assert(verdict.failed, "the properties do not notice");
  assert.match(String(verdict.errorInstance), /deadlock/);
});
