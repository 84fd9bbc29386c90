/**
 * The network of a run: what the frames of its VMs travel through while it is recorded.
 *
 * ```
 * host's namespace             │ namespace clrr-<run>
 *                              │
 *   clrr<run> ── veth pair ────┼── clrr<run>up ─┐
 *   address, nat (optional)    │                bridge clrr<run>br
 *                              │  clrr<run>v1 ──┤ │
 *                              │  clrr<run>v2 ────┘   a persistent tap per VM, opened by QEMU
 * ```
 *
 * Nothing but the VMs and the uplink's host may put a frame on the bridge: IPv6, STP and multicast
 * snooping are off, netfilter does not see bridged frames, no device but the host's uplink end has an
 * address. A tap is opened without virtio header, so the kernel gives it neither segmentation nor
 * checksum offload: large TCP frames of the host are cut and summed in front of the tap. The uplink's
 * host end has `gso_max_segs 1` besides, so that the host does not build them in the first place. No
 * ethtool is needed.
 */
import { ClusterrrError, errnoOf, HostError, messageOf } from "../lib/errors.ts";
import type { VmNumber } from "../lib/units.ts";
import { run } from "../host/command.ts";
import { inNetns } from "../host/libc.ts";
import { acceptCommand, findForwardDrops } from "../host/nftables.ts";
import { type Cidr, parseCidr, subnetOf, subnetsOverlap } from "./cidr.ts";
import { BPFFS, namesOf, NETNS_DIRECTORY, type RunNames, runOf, tapName } from "./names.ts";
import { disableNat, enableNat, findNatRuns } from "./nat.ts";
import { disableChecksumOffload } from "./offload.ts";
import { removePins } from "./pins.ts";
import { PRIVILEGE_ADVICE, requireNetworkPrivileges } from "./privileges.ts";
import { addTunnel, checkTunnel, type TunnelPlan } from "./tunnel.ts";

/** Ports of a Linux bridge (BR_MAX_PORTS, net/bridge/br_private.h); one is for the uplink. */
const VMS_MAX = 1022;
/** Frames a tap holds for its VM; a full tap loses frames, so far more than the default 500. */
export const TAP_QUEUE_FRAMES = 10_000;
const ADVICE = "The network needs iproute2 and util-linux: apt install iproute2 util-linux.";

/** What to build. */
export interface NetworkPlan {
  /** Six characters of a–z and 0–9, unique on the host. */
  readonly run: string;
  readonly vms: readonly { readonly number: VmNumber; readonly name: string }[];
  /** A way out: the host's end of it with its address (`10.77.0.254/24`), and whether to masquerade. */
  readonly uplink?: {
    readonly address: string;
    readonly nat: boolean;
    /** The MAC address of the host's end; default: a random one. */
    readonly mac?: string;
  };
  /** The way to the VMs of other hosts. */
  readonly tunnel?: TunnelPlan;
}

/** A network that exists. */
export interface Network {
  /** The path of its namespace, `/run/netns/clrr-<run>`. */
  readonly netns: string;
  /** What the user should know of it, a line each. */
  readonly notes: readonly string[];
  /** The name of a VM's tap. @throws {Error} for a VM that is not in the plan */
  tapOf(vm: VmNumber): string;
  /** What to put before a command to run it inside: `["nsenter", "--net=…"]`. */
  readonly enter: readonly string[];
  /** Lets no frame pass any more: what VMs send from now on reaches nobody. */
  cut(): Promise<void>;
  /** Takes it down. Close every tap first: an open one keeps the namespace alive, without its name. */
  remove(): Promise<void>;
}

/**
 * Builds the network of `plan`. On any failure what was made is removed again.
 * @throws {ClusterrrError} if the plan cannot work: too many VMs, an address that is wrong or in use
 * @throws {HostError} if a command fails; EPERM without the privileges
 */
