/**
 * Which host each VM of a cluster runs on, and which has the uplink.
 *
 * ```
 * cluster file's vms[].host ──▶ as they say ─┐
 * hosts of the coordinator ──▶ the others spread ─┴─▶ VM number ─▶ host ─▶ the uplink's host
 * ```
 * It depends on its arguments only, not on the order of the hosts: a coordinator that starts again places
 * alike.
 */
import { ClusterrrError } from "../errors.ts";
import type { VmNumber } from "../units.ts";
import type { ClusterSpec, VmSpec } from "./spec.ts";
import { nearestName } from "./spelling.ts";

/** A host that VMs can be placed on. */
export interface HostCapacity {
  readonly name: string;
  readonly cores: number;
  /** Memory that its VMs may take, all together. */
  readonly memoryMiB: number;
  /** It keeps what it has and gets nothing new. */
  readonly drained: boolean;
}

/** Of a cluster, what its placement depends on. */
export interface PlaceableCluster {
  readonly network: ClusterSpec["network"];
  readonly vms: readonly Pick<VmSpec, "number" | "name" | "host" | "memoryMiB">[];
}

/** What a host has been given so far. */
interface Load {
  readonly host: HostCapacity;
  vms: number;
  memoryMiB: number;
}

/**
 * Places every VM. Those that name a host get it, even if its memory is short: the user may know better.
 * The others follow, the largest first, each to the host that will have the fewest VMs a core; among
 * equals, the least of its memory taken; then by name. A VM is one busy thread, so cores come first.
 * @returns the host's name of every VM, in the order of the cluster file
 * @throws {ClusterrrError} with every VM that cannot be placed, and the hosts there are
 */
export function placeVms(
  cluster: PlaceableCluster,
  unsorted: readonly HostCapacity[],
): Map<VmNumber, string> {
  const hosts = byName(unsorted);
  const loads = new Map(
    hosts.map((host): [string, Load] => [host.name, { host, vms: 0, memoryMiB: 0 }]),
  );
  const problems: string[] = [];
  const places = new Map<VmNumber, string>();
  const put = (vm: PlaceableCluster["vms"][number], load: Load) => {
    load.vms++;
    load.memoryMiB += vm.memoryMiB;
    places.set(vm.number, load.host.name);
  };
  for (const vm of cluster.vms) {
    if (vm.host === undefined) continue;
    const wrong = objectionTo(vm.host, hosts);
    if (wrong === undefined) put(vm, loads.get(vm.host)!);
    else problems.push(`VM ${vm.name}: ${wrong}`);
  }
  const open = [...loads.values()].filter(({ host }) => !host.drained);
  const free = cluster.vms.filter((vm) => vm.host === undefined)
    .toSorted((a, b) => b.memoryMiB - a.memoryMiB || a.number - b.number);
  if (open.length === 0 && free.length > 0) {
    const which = hosts.length === 0 ? "no host is connected" : "every host is drained";
    throw refused([...problems, `no host for ${namesOf(free)}: ${which}`], hosts);
  }
  for (const vm of free) {
    const fitting = open.filter((load) => load.memoryMiB + vm.memoryMiB <= load.host.memoryMiB);
    if (fitting.length > 0) put(vm, fitting.reduce((a, b) => isBetter(b, a, vm.memoryMiB) ? b : a));
    else problems.push(`VM ${vm.name}: no host has ${vm.memoryMiB} MiB left; place it by "host:"`);
  }
  if (problems.length > 0) throw refused(problems, hosts);
  return new Map(cluster.vms.map(({ number }) => [number, places.get(number)!]));
}

/**
 * The host of the uplink: the one that the cluster file names, else the first by name that has VMs.
 * @param places as {@link placeVms} made them
 * @returns `undefined` where the cluster has no uplink
 * @throws {ClusterrrError} where the named host cannot have it
 */
export function placeUplink(
  { network: { uplink } }: PlaceableCluster,
  unsorted: readonly HostCapacity[],
  places: ReadonlyMap<VmNumber, string>,
): string | undefined {
  if (uplink === undefined) return undefined;
  if (uplink.host === undefined) return [...places.values()].sort(compareNames)[0];
  const hosts = byName(unsorted);
  const wrong = objectionTo(uplink.host, hosts);
  if (wrong !== undefined) throw refused([`network.uplink: ${wrong}`], hosts);
  return uplink.host;
}

/** What to tell the user of a cluster whose placement does not count, since all of it runs here. */
export function placementNote(cluster: PlaceableCluster): string | undefined {
  const named = [...cluster.vms.map(({ host }) => host), cluster.network.uplink?.host]
    .filter((host) => host !== undefined);
  if (named.length === 0) return undefined;
  const hosts = [...new Set(named)].sort(compareNames).join(", ");
  return `The cluster file names the hosts ${hosts}; without a coordinator all of it runs on this one.`;
}

/** The cluster without its placement: that is not part of what the VMs are. */
export function withoutPlacement(spec: ClusterSpec): ClusterSpec {
  const { uplink } = spec.network;
  return {
    ...spec,
    network: uplink === undefined ? {} : { uplink: { address: uplink.address, nat: uplink.nat } },
    vms: spec.vms.map(({ host: _, ...vm }) => vm),
  };
}

/** Whether `a` is the better of two hosts for one more VM of `memoryMiB`; `b` has the smaller name. */
function isBetter(a: Load, b: Load, memoryMiB: number): boolean {
  // Compared by cross multiplication: no rounding makes two equal hosts differ.
  const cores = (a.vms + 1) * b.host.cores - (b.vms + 1) * a.host.cores;
  if (cores !== 0) return cores < 0;
  return (a.memoryMiB + memoryMiB) * b.host.memoryMiB <
    (b.memoryMiB + memoryMiB) * a.host.memoryMiB;
}

/** Why nothing can be placed on the host `name`, if so. */
function objectionTo(name: string, hosts: readonly HostCapacity[]): string | undefined {
  const host = hosts.find((each) => each.name === name);
  if (host?.drained) return `host ${name} is drained; undrain it or choose another`;
  if (host !== undefined) return undefined;
  const nearest = nearestName(name, hosts.map((each) => each.name));
  return `there is no host ${name}${nearest === undefined ? "" : `; did you mean ${nearest}?`}`;
}

function refused(problems: readonly string[], hosts: readonly HostCapacity[]): ClusterrrError {
  const there = hosts.map(({ name, cores, memoryMiB, drained }) =>
    `${name} (${cores} cores, ${memoryMiB} MiB${drained ? ", drained" : ""})`
  );
  return new ClusterrrError(
    `The cluster cannot be placed:\n${problems.map((line) => `  - ${line}`).join("\n")}\n` +
      `Hosts: ${there.length === 0 ? "none" : there.join(", ")}`,
  );
}

function namesOf(vms: readonly { readonly name: string }[]): string {
  return `${vms.length === 1 ? "VM" : "VMs"} ${vms.map(({ name }) => name).join(", ")}`;
}

function byName(hosts: readonly HostCapacity[]): HostCapacity[] {
  return hosts.toSorted((a, b) => compareNames(a.name, b.name));
}

/** By code units: the same in every locale. */
function compareNames(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
