/**
 * The MAC addresses of a cluster's VMs: the ones the file gives, and for the others ones made from
 * names, so that the same file gives the same addresses on every host and every run.
 */
import { createHash } from "node:crypto";

/** QEMU's and KVM's customary prefix: locally administered, unicast. */
const PREFIX = "52:54:00";

/** Whether the address names one card: not a group, not all zero. */
export function isUnicast(mac: string): boolean {
  return (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0 && mac !== "00:00:00:00:00:00";
}

/** An address for VM `vm` of `cluster` that is not in `taken`. */
export function makeMac(cluster: string, vm: string, taken: ReadonlySet<string>): string {
  for (let attempt = 0;; attempt++) {
    const digest = createHash("sha256").update(`${cluster}\0${vm}\0${attempt}`).digest("hex");
    const mac = `${PREFIX}:${digest.slice(0, 2)}:${digest.slice(2, 4)}:${digest.slice(4, 6)}`;
    if (!taken.has(mac)) return mac;
  }
}

/** The MAC address of the uplink's host end, where guests or other hosts have to know it beforehand. */
export function makeUplinkMac(spec: {
  readonly name: string;
  readonly vms: readonly { readonly mac: string }[];
}): string {
  return makeMac(spec.name, "the uplink's host end", new Set(spec.vms.map(({ mac }) => mac)));
}
