/** A run over several hosts, as its progress is shown to people. */
import type { ProgressState, VmProgress } from "../lib/cli/ports.ts";
import type { RunStatus } from "../lib/protocol/control.ts";

/** The VMs of all hosts, in the order of their numbers. */
export function showRun({ kind, phase, hosts }: RunStatus): ProgressState {
  const away = hosts.filter(({ connected }) => !connected).map(({ host }) => host);
  const note = away.length === 0 ? "" : ` (waiting for ${away.join(", ")})`;
  if (kind === "record") {
    const vms = hosts.flatMap(({ record }) => record?.vms ?? []).sort((a, b) =>
      a.number - b.number
    );
    const doing = phase === "preparing" ? hosts.find(({ record }) => record)?.record?.doing : phase;
    return {
      phase: (phase === "running" ? "recording" : doing ?? phase) + note,
      vms: phase === "preparing" ? [] : vms.map((vm): VmProgress => ({
        name: vm.name,
        ...(vm.ended === "no" ? {} : { status: "ended" }),
        frames: vm.framesInternal + vm.framesExternal + vm.framesUnmatched,
        storedBytes: vm.storedBytes,
        rrLogBytes: vm.rrLogBytes,
      })),
    };
  }
  const doing = hosts.map(({ replay }) => replay?.doing).find((each) => each !== undefined);
  return {
    phase: (phase === "replaying" ? "replaying" : doing ?? phase) + note,
    vms: hosts.flatMap(({ replay }) => replay?.vms ?? []).map((vm) => ({
      name: vm.name,
      fraction: vm.percent / 100,
      frames: vm.framesMatched,
    })),
  };
}
