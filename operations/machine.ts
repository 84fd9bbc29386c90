/** From the cluster file's VM to QEMU's: the machine that recording and replay have in common. */
import { ClusterrrError } from "../lib/errors.ts";
import type { ClusterSpec, VmSpec } from "../lib/cluster/spec.ts";
import { buildCommandLine, type VmHardware } from "../hypervisor/qemu/command_line.ts";
import type { QemuIdentity } from "../hypervisor/qemu/capabilities.ts";

/**
 * The machine of one VM of a cluster.
 * @param createdAt when the recording began, ISO 8601: what the guest's clock starts at
 */
export function hardwareOf(spec: ClusterSpec, vm: VmSpec, createdAt: string): VmHardware {
  return {
    name: vm.name,
    number: vm.number,
    memoryMiB: vm.memoryMiB,
    machine: spec.qemu.machine,
    cpu: spec.qemu.cpu,
    icountShift: spec.qemu.icountShift,
    nic: spec.qemu.nic,
    mac: vm.mac,
    kernel: vm.kernel,
    ...(vm.initrd === undefined ? {} : { initrd: vm.initrd }),
    kernelArgs: vm.kernelArgs,
    rtcBase: createdAt.slice(0, "2026-01-31T12:00:00".length),
    disks: vm.disks.map((_, i) => ({ name: `disk${i}` })),
    serialInput: vm.serialInput !== undefined,
    restarts: vm.onReboot === "restart",
  };
}

/**
 * The command line a VM is recorded with, from power-on or from a snapshot, the run's own paths replaced by placeholders: what the
 * manifest keeps, and what a replay must still come to.
 */
export function portableCommandLine(
  hardware: VmHardware,
  qemu: Pick<QemuIdentity, "path" | "version">,
  fromSnapshot = false,
): string[] {
  const base = "{run}";
  return buildCommandLine(
    hardware,
    { kind: "record", tap: "{tap}", rrLog: `${base}/rr`, capture: `${base}/capture` },
    {
      qmp: `${base}/qmp`,
      console: "{console}",
      overlays: hardware.disks.map((disk) => `${base}/${disk.name}`),
      ...(fromSnapshot ? { state: `${base}/state` } : {}),
      serialInput: `${base}/tty`,
    },
    { qemu },
  );
}

/** Taps, namespaces and eBPF need root. @throws {ClusterrrError} */
export function requireRoot(what: string): void {
  if (Deno.uid() !== 0) {
    throw new ClusterrrError(
      `${what} needs root: it makes taps, network namespaces and loads eBPF. Run it with sudo.`,
    );
  }
}
