/**
 * Builds QEMU's command line for a VM: what the guest sees first, then the backends of the run.
 *
 * A replay repeats a recording only if the guest sees the same machine. So a recording and its
 * replay differ in `rr=`, in the network backend and in the ends of character devices, and in
 * nothing else; `command_line_test.ts` holds that. A forgotten device option shows as a replay that
 * hangs, not as an error.
 *
 * ```
 *  guest NIC ── netdev n0 ── filter-replay ── filter-mirror ──▶ Unix socket (the sent frames, in order)
 *                  │          (records and injects received frames; swallows all in a replay)
 *                  └ record: tap    replay: a hub port that leads nowhere
 * ```
 * The mirror stands behind `filter-replay`, or it would see no frame of a replay.
 */
import { isBefore } from "./capabilities.ts";

/** The machine as the guest sees it: equal in recording and replay. */
export interface VmHardware {
  readonly name: string;
  readonly number: number;
  readonly memoryMiB: number;
  /** `pc` or `q35`, or one of their versions, with properties: `q35,sata=off`. */
  readonly machine: string;
  readonly cpu: string;
  /** An instruction takes `2^icountShift` ns of guest time. */
  readonly icountShift: number;
  /** QEMU's device name, `vmxnet3`. */
  readonly nic: string;
  readonly mac: string;
  readonly kernel: string;
  readonly initrd?: string;
  readonly kernelArgs: string;
  /**
   * What the guest's clock shows when it starts, UTC, `2026-01-31T12:00:00`. The clock then runs on
   * guest time: one that followed the host's would log it at every turn of QEMU's main loop, which
   * makes up most of a compressed log.
   */
  readonly rtcBase: string;
  readonly disks: readonly { readonly name: string }[];
  /** Whether the run feeds text into the serial console. */
  readonly serialInput: boolean;
  /** Whether a reset by the guest starts the machine again instead of ending QEMU. */
  readonly restarts: boolean;
}

/** What the run is for. Paths are absolute; a tap is a device in the network namespace of QEMU. */
export type RunMode =
  /** `icount` without an event log: what recording is measured against. */
  | { readonly kind: "plain"; readonly tap: string }
  | {
    readonly kind: "record";
    readonly tap: string;
    /** The FIFO (or file) that QEMU writes its event log to. */
    readonly rrLog: string;
    /** A Unix socket on which QEMU hands out every sent frame: u32 length, big-endian, then the bytes. */
    readonly capture: string;
  }
  | {
    readonly kind: "replay";
    readonly rrLog: string;
    readonly capture?: string;
    /** A Unix socket with a human monitor, through which QEMU's main loop is woken. */
    readonly waker?: string;
    /** The replay begins in this snapshot instead of at the start of the log. */
    readonly snapshot?: string;
    /** A Unix socket with QEMU's gdbstub. The guest sees nothing of it. */
    readonly gdb?: string;
  }
  /**
   * A boot for a snapshot. It counts instructions as a recording does, or QEMU could not record what
   * starts from the snapshot; nothing of its log is kept.
   */
  | {
    readonly kind: "boot";
    /** An inherited descriptor of the VM's tap. */
    readonly tapFd: number;
    /** A Unix socket on which QEMU hands out every frame that it took from the tap. */
    readonly received: string;
  }
  /** QEMU's own record/replay without our capture, for the benchmark. */
  | { readonly kind: "stock-record"; readonly tap: string; readonly rrLog: string }
  | { readonly kind: "stock-replay"; readonly rrLog: string };

/** The files of one run of a VM, absolute. */
export interface VmPaths {
  /** The monitor's Unix socket, which QEMU creates. */
  readonly qmp: string;
  /** What the guest prints on its serial console. */
  readonly console: string;
  /** The run's own qcow2 overlay of each disk, in the order of `VmHardware.disks`. */
  readonly overlays: readonly string[];
  /**
   * The VM starts from a snapshot: the run's own overlay of the file with its state. `overlays` are
   * then overlays of the snapshot's disk files. For a boot: the file that the state is saved to.
   */
  readonly state?: string;
  /** Whether the overlays are those of a snapshot's disks. Default: whether there is a `state`. */
  readonly disksNested?: boolean;
  /** The base of the FIFO pair `BASE.in`, `BASE.out` that a recording with serial input uses. */
  readonly serialInput?: string;
}

export interface CommandLineOptions {
  readonly qemu: { readonly path: string; readonly version: string };
  /** Wait for `cont` before the first instruction. Default: true for `record` and `replay`. */
  readonly paused?: boolean;
}