export async function createNetwork(plan: NetworkPlan): Promise<Network> {
  const names = namesOf(plan.run);
  const taps = new Map(plan.vms.map((vm) => [vm.number, tapName(plan.run, vm.number)]));
  if (taps.size !== plan.vms.length) throw new Error("two VMs of the plan have the same number");
  const room = plan.tunnel === undefined ? VMS_MAX : VMS_MAX - 1;
  if (taps.size > room) {
    throw new ClusterrrError(
      `${taps.size} VMs on one host: a bridge has room for ${room}. Use more hosts.`,
    );
  }
  const uplink = plan.uplink && { ...plan.uplink, cidr: parseCidr(plan.uplink.address) };
  if (plan.tunnel !== undefined) checkTunnel(plan.tunnel, taps.keys());
  requireNetworkPrivileges();
  if (uplink !== undefined) await refuseUsedSubnet(uplink.cidr, uplink.address);

  const undo: (() => Promise<unknown>)[] = [];
  const enter = ["nsenter", `--net=${names.netnsPath}`];
  try {
    await run(["ip", "netns", "add", names.netns], { advice: ADVICE });
    undo.push(() => run(["ip", "netns", "delete", names.netns]));
    quietNamespace(names.netnsPath);
    await addBridge(enter, names.bridge, [...taps.values()]);
    if (plan.tunnel !== undefined) {
      undo.push(() => removeTunnel(names));
      await addTunnel(enter, names, plan.tunnel);
    }
    if (uplink !== undefined) {
      const kind = ["type", "veth", "peer", "name", names.uplinkPort, "netns", names.netns];
      const mac = uplink.mac === undefined ? [] : ["address", uplink.mac];
      await run(["ip", "link", "add", names.uplink, ...mac, ...kind]);
      undo.push(() => run(["ip", "link", "delete", names.uplink]));
      // A checksum that is left to a device would be made over the trailer of the tunnel as well.
      if (plan.tunnel !== undefined) disableChecksumOffload(names.uplink);
      await configureUplink(enter, names, uplink.address);
      if (uplink.nat) await enableNat(plan.run, subnetOf(uplink.cidr)); // all or nothing by itself
    }
  } catch (error) {
    // What cannot be undone now has the run's name on it: `clusterrr clean` finds it.
    for (const step of undo.reverse()) await step().catch(() => {});
    throw error;
  }
  const drops = uplink?.nat ? await findForwardDrops() : [];
  return {
    netns: names.netnsPath,
    enter,
    notes: drops.map((chain) =>
      `NAT may not work: the firewall's chain ${chain} drops what none of its rules accepts. ` +
      `To let the VMs through, as root: ${acceptCommand(chain)}`
    ),
    tapOf: (vm) => {
      const tap = taps.get(vm);
      if (tap === undefined) throw new Error(`VM ${vm} is not in the plan of run ${plan.run}`);
      return tap;
    },
    cut: async () => {
      await run([...enter, "ip", "link", "set", names.bridge, "down"], { advice: ADVICE });
    },
    remove: async () => void await removeNetwork(plan.run),
  };
}

/** Two devices with the same subnet: the host would send the VMs' frames to the wrong one. */
async function refuseUsedSubnet(wanted: Cidr, text: string): Promise<void> {
  const devices: { ifname: string; addr_info: { local: string; prefixlen: number }[] }[] = JSON
    .parse(await run(["ip", "-j", "-4", "address", "show"], { advice: ADVICE }));
  for (const { ifname, addr_info } of devices) {
    for (const { local, prefixlen } of addr_info) {
      if (prefixlen < 1 || prefixlen > 30) continue; // point to point: no subnet behind it
      if (!subnetsOverlap(wanted, parseCidr(`${local}/${prefixlen}`))) continue;
      throw new ClusterrrError(
        `The uplink's address ${text} overlaps ${local}/${prefixlen} on ${ifname}: ` +
          `choose another subnet, or end the run that uses it ("clusterrr clean").`,
      );
    }
  }
}

/** Settings that devices made later inherit, or that only some kernels have. */
function quietNamespace(netnsPath: string): void {
  const settings: [path: string, value: string][] = [
    ["ipv6/conf/all/disable_ipv6", "1"],
    ["ipv6/conf/default/disable_ipv6", "1"],
    ["bridge/bridge-nf-call-iptables", "0"],
    ["bridge/bridge-nf-call-ip6tables", "0"],
    ["bridge/bridge-nf-call-arptables", "0"],
    ["core/rps_default_mask", "0"], // steering receives to other CPUs would reorder a VM's sends
  ];
  inNetns(netnsPath, () => {
    for (const [path, value] of settings) writeSetting(`/proc/sys/net/${path}`, value);
  });
}

/** @throws {HostError} where /proc/sys is read-only, as in most containers */
function writeSetting(path: string, value: string): void {
  try {
    Deno.writeTextFileSync(path, value, { create: false });
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return; // a kernel without the feature
    const errno = errnoOf(cause) ?? 0;
    throw new HostError(`writing ${path}`, errno, messageOf(cause), PRIVILEGE_ADVICE, { cause });
  }
}

