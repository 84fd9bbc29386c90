/**
 * Hangs the recorder's programs on the ports of a bridge: `clrr_ingress` by a link, or by the `tc` command
 * from a pin in the BPF file system, `clrr_deliver` by an ioctl on each tap.
 */
import { HostError } from "../../lib/errors.ts";
import { run } from "../../host/command.ts";
import { closeFd, errno, type Fd, inNetns, libc } from "../../host/libc.ts";
import { BPFFS } from "../names.ts";
import { openTap } from "../tap.ts";
import { linkIngress } from "./bpf_syscall.ts";

const TUNSETFILTEREBPF = 0x800454e1n; // _IOR('T', 225, int), include/uapi/linux/if_tun.h
const NO_PROGRAM = -1;
const ADVICE = "The recorder needs tc of iproute2: apt install iproute2.";

/** Mounts the BPF file system where it is not mounted; it stays, as on every host with systemd. */
export async function mountBpffs(): Promise<void> {
  const mounts = await Deno.readTextFile("/proc/self/mounts");
  const mounted = mounts.split("\n").some((line) => {
    const [, where, type] = line.split(" ");
    return where === BPFFS && type === "bpf";
  });
  if (mounted) return;
  const advice = `The recorder needs the BPF file system at ${BPFFS}.`;
  await run(["mount", "-t", "bpf", "bpf", BPFFS], { advice });
}

/** A VM's port of the bridge, and its number in the network namespace. */
export interface TapPort {
  readonly tap: string;
  readonly ifindex: number;
}

/** Where devices are: the path of their namespace, and a command's argv that leads into it. */
export interface Place {
  readonly netns: string;
  /** `nsenter` does, `ip netns exec` and `tc -n` would hide the BPF file system. */
  readonly enter: readonly string[];
}

/**
 * Attaches the tc program `program`, pinned at `pin`, to the ingress of taps, by links where the kernel has them:
 * a frame then takes a shorter way to it than through a queueing discipline and a classifier.
 * @returns what takes it off again; links end with this process as well
 * @throws {HostError}
 */
export async function attachIngress(
  { netns, enter }: Place,
  taps: readonly TapPort[],
  program: Fd,
  pin: string,
): Promise<() => Promise<void>> {
  const links = linkAll(netns, taps, program);
  if (links !== undefined) {
    return () => {
      links.forEach(closeFd);
      return Promise.resolve();
    };
  }
  const devices = taps.map(({ tap }) => tap);
  try {
    await attachByTc(enter, devices, pin);
  } catch (error) {
    await detachIngress(enter, devices);
    throw error;
  }
  return () => detachIngress(enter, devices);
}

/** A link to each tap; `undefined` on a kernel that has no such links. */
function linkAll(netns: string, taps: readonly TapPort[], program: Fd): Fd[] | undefined {
  const links: Fd[] = [];
  try {
    for (const { ifindex } of taps) {
      const link = inNetns(netns, () => linkIngress(program, ifindex));
      if (link === undefined) {
        links.forEach(closeFd);
        return undefined;
      }
      links.push(link);
    }
    return links;
  } catch (error) {
    links.forEach(closeFd);
    throw error;
  }
}

/**
 * Attaches the tc program pinned at `pin` to the ingress of `devices`, in the namespace that `enter` leads into.
 * @throws {HostError}
 */
export async function attachByTc(
  enter: readonly string[],
  devices: readonly string[],
  pin: string,
): Promise<void> {
  const lines = devices.flatMap((device) => [
    `qdisc add dev ${device} clsact`,
    `filter add dev ${device} ingress pref 1 handle 1 bpf direct-action pinned ${pin}`,
  ]);
  await run([...enter, "tc", "-batch", "-"], { stdin: lines.join("\n") + "\n", advice: ADVICE });
}

/**
 * Attaches the programs pinned at `pins` to a tunnel's device, one to each direction.
 * @throws {HostError}
 */
export async function attachTunnel(
  enter: readonly string[],
  device: string,
  pins: { readonly out: string; readonly in: string },
): Promise<void> {
  const filter = `pref 1 handle 1 bpf direct-action pinned`;
  const lines = [
    `qdisc add dev ${device} clsact`,
    `filter add dev ${device} egress ${filter} ${pins.out}`,
    `filter add dev ${device} ingress ${filter} ${pins.in}`,
  ];
  await run([...enter, "tc", "-batch", "-"], { stdin: lines.join("\n") + "\n", advice: ADVICE });
}

/** Takes the tc programs off; devices and programs that are gone already do not matter. */
export async function detachIngress(
  enter: readonly string[],
  devices: readonly string[],
): Promise<void> {
  const lines = devices.map((device) => `qdisc delete dev ${device} clsact\n`);
  try {
    await run([...enter, "tc", "-force", "-batch", "-"], { stdin: lines.join("") });
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
  }
}

/**
 * Makes `program` the filter of a tap; it stays when the descriptor used here is closed. No VM may
 * have the tap open.
 * @throws {HostError} with errno; 16 where a VM has it open
 */
export function attachDelivery(netnsPath: string, tap: string, program: Fd): void {
  setFilter(netnsPath, tap, program);
}

/** Takes the filter off a tap; a tap that a VM has open, or that is gone, keeps it. */
export function detachDelivery(netnsPath: string, tap: string): void {
  try {
    setFilter(netnsPath, tap, NO_PROGRAM);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
  }
}

function setFilter(netnsPath: string, tap: string, program: Fd): void {
  const fd = openTap(netnsPath, tap);
  try {
    const argument = new Uint8Array(new Int32Array([program]).buffer);
    if (libc().ioctl(fd, TUNSETFILTEREBPF, argument) < 0) {
      throw new HostError(`attaching the recorder to tap ${tap}`, errno(), "");
    }
  } finally {
    closeFd(fd);
  }
}
