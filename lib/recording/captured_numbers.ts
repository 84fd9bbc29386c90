/** Which captured frame a reference names, in a recording of several hosts. */
import { ClusterrrError } from "../errors.ts";
import type { VmNumber } from "../units.ts";
import type { Manifest } from "./manifest.ts";

/**
 * What makes captured numbers of those in the references of VM `receiver`: the recorder's, where the sender was on
 * another host. The rule is in FORMAT.md, "Manifest".
 * What it returns throws a {@link ClusterrrError} for a frame that cannot be told from others.
 * @returns `undefined` where all references are captured numbers already
 */
export function capturedNumbers(
  { hosts = [], sendDrifts = [] }: Pick<Manifest, "hosts" | "sendDrifts">,
  receiver: VmNumber,
): ((source: VmNumber, sendNumber: number) => number) | undefined {
  const here = new Set(hosts.find(({ vms }) => vms.includes(receiver))?.vms ?? []);
  const drifts = new Map(
    sendDrifts.filter(({ vm }) => !here.has(vm)).map(({ vm, drifts }) => [vm, drifts]),
  );
  if (drifts.size === 0) return undefined;
  return (source, sendNumber) => {
    const doubtful = drifts.get(source)?.some(({ from, doubtFrom }) =>
      doubtFrom <= sendNumber && sendNumber < from
    );
    if (doubtful) {
      throw new ClusterrrError(
        `Which frame of VM ${source} is its number ${sendNumber} cannot be told: its tap refused ` +
          "frames of equal length around it. The recording cannot be replayed; record anew.",
      );
    }
    const frames = drifts.get(source)?.findLast(({ from }) => from <= sendNumber)?.frames ?? 0;
    return sendNumber + frames;
  };
}