async function addBridge(enter: readonly string[], bridge: string, taps: string[]): Promise<void> {
  const links = [
    `link add ${bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0`,
    `link set ${bridge} up`,
    ...taps.flatMap((tap) => [
      `tuntap add dev ${tap} mode tap`, // persistent; neither vnet_hdr nor multi_queue
      `link set ${tap} txqueuelen ${TAP_QUEUE_FRAMES} master ${bridge} up`,
    ]),
  ];
  await run([...enter, "ip", "-batch", "-"], { stdin: links.join("\n") + "\n", advice: ADVICE });
  // A real queue, whatever the host's default: its lock is what keeps a tap's deliveries in order.
  const queues = taps.map((tap) => `qdisc replace dev ${tap} root pfifo_fast\n`);
  await run([...enter, "tc", "-batch", "-"], { stdin: queues.join(""), advice: ADVICE });
}

async function configureUplink(
  enter: readonly string[],
  names: RunNames,
  address: string,
): Promise<void> {
  writeSetting(`/proc/sys/net/ipv6/conf/${names.uplink}/disable_ipv6`, "1");
  const port = ["ip", "link", "set", names.uplinkPort, "master", names.bridge, "up"];
  await run([...enter, ...port]);
  const hostEnd = [
    `link set ${names.uplink} gso_max_segs 1 up`,
    `address add ${address} dev ${names.uplink}`,
  ];
  await run(["ip", "-batch", "-"], { stdin: hostEnd.join("\n") + "\n" });
}

/**
 * Removes everything that run `run` left on this host, whether or not it ended well, and says what
 * that was, for example `netns clrr-ab12cd`. Idempotent. Used by `clusterrr clean`.
 * @throws {HostError} the first, once all that can be removed is
 */
export async function removeNetwork(run: string): Promise<string[]> {
  const names = namesOf(run);
  requireNetworkPrivileges();
  const steps: [what: string, remove: () => Promise<boolean>][] = [
    [`bpf pins ${names.pins}`, () => removePins(names.pins)],
    [`nft table ${names.natTable}`, () => disableNat(run)],
    [`link ${names.uplink}`, () => removedByIp("link", names.uplink)],
    [`link ${names.tunnel}`, () => removeTunnel(names)],
    [`netns ${names.netns}`, () => removedByIp("netns", names.netns)],
  ];
  const removed: string[] = [];
  const errors: unknown[] = [];
  for (const [what, remove] of steps) {
    await remove().then((was) => was && removed.push(what), (error) => errors.push(error));
  }
  if (errors.length > 0) throw errors[0];
  return removed;
}

/**
 * Deletes the tunnel, in the run's namespace or in this one; false where there is none. A namespace that
 * something holds open outlives its name: the tunnel's port must not be taken that long.
 */
async function removeTunnel(names: RunNames): Promise<boolean> {
  const left = directoryNames(NETNS_DIRECTORY).includes(names.netns);
  const inside = left && await removedByIp("link", names.tunnel, ["-n", names.netns]);
  return await removedByIp("link", names.tunnel) || inside;
}

/** Deletes a link or namespace by name; false where there is none. */
async function removedByIp(
  kind: "link" | "netns",
  name: string,
  where: readonly string[] = [],
): Promise<boolean> {
  try {
    await run(["ip", ...where, kind, "delete", name], { advice: ADVICE });
    return true;
  } catch (error) {
    // The last: a file of a namespace that has never come up, or is gone.
    const absent = /Cannot find device|No such file or directory|namespace.* failed: Invalid/;
    if (error instanceof HostError && absent.test(error.stderr)) return false;
    throw error;
  }
}

/**
 * The runs that have anything on this host: a namespace, an uplink, a tunnel, an nftables table or BPF pins.
 * It does not know which of them are going on right now; the caller does.
 * @throws {HostError}
 */
export async function findLeftNetworks(): Promise<string[]> {
  const links: { ifname: string }[] = JSON.parse(
    await run(["ip", "-j", "link", "show"], { advice: ADVICE }),
  );
  const found = [
    ...directoryNames(NETNS_DIRECTORY).map((name) => runOf("netns", name)),
    ...directoryNames(BPFFS).map((name) => runOf("pins", name)),
    ...links.map((link) => runOf("uplink", link.ifname) ?? runOf("tunnel", link.ifname)),
    ...await findNatRuns(),
  ];
  return [...new Set(found.filter((run) => run !== undefined))].sort();
}

function directoryNames(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].map((entry) => entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
