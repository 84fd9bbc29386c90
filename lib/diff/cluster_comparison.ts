/**
 * Compares two runs of a cluster VM by VM and names the first difference in the cluster.
 *
 * The first is the one with the smallest Lamport time: that of the last stamped item at or before it, in
 * the run in which that is later. What a VM's difference causes in another VM travels in a frame, and
 * that is stamped later in the run that has it.
 */
import { ClusterrrError } from "../errors.ts";
import type { ManifestVm } from "../recording/manifest.ts";
import { compareConsoles } from "./consoles.ts";
import { LogComparison, type LogDiff } from "./log_comparison.ts";
import type {
  ConsoleComparison,
  Difference,
  DiffReport,
  Ended,
  EventCodec,
  VmDiff,
} from "./observation.ts";
import { OutwardComparison } from "./outward_comparison.ts";
import { ReferencedFrames } from "./received_frames.ts";
import type { Run, RunVm } from "./runs.ts";
import { compareSetups } from "./setups.ts";
import { later, placeOf } from "./stamps.ts";

export interface ComparisonOptions {
  /** Leave out what only QEMU's main loop notices. */
  readonly guestOnly: boolean;
  /** How many things before each difference to show. */
  readonly context: number;
  /** Decodes the rr logs that a QEMU wrote. @throws {VersionError} */
  readonly codec: (qemu: ManifestVm["qemu"]) => EventCodec;
  /** Called after each block: bytes of rr log compared so far, of those that are known to be there. */
  readonly turn: (vm: string, logBytes: number, logBytesTotal: number) => Promise<void>;
}

/** The runs' VMs that have a name in common. */
interface Pair {
  readonly name: string;
  readonly a: RunVm;
  readonly b: RunVm;
}

/** @throws {ClusterrrError} where the two cannot be compared */
export async function compareRuns(
  a: Run,
  b: Run,
  options: ComparisonOptions,
): Promise<DiffReport> {
  const startedAt = performance.now();
  const comparison = new ClusterComparison(a, b, options);
  const vms = await comparison.run();
  const first = firstOf(vms);
  const tracesOf = [a, b].filter(({ identity }) => identity.kind === "trace");
  return {
    identical: vms.every((vm) => vm.difference === undefined && vm.damage.length === 0),
    a: a.identity,
    b: b.identity,
    ...(first === undefined ? {} : { first: { vm: first.vm, difference: first.difference! } }),
    vms,
    setup: compareSetups(a, b),
    notCompared: [
      ...tracesOf.length === 0
        ? []
        : ["events and received frames: a trace has sent frames, checks, ends and consoles only"],
      ...comparison.ramsNotCompared === 0 ? [] : [
        "RAM: the digests of one run are SHA-256, an earlier clusterrr's, those of the other not",
      ],
    ],
    seconds: (performance.now() - startedAt) / 1000,
  };
}

class ClusterComparison {
  /** Checks whose digests of RAM are not of one kind. */
  ramsNotCompared = 0;
  readonly #pairs: Pair[] = [];

  constructor(
    private readonly a: Run,
    private readonly b: Run,
    private readonly options: ComparisonOptions,
  ) {
    for (const vm of a.vms) {
      const other = b.vms.find(({ name }) => name === vm.name);
      if (other !== undefined) this.#pairs.push({ name: vm.name, a: vm, b: other });
    }
  }

