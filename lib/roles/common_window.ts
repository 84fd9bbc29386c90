/** The window of a replay over the epochs that all of its logs have in common. */
import { epochOf } from "../clocks/lamport.ts";
import { ReplayWindow } from "../clocks/replay_window.ts";
import { lamportTime, type VmNumber } from "../units.ts";
import type { LogCensus, VmPosition } from "./log_census.ts";
import type { ReplayWindowPort } from "./replaying_agent.ts";

/**
 * A window over the VMs of `censuses`.
 * @param windowEpochs see {@link ReplayWindow}
 * @param positions where VMs stand that do not begin at their start. VMs of one cut may be in different epochs:
 * one that was counted in an earlier one than its own would be waited for until its next cut, perhaps for ever
 */
export function commonWindow(
  censuses: ReadonlyMap<VmNumber, LogCensus>,
  windowEpochs: number,
  positions: ReadonlyMap<VmNumber, Pick<VmPosition, "icount">> = new Map(),
): ReplayWindowPort {
  const window = new ReplayWindow([...censuses.keys()], windowEpochs);
  for (const [vm, { icount }] of positions) {
    window.place(vm, epochAt(censuses.get(vm)!, icount), false);
  }
  const epochs = [...censuses].map(([vm, census]) => [vm, epochsOfLog(census)] as const);
  const common = commonEpochs(new Map(epochs));
  return {
    enter: (vm, epoch) => !common.has(epoch) || window.enter(vm, epoch),
    leave: (vm) => window.leave(vm),
    rejoin: (vm) => window.rejoin(vm),
  };
}

/** The epoch whose cut a VM has passed last that stands at `icount`, strictly inside a run. */
function epochAt({ cuts }: LogCensus, icount: number): number {
  return cuts.findLast((cut) => cut.icount < icount)?.epoch ?? 0;
}

/** What decides which epochs a VM has in common with others. */
export interface VmEpochs {
  /** Epochs of which its log has a cut. */
  readonly cuts: readonly number[];
  /** The epoch of its last receive. */
  readonly lastReceive: number;
}

/** The {@link VmEpochs} of a log. */
export function epochsOfLog({ cuts, receives: { lamports } }: LogCensus): VmEpochs {
  return {
    cuts: cuts.map(({ epoch }) => epoch),
    lastReceive: epochOf(lamportTime(lamports.at(-1) ?? 0n)),
  };
}

/**
 * The epochs that every VM either has a cut of, or has ended before: at others the VMs of a replay could
 * wait for each other for ever.
 */
export function commonEpochs(vms: ReadonlyMap<VmNumber, VmEpochs>): Set<number> {
  const all = [...vms.values()];
  const common = new Set(all.flatMap(({ cuts }) => cuts));
  for (const { cuts, lastReceive } of all) {
    const own = new Set(cuts);
    for (const epoch of common) {
      if (!own.has(epoch) && lastReceive >= epoch) common.delete(epoch);
    }
  }
  return common;
}
