/** Checks once, before anything is made, that this process may change the host's network. */
import { HostError } from "../lib/errors.ts";

const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;
const EPERM = 1;
/** What to do about whatever only root may, and in a container only a privileged one. */
export const PRIVILEGE_ADVICE =
  "Run clusterrr as root (sudo clusterrr …); in a container, with --privileged.";

/**
 * @param status the text of `/proc/self/status`; a parameter for tests
 * @throws {HostError} with EPERM and advice
 */
export function requireNetworkPrivileges(
  status: string = Deno.readTextFileSync("/proc/self/status"),
): void {
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`);
  const missing = [["CAP_NET_ADMIN", CAP_NET_ADMIN], ["CAP_SYS_ADMIN", CAP_SYS_ADMIN]] as const;
  const names = missing.filter(([, bit]) => (effective >> bit & 1n) === 0n).map(([name]) => name);
  if (names.length === 0) return;
  throw new HostError(
    "setting up the cluster's network",
    EPERM,
    `this process lacks ${names.join(" and ")}`,
    PRIVILEGE_ADVICE,
  );
}
