/**
 * What `clusterrr doctor` looks at: whether this host can record and replay. Kernel features are not
 * guessed from a version or a configuration file but tried, in a network namespace that ends with the
 * command that tries them: nothing is left behind.
 */
import { statfsSync } from "node:fs";
import type { HostCheck } from "../lib/cli/ports.ts";
import { formatBytes } from "../lib/cli/quantities.ts";
import { HostError, messageOf } from "../lib/errors.ts";
import { run } from "./command.ts";
import { closeFd, errno, libc, O_RDWR, openFd } from "./libc.ts";
import { acceptCommand, findForwardDrops } from "./nftables.ts";
import { scratchRoot } from "./run_directory.ts";

/** What the caller knows and this layer does not. */
export interface DoctorOptions {
  /** The QEMU to look at. */
  readonly qemuProgram?: string;
  /** Says what is wrong with a QEMU of this version ("7.2.22"), `undefined` if nothing is. */
  readonly objectionToQemu?: (version: string) => string | undefined;
  /** Where recordings are going to be written. */
  readonly directory?: string;
}

/** Programs of the host that are run by name, and the Debian package of each. */
const PROGRAMS: readonly (readonly [program: string, pkg: string, needed: boolean])[] = [
  ["ip", "iproute2", true],
  ["tc", "iproute2", true],
  ["nsenter", "util-linux", true],
  ["setpriv", "util-linux", true],
  ["qemu-img", "qemu-utils", true],
  ["nft", "nftables", false],
];

/** Capabilities that recording needs, with their bit (`include/uapi/linux/capability.h`). */
const CAPABILITIES: readonly (readonly [name: string, bit: bigint])[] = [
  ["CAP_NET_ADMIN", 12n],
  ["CAP_SYS_ADMIN", 21n],
  ["CAP_BPF", 39n],
];

/** What to do about whatever only root may, and in a container only a privileged one. */
const AS_ROOT = "run it as root: sudo clusterrr …; in a container: docker run --privileged …";

/** Below this a recording is likely to fail before long. */
const DISK_BYTES_MIN = 1e9;
const MEMORY_BYTES_MIN = 1e9;
const TRIAL_TIMEOUT_MS = 10_000;

/** Looks at everything; never throws, changes nothing. */
export async function checkHost(options: DoctorOptions = {}): Promise<HostCheck[]> {
  const checks: HostCheck[] = [checkPlatform(), checkRights()];
  checks.push(await checkQemu(options));
  checks.push(checkTun(), checkBpf(), checkBpffs());
  for (const [program, pkg, needed] of PROGRAMS) checks.push(checkProgram(program, pkg, needed));
  checks.push(...await checkNetworkFeatures());
  checks.push(
    checkDisk("disk", options.directory ?? ".", "record to another disk with --out"),
    checkDisk("scratch", scratchRoot(), "name another directory with CLUSTERRR_SCRATCH"),
    checkMemory(),
  );
  return checks;
}

function good(name: string, detail: string, needed = true): HostCheck {
  return { name, ok: true, needed, detail, mend: "" };
}

function bad(name: string, detail: string, mend: string, needed = true): HostCheck {
  return { name, ok: false, needed, detail, mend };
}

function checkPlatform(): HostCheck {
  const { os, arch } = Deno.build;
  const detail = `${os} ${arch}, kernel ${Deno.osRelease()}`;
  return os === "linux" && arch === "x86_64"
    ? good("platform", detail)
    : bad("platform", detail, "use a Linux host on x86-64");
}

/** Root is not enough: a container's root has few capabilities. */
function checkRights(): HostCheck {
  const held = effectiveCapabilities();
  const missing = CAPABILITIES.filter(([, bit]) => (held & (1n << bit)) === 0n)
    .map(([name]) => name);
  if (missing.length === 0) return good("rights", `user ${Deno.uid()} has what it needs`);
  return bad("rights", `user ${Deno.uid()} lacks ${missing.join(", ")}`, AS_ROOT);
}

function effectiveCapabilities(): bigint {
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(Deno.readTextFileSync("/proc/self/status"));
  return BigInt(`0x${line?.[1] ?? "0"}`);
}

async function checkQemu(options: DoctorOptions): Promise<HostCheck> {
  const program = options.qemuProgram ?? "qemu-system-x86_64";
  let text: string;
  try {
    text = await run([program, "--version"], { timeoutMs: TRIAL_TIMEOUT_MS });
  } catch (error) {
    const missing = error instanceof HostError && error.code === 127;
    return bad(
      "QEMU",
      missing ? `${program} is not installed` : messageOf(error),
      "apt-get install qemu-system-x86",
    );
  }
  const version = /version (\d+\.\d+(?:\.\d+)?)/.exec(text)?.[1];
  if (version === undefined) {
    return bad("QEMU", `${program} does not tell its version`, "apt-get install qemu-system-x86");
  }
  const objection = options.objectionToQemu?.(version);
  return objection === undefined
    ? good("QEMU", `${program} ${version}`)
    : bad("QEMU", `${version}: ${objection}`, "install a QEMU of a version that is supported");
}

function checkTun(): HostCheck {
  try {
    closeFd(openFd("/dev/net/tun", O_RDWR));
    return good("/dev/net/tun", "can be opened");
  } catch (error) {
    return bad(
      "/dev/net/tun",
      messageOf(error),
      "modprobe tun; in a container: docker run --privileged …",
    );
  }
}

