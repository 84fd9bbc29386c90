/**
 * The tunnel of a run: what carries frames between the bridges of two hosts while recording.
 *
 * ```
 * namespace clrr-<run>                          │ host's namespace
 *   bridge ── clrr<run>tn (VXLAN) ──────────────┼── UDP socket ── underlay ──▶ other hosts
 *             clrr_tunnel_out, clrr_tunnel_in   │
 * ```
 *
 * The device is made in the run's namespace, its UDP socket in the host's. It learns nothing: which VM
 * is behind which host is said beforehand, everything else goes to every host. It becomes a port of
 * the bridge only when the recorder has put its programs there ({@link joinTunnel}): no frame passes
 * without a trailer.
 *
 * The underlay may have a smaller MTU than the frames need: the outer IPv4 packets are then sent in
 * fragments. A lost fragment is a lost frame, as on any network.
 */
import { ClusterrrError, HostError } from "../lib/errors.ts";
import type { VmNumber } from "../lib/units.ts";
import { run } from "../host/command.ts";
import { isIpv4 } from "./cidr.ts";
import type { RunNames } from "./names.ts";

/** Bytes behind each frame inside the tunnel: `struct trailer` in recorder.bpf.c. */
export const TRAILER_BYTES = 40;
/** What a tap takes without its Ethernet header: an MTU of 1500 and a VLAN tag. */
const PAYLOAD_BYTES_MAX = 1504;
const VNI_MAX = 2 ** 24 - 1;
const COOKIE_MAX = 2n ** 64n - 1n;
const EVERYBODY = "00:00:00:00:00:00";
const ADVICE = "The tunnel needs a kernel with VXLAN (CONFIG_VXLAN) and bridge of iproute2.";

/** The tunnel of a run on one host; VNI, port and cookie are the same on all hosts of the recording. */
export interface TunnelPlan {
  /** The IPv4 address of this host that the others send to. */
  readonly local: string;
  /** UDP port. Runs at the same time may share one. */
  readonly port: number;
  /** VXLAN network identifier, 1 to 2^24−1; with the port unique on each host. */
  readonly vni: number;
  /** A random number from 1 to 2^64−1: frames without it are dropped. */
  readonly cookie: bigint;
  readonly remotes: readonly RemoteHost[];
}

/** Another host of the recording. */
export interface RemoteHost {
  /** Its IPv4 address. */
  readonly address: string;
  readonly vms: readonly { readonly number: VmNumber; readonly mac: string }[];
  /** The MAC address of the uplink's end on that host, if it has the uplink. */
  readonly uplinkMac?: string;
}

/** @throws {ClusterrrError} if the tunnel cannot work */
export function checkTunnel(plan: TunnelPlan, localVms: Iterable<VmNumber>): void {
  const fail = (text: string): never => {
    throw new ClusterrrError(`The tunnel between the hosts cannot be made: ${text}`);
  };
  const integer = (what: string, value: number, max: number) => {
    if (!Number.isInteger(value) || value < 1 || value > max) {
      fail(`${what} ${value} is not a number from 1 to ${max}`);
    }
  };
  integer("UDP port", plan.port, 65_535);
  integer("VNI", plan.vni, VNI_MAX);
  if (plan.cookie < 1n || plan.cookie > COOKIE_MAX) fail("its cookie is no number of 64 bits");
  const addresses = new Set<string>();
  for (const address of [plan.local, ...plan.remotes.map((remote) => remote.address)]) {
    if (address.includes(":")) {
      fail(`${address} is an IPv6 address; give every host an IPv4 address for it`);
    }
    if (!isIpv4(address)) fail(`"${address}" is not an IPv4 address`);
    if (/^(0|22[4-9]|2[3-5]\d)\./.test(address)) fail(`${address} is not the address of one host`);
    if (addresses.has(address)) fail(`two hosts have the address ${address}`);
    addresses.add(address);
  }
  const numbers = new Set(localVms);
  const macs = new Set<string>();
  for (const { vms, uplinkMac } of plan.remotes) {
    for (const { number } of vms) {
      if (numbers.has(number)) fail(`VM ${number} is on two hosts`);
      numbers.add(number);
    }
    for (const mac of [...vms.map((vm) => vm.mac), ...(uplinkMac ? [uplinkMac] : [])]) {
      const text = mac.toLowerCase();
      if (!/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/.test(text) || text === EVERYBODY) {
        fail(`"${mac}" is not the MAC address of one VM`);
      }
      if (macs.has(text)) fail(`two VMs have the MAC address ${mac}`);
      macs.add(text);
    }
  }
}

/**
 * Makes the tunnel in the run's namespace; its socket listens from here on.
 * @throws {ClusterrrError} where VNI or port are taken
 * @throws {HostError}
 */
export async function addTunnel(
  enter: readonly string[],
  names: RunNames,
  plan: TunnelPlan,
): Promise<void> {
  const { local, port, vni } = plan;
  const device = names.tunnel;
  const taken = (cause: unknown): never => {
    throw new ClusterrrError(
      `The tunnel between the hosts cannot be made: UDP port ${port} or VNI ${vni} is in use on ` +
        `this host.\nEnd the run that uses it ("clusterrr clean" removes what a crash left), or ` +
        `choose another port.`,
      { cause },
    );
  };
  const kind = `type vxlan id ${vni} local ${local} dstport ${port} nolearning udpcsum ttl 64`;
  try {
    // Made in the namespace that `netns` names; its socket belongs to the one that ip runs in.
    await run(["ip", "link", "add", device, "netns", names.netns, ...kind.split(" ")], {
      advice: ADVICE,
    });
  } catch (error) {
    // In the kernel's words, or of one that has none.
    const exists = /VXLAN device with the specified VNI already exists|File exists/;
    if (error instanceof HostError && exists.test(error.stderr)) taken(error);
    throw error;
  }
  const mtu = PAYLOAD_BYTES_MAX + TRAILER_BYTES;
  try {
    await run([...enter, "ip", "link", "set", device, "mtu", `${mtu}`, "up"], { advice: ADVICE });
  } catch (error) {
    if (error instanceof HostError && error.stderr.includes("Address already in use")) taken(error);
    throw error;
  }
  const entries = plan.remotes.flatMap(({ address, vms, uplinkMac }) => [
    `fdb append ${EVERYBODY} dev ${device} dst ${address} self permanent`,
    ...[...vms.map((vm) => vm.mac), ...(uplinkMac ? [uplinkMac] : [])]
      .map((mac) => `fdb add ${mac} dev ${device} dst ${address} self permanent`),
  ]);
  if (entries.length === 0) return;
  await run([...enter, "bridge", "-batch", "-"], { stdin: entries.join("\n"), advice: ADVICE });
}

/** Makes the tunnel a port of the bridge: frames pass from here on. @throws {HostError} */
export async function joinTunnel(enter: readonly string[], names: RunNames): Promise<void> {
  await run([...enter, "ip", "link", "set", names.tunnel, "master", names.bridge]);
}

/** Undoes {@link joinTunnel}; a tunnel that is gone already does not matter. */
export async function leaveTunnel(enter: readonly string[], names: RunNames): Promise<void> {
  try {
    await run([...enter, "ip", "link", "set", names.tunnel, "nomaster"]);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
  }
}
