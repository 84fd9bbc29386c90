/**
 * The names of everything that a run puts on a host. Each holds the run's id, so that what a crash
 * left behind can be found and removed by name.
 */
import type { VmNumber } from "../lib/units.ts";

/** Longest device name of Linux (IFNAMSIZ without its NUL). */
const DEVICE_NAME_BYTES_MAX = 15;
const RUN_ID = "[a-z0-9]{6}";

/** Where the host keeps named network namespaces (`ip netns`). */
export const NETNS_DIRECTORY = "/run/netns";
/** Where the BPF file system is mounted. */
export const BPFFS = "/sys/fs/bpf";

/** The names of one run. */
export interface RunNames {
  /** `clrr-<run>`: the network namespace, in `ip netns`. */
  readonly netns: string;
  readonly netnsPath: string;
  /** The bridge, inside the namespace. */
  readonly bridge: string;
  /** The uplink's end in the host's namespace. */
  readonly uplink: string;
  /** The uplink's other end, a port of the bridge. */
  readonly uplinkPort: string;
  /** The tunnel to other hosts, a port of the bridge. */
  readonly tunnel: string;
  /** The nftables table (family ip) with the masquerade rule. */
  readonly natTable: string;
  /** The directory of BPF pins. */
  readonly pins: string;
}

/** @throws {Error} if `run` is not six characters of a–z and 0–9 */
export function namesOf(run: string): RunNames {
  if (!new RegExp(`^${RUN_ID}$`).test(run)) throw new Error(`not a run id: "${run}"`);
  return {
    netns: `clrr-${run}`,
    netnsPath: `${NETNS_DIRECTORY}/clrr-${run}`,
    bridge: `clrr${run}br`,
    uplink: `clrr${run}`,
    uplinkPort: `clrr${run}up`,
    tunnel: `clrr${run}tn`,
    natTable: `clusterrr_${run}`,
    pins: `${BPFFS}/clrr-${run}`,
  };
}

/** The tap of VM `vm`. @throws {Error} if the number is none or too large for a device name */
export function tapName(run: string, vm: VmNumber): string {
  const name = `${namesOf(run).uplink}v${vm}`;
  if (!Number.isInteger(vm) || vm < 1 || name.length > DEVICE_NAME_BYTES_MAX) {
    throw new Error(`no tap for VM number ${vm}`);
  }
  return name;
}

/** The run that a name of ours belongs to; `undefined` for anybody else's. */
export function runOf(
  kind: "netns" | "uplink" | "tunnel" | "natTable" | "pins",
  name: string,
): string | undefined {
  const [prefix, suffix = ""] = {
    netns: ["clrr-"],
    uplink: ["clrr"],
    tunnel: ["clrr", "tn"],
    natTable: ["clusterrr_"],
    pins: ["clrr-"],
  }[kind];
  return new RegExp(`^${prefix}(${RUN_ID})${suffix}$`).exec(name)?.[1];
}