/** Makes a BPF ring buffer map (kernel 5.8) and closes it again: the recorder's first step. */
function checkBpf(): HostCheck {
  const SYS_bpf = 321n; // x86-64
  const BPF_MAP_CREATE = 0n;
  const BPF_MAP_TYPE_RINGBUF = 27;
  const attr = new Uint32Array(32); // union bpf_attr: map_type, key_size, value_size, max_entries
  attr[0] = BPF_MAP_TYPE_RINGBUF;
  attr[3] = 4096;
  const bytes = new Uint8Array(attr.buffer);
  const fd = Number(libc().syscall(SYS_bpf, BPF_MAP_CREATE, bytes, BigInt(bytes.length)));
  if (fd >= 0) {
    closeFd(fd);
    return good("eBPF", "ring buffers work");
  }
  const EPERM = 1;
  const code = errno();
  return bad(
    "eBPF",
    `the kernel refuses a ring buffer (errno ${code})`,
    code === EPERM ? AS_ROOT : "use a kernel of version 5.8 or later with CONFIG_BPF_SYSCALL",
  );
}

/** Not needed beforehand: the recorder mounts it, if it may. */
function checkBpffs(): HostCheck {
  const mounted = Deno.readTextFileSync("/proc/self/mounts").split("\n")
    .some((line) => line.split(" ")[1] === "/sys/fs/bpf" && line.split(" ")[2] === "bpf");
  return mounted
    ? good("bpffs", "mounted on /sys/fs/bpf", false)
    : bad("bpffs", "not mounted on /sys/fs/bpf", "mount -t bpf bpf /sys/fs/bpf", false);
}

function checkProgram(program: string, pkg: string, needed: boolean): HostCheck {
  const path = findProgram(program);
  if (path !== undefined) return good(program, path, needed);
  const detail = needed ? "not installed" : "not installed: an uplink cannot use NAT";
  return bad(program, detail, `apt-get install ${pkg}`, needed);
}

function findProgram(program: string): string | undefined {
  for (const dir of (Deno.env.get("PATH") ?? "").split(":")) {
    try {
      const info = Deno.statSync(`${dir}/${program}`);
      if (info.isFile && ((info.mode ?? 0) & 0o111) !== 0) return `${dir}/${program}`;
    } catch {
      // not there
    }
  }
  return undefined;
}

/** What a run's network is made of: each feature's name, a trial, and the module that brings it, if one does. */
const FEATURES: readonly {
  readonly name: string;
  readonly trial: string;
  readonly module?: string;
  readonly needed: boolean;
}[] = [
  {
    name: "namespace",
    // With a /run of its own, so that nothing is left of it wherever the trial ends.
    trial: "unshare --mount sh -ec 'mount -t tmpfs none /run; ip netns add n; ip netns delete n'",
    needed: true,
  },
  {
    name: "settings",
    trial:
      "setting=/proc/sys/net/ipv6/conf/all/disable_ipv6; [ ! -e $setting ] || echo 1 >$setting",
    needed: true,
  },
  { name: "bridge", trial: "ip link add b0 type bridge", module: "bridge", needed: true },
  { name: "veth", trial: "ip link add v0 type veth peer name v1", module: "veth", needed: true },
  {
    name: "tap",
    trial: "ip tuntap add t0 mode tap && tc qdisc replace dev t0 root pfifo_fast",
    module: "tun",
    needed: true,
  },
  {
    name: "tc ingress",
    trial: "ip tuntap add t0 mode tap && tc qdisc add dev t0 clsact",
    module: "sch_ingress cls_bpf",
    needed: true,
  },
  {
    name: "VXLAN, for recordings over several hosts",
    trial: "ip link add x0 type vxlan id 1 dstport 4789",
    module: "vxlan",
    needed: false,
  },
  {
    name: "NAT",
    trial: "nft 'add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; " +
      "add rule ip t c masquerade'",
    module: "nft_masq",
    needed: false,
  },
];

/** Tries each network feature in a namespace of its own, which ends with the trial. */
async function checkNetworkFeatures(): Promise<HostCheck[]> {
  const checks: HostCheck[] = [];
  for (const { name, trial, module, needed } of FEATURES) {
    const label = `network: ${name}`;
    try {
      await run(["unshare", "--net", "sh", "-ec", trial], { timeoutMs: TRIAL_TIMEOUT_MS });
      const drops = name === "NAT" ? await findForwardDrops() : [];
      checks.push(drops.length === 0 ? good(label, "works", needed) : filtered(label, drops));
    } catch (error) {
      const said = error instanceof HostError && error.stderr !== ""
        ? error.stderr.trim().split("\n")[0]!
        : messageOf(error);
      const mend = module === undefined ? AS_ROOT : `as root: modprobe -a ${module}`;
      checks.push(bad(label, said, mend, needed));
    }
  }
  return checks;
}

/** NAT works by itself, but another firewall has these chains. */
function filtered(label: string, chains: readonly string[]): HostCheck {
  return bad(
    label,
    `works, but the firewall's ${chains.join(", ")} drops what none of its rules accepts`,
    `as root: ${chains.map(acceptCommand).join("; ")}`,
    false,
  );
}

function checkDisk(label: string, directory: string, otherwise: string): HostCheck {
  try {
    const { bavail, bsize } = statfsSync(directory);
    const bytes = bavail * bsize;
    const detail = `${formatBytes(bytes)} free in ${Deno.realPathSync(directory)}`;
    return bytes >= DISK_BYTES_MIN
      ? good(label, detail, false)
      : bad(label, detail, `make room, or ${otherwise}`, false);
  } catch (error) {
    return bad(label, messageOf(error), `make ${directory}, or ${otherwise}`, false);
  }
}

function checkMemory(): HostCheck {
  const { available, total } = Deno.systemMemoryInfo();
  const detail = `${formatBytes(available)} of ${formatBytes(total)} available`;
  return available >= MEMORY_BYTES_MIN
    ? good("memory", detail, false)
    : bad("memory", detail, "end other programs, or give the VMs less memory", false);
}