  /** In the order of A, those that only B has behind them. */
  async run(): Promise<VmDiff[]> {
    const diffs = new Map<string, LogDiff>();
    for (const pair of this.#pairs) diffs.set(pair.name, await this.#compare(pair));
    const proven = new Map([...diffs].map(([name, { equal }]) => [name, equal.sent]));
    for (const pair of this.#pairs) {
      const { trusted } = diffs.get(pair.name)!;
      const trustedTooMuch = [...trusted].some(([name, n]) => n >= (proven.get(name) ?? 0));
      if (trustedTooMuch) diffs.set(pair.name, await this.#compare(pair, proven));
    }
    for (const diff of diffs.values()) this.ramsNotCompared += diff.ramsNotCompared;
    const missingIn = (run: Run) => (vm: RunVm) => run.vms.every(({ name }) => name !== vm.name);
    return [
      ...this.a.vms.map((vm) => {
        const pair = this.#pairs.find(({ name }) => name === vm.name);
        return pair === undefined ? loneVm(vm, "A") : describeVm(pair, diffs.get(vm.name)!);
      }),
      ...this.b.vms.filter(missingIn(this.a)).map((vm) => loneVm(vm, "B")),
    ];
  }

  async #compare(pair: Pair, proven?: ReadonlyMap<string, number>): Promise<LogDiff> {
    const { context } = this.options;
    const logs = [pair.a.log, pair.b.log];
    if (logs[0] === undefined || logs[1] === undefined) {
      const outward = new OutwardComparison(pair.a.outward(), pair.b.outward(), context);
      return await this.#drive(pair.name, outward.run(), () => 0, 0);
    }
    const [versionA, versionB] = logs.map((log) => log!.manifest.qemu.rrLogVersion);
    if (versionA !== versionB) {
      throw new ClusterrrError(
        `VM ${pair.name} was recorded by QEMUs with different event logs ` +
          `(0x${versionA!.toString(16)}, 0x${versionB!.toString(16)}): they cannot be compared.`,
      );
    }
    const frames = [this.a, this.b].map((run) =>
      new ReferencedFrames(run.vms.map((vm) => vm.log!))
    );
    const comparison = new LogComparison(
      { open: logs[0].open, frames: frames[0]! },
      { open: logs[1].open, frames: frames[1]! },
      {
        vm: pair.name,
        codec: this.options.codec(logs[0].manifest.qemu),
        firstIcount: logs[0].manifest.firstIcount ?? 0,
        guestOnly: this.options.guestOnly,
        context,
        ...(proven === undefined ? {} : { proven }),
      },
    );
    const total = logs[0].manifest.totals?.rrLogBytes ?? 0;
    try {
      return await this.#drive(pair.name, comparison.run(), () => comparison.logBytes, total);
    } finally {
      for (const each of frames) each.close();
    }
  }

  async #drive(
    vm: string,
    work: Generator<void, LogDiff>,
    logBytes: () => number,
    total: number,
  ): Promise<LogDiff> {
    try {
      for (;;) {
        const step = work.next();
        if (step.done) return step.value;
        await this.options.turn(vm, logBytes(), total);
      }
    } finally {
      work.return(undefined as never); // closes the logs if a turn was interrupted
    }
  }
}

function describeVm(pair: Pair, diff: LogDiff): VmDiff {
  const { ends } = diff;
  // Of an end that was not reached a recording knows, and a trace does not.
  const isComplete = (vm: RunVm, end: Ended | undefined) =>
    end?.complete ?? vm.log?.manifest.logComplete ?? false;
  const complete = isComplete(pair.a, ends.a) && isComplete(pair.b, ends.b);
  const console = compareConsoles(pair.a.console, pair.b.console, complete);
  const difference = diff.difference ??
    (console.result === "different" ? consoleDifference(diff, console) : undefined);
  return {
    vm: pair.name,
    equal: diff.equal,
    console,
    ...(difference === undefined ? {} : { difference }),
    cutOff: {
      ...(ends.a === undefined || ends.a.complete ? {} : { a: ends.a.reason }),
      ...(ends.b === undefined || ends.b.complete ? {} : { b: ends.b.reason }),
    },
    damage: [ends.a, ends.b].flatMap((end) => end?.damage ?? []),
  };
}

/** All else is equal, yet what was printed is not. */
function consoleDifference(diff: LogDiff, { at }: ConsoleComparison): Difference {
  const icount = diff.equal.instructions;
  const text = at === undefined ? "other bytes" : `from byte ${at.byte}, in line ${at.line}`;
  const side = { icount, kind: "CONSOLE", text };
  return {
    kind: "console",
    what: "it printed something else",
    ...placeOf(diff.lamport),
    icount,
    a: side,
    b: side,
    context: [],
  };
}

function loneVm({ name }: RunVm, side: "A" | "B"): VmDiff {
  const here = { icount: 0, kind: "VM", text: name };
  const none = { icount: 0, kind: "NONE", text: "no such VM" };
  return {
    vm: name,
    equal: {
      instructions: 0,
      events: 0,
      received: 0,
      sent: 0,
      checks: 0,
      logBytes: 0,
      unproven: 0,
    },
    console: { result: "unknown" },
    difference: {
      kind: "vm",
      what: `only ${side} has this VM`,
      epoch: 0,
      lamport: { a: null, b: null },
      icount: 0,
      ...(side === "A" ? { a: here, b: none } : { a: none, b: here }),
      context: [],
    },
    cutOff: {},
    damage: [],
  };
}

/** The VM that differs first: by Lamport time, then instruction count, then its place in the list. */
export function firstOf(vms: readonly VmDiff[]): VmDiff | undefined {
  const time = ({ lamport }: Difference) => later(lamport.a, lamport.b) ?? -1n;
  let first: VmDiff | undefined;
  for (const vm of vms) {
    if (vm.difference === undefined) continue;
    const best = first?.difference;
    const { difference } = vm;
    if (best !== undefined) {
      if (time(difference) > time(best)) continue;
      if (time(difference) === time(best) && difference.icount >= best.icount) continue;
    }
    first = vm;
  }
  return first;
}
