/**
 * Where every VM of a cluster has to stop, so that they stand in one consistent state.
 *
 * The cut of a Lamport time T: every VM has received exactly the frames with times below T, and has sent
 * at least those. Since a receive is later than its send, nothing has been received that was not sent,
 * whatever T is (`lib/clocks/CHECKPOINTS.md`). For a checkpoint, T is the start of its epoch.
 *
 * Each VM is stopped strictly inside a run of instructions, where QEMU takes nothing of its log while it
 * stands. Where a VM has no such place between two frames, a checkpoint's T is raised, past the frame.
 */
import { countBelow } from "../bytes/growing_array.ts";
import { epochStart } from "../clocks/lamport.ts";
import type { VmNumber } from "../units.ts";
import { type LogCensus, sendsBefore, type VmPosition } from "./log_census.ts";

/** Where one VM stops. */
export interface VmStop {
  /** Instructions executed; `Infinity`: the VM has run to its end. */
  readonly icount: number;
  readonly receives: number;
  /** It has sent at least so many frames there. */
  readonly sendsMin: number;
}

/** Where all stop. */
export interface ClusterCut {
  /** The Lamport time of the cut. */
  readonly time: bigint;
  readonly stops: ReadonlyMap<VmNumber, VmStop>;
}

/** The first cut at or behind Lamport time `time` at which every VM can be stopped inside a run. */
export function cutAt(censuses: ReadonlyMap<VmNumber, LogCensus>, time: bigint): ClusterCut {
  for (let at = time;;) {
    const stops = new Map<VmNumber, VmStop>();
    let later = at;
    for (const [vm, census] of censuses) {
      const icount = insideGap(census, at);
      const receives = countBelow(census.receives.lamports, at);
      if (icount !== undefined) {
        stops.set(vm, { icount, receives, sendsMin: sendsBefore(census, at) });
      } else if (receives < census.receives.lamports.length) {
        const past = census.receives.lamports[receives]! + 1n;
        if (past > later) later = past;
      } else stops.set(vm, endOf(census));
    }
    if (later === at) return { time: at, stops };
    at = later;
  }
}

/** The end of a VM's log. */
export function endOf({ receives, sendTimes }: LogCensus): VmStop {
  return { icount: Infinity, receives: receives.lamports.length, sendsMin: sendTimes.length };
}

/**
 * Where the other VMs stop while `vm` goes its own way: at the first cut at or behind `time` that needs
 * none of the frames that `vm` sends after its first `sent`.
 * @returns `undefined` where there is no such cut
 */
export function cutBeside(
  censuses: ReadonlyMap<VmNumber, LogCensus>,
  vm: VmNumber,
  sent: number,
  time: bigint,
): ClusterCut | undefined {
  const others = new Map([...censuses].filter(([number]) => number !== vm));
  const cut = cutAt(others, time);
  return cut.time <= firstReceiveOf(others, vm, sent) ? cut : undefined;
}

/**
 * The next place behind `position` at which a VM can be stopped inside a run.
 * @returns `undefined` at the end of its log
 */
export function nextStop(
  { receives, cuts }: LogCensus,
  position: Pick<VmPosition, "icount" | "receives">,
): VmStop | undefined {
  const { lastInside } = receives;
  for (let gap = position.receives; gap < lastInside.length; gap++) {
    // A long gap has cuts in it, near which one can stop as well.
    const cut = cuts.find(({ receives, insideBefore }) =>
      receives === gap && insideBefore > position.icount
    );
    const at = cut?.insideBefore ?? lastInside[gap]!;
    if (at > position.icount) return { icount: at, receives: gap, sendsMin: 0 };
  }
  return undefined;
}

/** The Lamport time of the first receive of a frame that `vm` sends after its first `sent`. */
function firstReceiveOf(
  others: ReadonlyMap<VmNumber, LogCensus>,
  vm: VmNumber,
  sent: number,
): bigint {
  let first = 2n ** 64n;
  for (const { receives: { sources, numbers, lamports } } of others.values()) {
    const at = sources.findIndex((source, i) => source === vm && numbers[i]! >= sent);
    if (at >= 0 && lamports[at]! < first) first = lamports[at]!;
  }
  return first;
}

/** The Lamport time just behind the last frame that a VM has received within `icount` instructions. */
export function timeOfLastReceive(census: LogCensus, icount: number): bigint {
  const receives = countBelow(census.receives.icounts, icount);
  return receives === 0 ? 1n : census.receives.lamports[receives - 1]! + 1n;
}

/** The last epoch of which some VM has a cut; 0 where there is none. */
export function lastEpoch(censuses: ReadonlyMap<VmNumber, LogCensus>): number {
  return Math.max(0, ...[...censuses.values()].map(({ cuts }) => cuts.at(-1)?.epoch ?? 0));
}

/** An instruction count inside a run, in the gap that `time` falls into, near the cut of its epoch. */
function insideGap(census: LogCensus, time: bigint): number | undefined {
  const { lamports, lastInside } = census.receives;
  const gap = countBelow(lamports, time);
  // The first cut that is not before `time`: no send behind it has an earlier time.
  const cut = census.cuts[countEarlierCuts(census, time)];
  const icount = cut === undefined || cut.receives !== gap
    ? lastInside[gap]!
    : cut.insideBefore >= 0
    ? cut.insideBefore
    : cut.insideAfter;
  return icount < 0 ? undefined : icount;
}

function countEarlierCuts({ cuts }: LogCensus, time: bigint): number {
  let from = 0;
  let to = cuts.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (epochStart(cuts[middle]!.epoch) < time) from = middle + 1;
    else to = middle;
  }
  return from;
}
