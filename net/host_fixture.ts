/**
 * Hosts for tests: network namespaces that are joined by an underlay, a switch with a cable to each.
 * What a host's agent does in its own namespace is done by {@link Host.act}.
 */
import { run } from "../host/command.ts";
import { HostError } from "../lib/errors.ts";
import { closeFd, errno, type Fd, libc, O_RDONLY, openFd } from "../host/libc.ts";
import { NETNS_DIRECTORY } from "./names.ts";
import { freshRun } from "./tap_fixture.ts";

const CLONE_NEWNET = 0x40000000;

/** One host. */
export interface Host {
  /** Its namespace, as `ip netns` knows it. */
  readonly netns: string;
  /** The end of its cable, in its namespace. */
  readonly device: string;
  /** Its other end, a port of the switch. */
  readonly port: string;
  /** 192.0.2.1 for the first (TEST-NET-1). */
  readonly address: string;
  /** Does `work` in the host's namespace, the commands that it runs included. One at a time. */
  act<T>(work: () => Promise<T>): Promise<T>;
}

/** What joins the hosts. */
export interface Underlay {
  readonly hosts: readonly Host[];
  /** The namespace of the switch. */
  readonly netns: string;
}

/** Runs `work` with `count` hosts on an underlay of the given MTU, and takes everything down. */
export async function withHosts(
  count: number,
  mtu: number,
  work: (underlay: Underlay) => Promise<void>,
): Promise<void> {
  const id = freshRun();
  const netns = `under-${id}`;
  const hosts = Array.from({ length: count }, (_, i) => makeHost(`host${i + 1}-${id}`, i + 1));
  const made: string[] = [];
  try {
    for (const name of [netns, ...hosts.map((host) => host.netns)]) {
      await run(["ip", "netns", "add", name]);
      made.push(name);
      for (const scope of ["all", "default"]) {
        await run([
          "ip",
          "netns",
          "exec",
          name,
          "sysctl",
          "-qw",
          `net.ipv6.conf.${scope}.disable_ipv6=1`,
        ]);
      }
    }
    await run(["ip", "-n", netns, "link", "add", "switch", "mtu", `${mtu}`, "type", "bridge"]);
    await run(["ip", "-n", netns, "link", "set", "switch", "up"]);
    for (const { netns: host, device, port, address } of hosts) {
      const lines = [
        `link add ${port} mtu ${mtu} type veth peer name ${device} mtu ${mtu} netns ${host}`,
        `link set ${port} master switch up`,
      ];
      await run(["ip", "-n", netns, "-batch", "-"], { stdin: lines.join("\n") });
      const own = [
        `link set lo up`,
        `link set ${device} up`,
        `address add ${address}/24 dev ${device}`,
      ];
      await run(["ip", "-n", host, "-batch", "-"], { stdin: own.join("\n") });
    }
    await work({ hosts, netns });
  } finally {
    for (const name of made.reverse()) await run(["ip", "netns", "delete", name]);
  }
}

function makeHost(netns: string, number: number): Host {
  return {
    netns,
    device: "eth0",
    port: `port${number}`,
    address: `192.0.2.${number}`,
    act: async (work) => {
      const home = openFd("/proc/thread-self/ns/net", O_RDONLY);
      const there = openFd(`${NETNS_DIRECTORY}/${netns}`, O_RDONLY);
      try {
        enterNetns(there);
        return await work();
      } finally {
        enterNetns(home);
        closeFd(there);
        closeFd(home);
      }
    },
  };
}

function enterNetns(fd: Fd): void {
  if (libc().setns(fd, CLONE_NEWNET) < 0) throw new HostError("setns", errno(), "");
}