/** The whole command line, the program first. Throws plain `Error` where the arguments contradict. */
export function buildCommandLine(
  vm: VmHardware,
  mode: RunMode,
  paths: VmPaths,
  { qemu, paused = PAUSED.has(mode.kind) }: CommandLineOptions,
): string[] {
  return [
    qemu.path,
    ...["-name", quoted(vm.name)],
    ...["-machine", vm.machine, "-accel", "tcg", "-cpu", vm.cpu, "-smp", "1"],
    ...["-m", `${vm.memoryMiB}`, "-icount", icount(vm, mode)],
    ...["-rtc", `base=${vm.rtcBase},clock=vm`],
    ...["-nodefaults", "-no-user-config", "-display", "none"],
    ...(vm.restarts ? RESTART : ["-no-reboot"]),
    ...["-kernel", vm.kernel],
    ...(vm.initrd === undefined ? [] : ["-initrd", vm.initrd]),
    ...["-append", vm.kernelArgs],
    ...state(mode, paths),
    ...vmState(mode), // QEMU looks for the machine state in the first drive that holds snapshots
    ...disks(vm, mode, paths),
    ...network(vm, mode, qemu.version),
    ...["-serial", serial(vm, mode, paths)],
    ...["-chardev", `socket,id=qmp,path=${quoted(paths.qmp)},server=on,wait=off`],
    ...["-mon", "chardev=qmp,mode=control"],
    ...waker(mode),
    ...gdbstub(mode),
    ...(paused ? ["-S"] : []),
  ];
}

/**
 * What a machine needs that can be reset while its events are logged. Where the local APIC has the device that
 * speeds up its task priority (kvmvapic), the reset of that waits for the vCPU, and the vCPU waits for the lock of
 * the log, which whoever resets holds: QEMU 7.2 stands still (hw/i386/kvmvapic.c, `vapic_reset`,
 * `vapic_enable_tpr_reporting`). Only guests of 32 bits without KVM's interfaces would make use of it.
 */
const RESTART: readonly string[] = ["-global", "apic-common.vapic=off"];

const PAUSED: ReadonlySet<RunMode["kind"]> = new Set(["boot", "record", "replay"]);

/** The name of the snapshot inside the file with the state of a VM that was booted for one. */
export const BOOT_TAG = "boot";
/** The name of the snapshot inside the file with the state of a replayed VM. */
export const CHECKPOINT_TAG = "clusterrr";

/** `record`, `replay`, or nothing: what QEMU's `rr=` says. */
function rrOf(mode: RunMode): "record" | "replay" | undefined {
  switch (mode.kind) {
    case "boot":
    case "record":
    case "stock-record":
      return "record";
    case "replay":
    case "stock-replay":
      return "replay";
    case "plain":
      return undefined;
  }
}

function icount(vm: VmHardware, mode: RunMode): string {
  const shift = `shift=${vm.icountShift}`;
  if (mode.kind === "plain") return shift;
  const snapshot = snapshotOf(mode) === undefined ? "" : `,rrsnapshot=${CHECKPOINT_TAG}`;
  const log = mode.kind === "boot" ? "/dev/null" : mode.rrLog;
  return `${shift},rr=${rrOf(mode)},rrfile=${quoted(log)}${snapshot}`;
}

/** The block node of a disk's overlay, which snapshots name. */
export function diskNode(index: number): string {
  return `overlay${index}`;
}

/**
 * A drive without a device, which no guest sees: QEMU saves a VM's state into it and loads it from
 * there. It has to be writable even for loading, hence the overlay.
 */
function state(mode: RunMode, paths: VmPaths): string[] {
  if (paths.state === undefined) return [];
  const drive = "if=none,id=vmstate";
  if (mode.kind === "boot") return ["-drive", `${drive},format=qcow2,file=${quoted(paths.state)}`];
  return ["-drive", `${drive},${nested(paths.state)}`, "-loadvm", BOOT_TAG];
}

function isNested(mode: RunMode, paths: VmPaths): boolean {
  return mode.kind !== "boot" && (paths.disksNested ?? paths.state !== undefined);
}

/**
 * A qcow2 file with snapshots in it, seen through an overlay that takes the writes: snapshots are no
 * part of what an ordinary overlay shows of its backing file, but here the file itself is the content.
 */
function nested(overlay: string): string {
  return "driver=qcow2,file.driver=qcow2,file.file.driver=file," +
    `file.file.filename=${quoted(overlay)}`;
}

