/** The window of a replay over the epochs that all of its logs have in common. */
import { epochOf } from "../clocks/lamport.ts";
import { ReplayWindow } from "../clocks/replay_window.ts";
import { lamportTime, type VmNumber } from "../units.ts";
import type { LogCensus } from "./log_census.ts";
import type { ReplayWindowPort } from "./replaying_agent.ts";

/**
 * A window over the VMs of `censuses`.
 * @param windowEpochs see {@link ReplayWindow}
 * @param firstEpoch in which every VM begins
 */
export function commonWindow(
  censuses: ReadonlyMap<VmNumber, LogCensus>,
  windowEpochs: number,
  firstEpoch = 0,
): ReplayWindowPort {
  const window = new ReplayWindow([...censuses.keys()], windowEpochs, firstEpoch);
  const epochs = [...censuses].map(([vm, census]) => [vm, epochsOfLog(census)] as const);
  const common = commonEpochs(new Map(epochs));
  return {
    enter: (vm, epoch) => !common.has(epoch) || window.enter(vm, epoch),
    leave: (vm) => window.leave(vm),
    rejoin: (vm) => window.rejoin(vm),
  };
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
