/**
 * A cluster as the rest of clusterrr sees it: what a cluster file says with every default filled in
 * and every path absolute. `cluster_file.ts` makes one; nothing else reads the YAML.
 */
import type { VmNumber } from "../units.ts";

/** The VMs that are recorded together, their machine and their network. */
export interface ClusterSpec {
  readonly name: string;
  readonly network: NetworkSpec;
  readonly qemu: MachineSpec;
  readonly vms: readonly VmSpec[];
}

/** Without an uplink the cluster's bridge reaches nothing but its VMs. */
export interface NetworkSpec {
  readonly uplink?: {
    /** The host's own address on the bridge, with the prefix length: `10.77.0.254/24`. */
    readonly address: string;
    /** Whether the VMs reach the host's networks through it. */
    readonly nat: boolean;
    /** The host that has it; see `placement.ts`. */
    readonly host?: string;
  };
}

/** The machine that every VM of the cluster is. */
export interface MachineSpec {
  /** A program on PATH, or an absolute path. */
  readonly program: string;
  readonly machine: string;
  readonly cpu: string;
  /** An instruction takes `2^icountShift` ns of guest time. */
  readonly icountShift: number;
  /** QEMU's device name of the network card. */
  readonly nic: string;
}

/** One VM. Its disk images are only ever read: what the guest writes goes to an overlay of the run. */
export interface VmSpec {
  /** From 1, in the order of the file. */
  readonly number: VmNumber;
  readonly name: string;
  /** The host that it is placed on; see `placement.ts`. */
  readonly host?: string;
  readonly memoryMiB: number;
  readonly kernel: string;
  readonly initrd?: string;
  /** The profile's guest arguments, the defaults' and the VM's own, in that order. */
  readonly kernelArgs: string;
  readonly disks: readonly DiskSpec[];
  /** Lower case, colons between the bytes. */
  readonly mac: string;
  /** Text to feed into the serial console. */
  readonly serialInput?: string;
  /** A reboot of its guest starts the machine again; otherwise it ends the VM. */
  readonly onReboot?: "restart";
}

export interface DiskSpec {
  readonly image: string;
  readonly format: "qcow2" | "raw";
}