/**
 * With an event log, `blkreplay` ties the completion of disk requests to instructions. Not so in a
 * boot: it numbers its requests, and a recording that starts from a snapshot counts anew from 0 where
 * its replay would go on with the number that was saved (QEMU replay/replay-snapshot.c).
 */
function disks(vm: VmHardware, mode: RunMode, paths: VmPaths): string[] {
  if (paths.overlays.length !== vm.disks.length) {
    throw new Error(`VM ${vm.name}: ${vm.disks.length} disks, ${paths.overlays.length} overlays`);
  }
  return paths.overlays.flatMap((overlay, i) => {
    const source = isNested(mode, paths) ? nested(overlay) : `file=${quoted(overlay)},format=qcow2`;
    const file = `${source},if=none,id=disk${i},node-name=${diskNode(i)}`;
    const device = (drive: string) => ["-device", `virtio-blk-pci,drive=${drive}`];
    if (mode.kind === "plain" || mode.kind === "boot") {
      return ["-drive", file, ...device(`disk${i}`)];
    }
    const replayed = `driver=blkreplay,image=disk${i},if=none,id=disk${i}rr`;
    return ["-drive", file, "-drive", replayed, ...device(`disk${i}rr`)];
  });
}

function network(vm: VmHardware, mode: RunMode, qemuVersion: string): string[] {
  const backend = mode.kind === "boot"
    ? `tap,id=n0,fd=${mode.tapFd}`
    : "tap" in mode
    ? `tap,id=n0,ifname=${mode.tap},script=no,downscript=no,vnet_hdr=off`
    : "hubport,id=n0,hubid=0";
  const device = `${vm.nic},netdev=n0,mac=${vm.mac},romfile=${nicOptions(vm.nic, qemuVersion)}`;
  const args = ["-netdev", backend, "-device", device];
  if (mode.kind === "boot") {
    args.push("-chardev", `socket,id=rcv0,path=${quoted(mode.received)},server=on,wait=off`);
    args.push("-object", "filter-mirror,id=rcv,netdev=n0,queue=tx,outdev=rcv0");
    return args;
  }
  if (mode.kind !== "plain") args.push("-object", "filter-replay,id=rr,netdev=n0");
  if ("capture" in mode && mode.capture !== undefined) {
    args.push("-chardev", `socket,id=cap0,path=${quoted(mode.capture)},server=on,wait=off`);
    args.push("-object", "filter-mirror,id=cap,netdev=n0,queue=rx,outdev=cap0");
  }
  return args;
}

/** Before QEMU 9.1, virtio-net sends from a bottom half, which a replay does not repeat; a timer is. */
function nicOptions(nic: string, qemuVersion: string): string {
  return nic.startsWith("virtio-net") && isBefore(qemuVersion, "9.1")
    ? ",tx=timer,x-txtimer=1000"
    : "";
}

function waker(mode: RunMode): string[] {
  if (mode.kind !== "replay" || mode.waker === undefined) return [];
  const backend = `socket,id=wake,path=${quoted(mode.waker)},server=on,wait=off`;
  return ["-chardev", backend, "-mon", "chardev=wake,mode=readline"];
}

function snapshotOf(mode: RunMode): string | undefined {
  return mode.kind === "replay" ? mode.snapshot : undefined;
}

/** The drive that a snapshot's machine state lies in. It has no device: the guest does not see it. */
function vmState(mode: RunMode): string[] {
  const snapshot = snapshotOf(mode);
  if (snapshot === undefined) return [];
  return ["-drive", `file=${quoted(snapshot)},format=qcow2,if=none,id=vmstate`];
}

function gdbstub(mode: RunMode): string[] {
  if (mode.kind !== "replay" || mode.gdb === undefined) return [];
  const backend = `socket,id=gdb0,path=${quoted(mode.gdb)},server=on,wait=off`;
  return ["-chardev", backend, "-gdb", "chardev:gdb0"];
}

/** What was typed during a recording comes out of the event log in a replay. */
function serial(vm: VmHardware, mode: RunMode, paths: VmPaths): string {
  if (!vm.serialInput || rrOf(mode) === "replay") return `file:${paths.console}`;
  if (paths.serialInput === undefined) throw new Error(`VM ${vm.name}: no FIFO for serial input`);
  return `pipe:${paths.serialInput}`;
}

/** QEMU's option syntax separates by commas and reads two as one. */
function quoted(value: string): string {
  return value.replaceAll(",", ",,");
}
