/** The window of a replay over the epochs that all of its logs have in common. */
import { epochStart } from "../clocks/lamport.ts";
import { ReplayWindow } from "../clocks/replay_window.ts";
import type { VmNumber } from "../units.ts";
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
  const common = commonEpochs(censuses);
  return {
    enter: (vm, epoch) => !common.has(epoch) || window.enter(vm, epoch),
    leave: (vm) => window.leave(vm),
    rejoin: (vm) => window.rejoin(vm),
  };
}

/**
 * The epochs that every VM either has a cut of, or has ended before: at others the VMs of a replay could
 * wait for each other for ever.
 */
export function commonEpochs(censuses: ReadonlyMap<VmNumber, LogCensus>): Set<number> {
  const all = [...censuses.values()];
  const common = new Set(all.flatMap(({ cuts }) => cuts.map(({ epoch }) => epoch)));
  for (const { cuts, receives: { lamports } } of all) {
    const own = new Set(cuts.map(({ epoch }) => epoch));
    const lastReceive = lamports.at(-1) ?? 0n;
    for (const epoch of common) {
      if (!own.has(epoch) && lastReceive >= epochStart(epoch)) common.delete(epoch);
    }
  }
  return common;
}
