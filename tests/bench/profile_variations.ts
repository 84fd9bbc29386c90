/**
 * The machine profiles that `deno task profile` compares: each a delta to the default of cluster files.
 * A new idea is a new entry here. What came of them: hypervisor/qemu/PROFILE.md.
 */
import { CPU_DEFAULT, GUEST_ARGS_DEFAULT, MACHINE_DEFAULT } from "../../lib/cluster/schema.ts";

/** One profile; what it leaves out is as in the default. */
export interface Variation {
  readonly name: string;
  readonly machine?: string;
  readonly cpu?: string;
  readonly icountShift?: number;
  readonly nic?: string;
  readonly guestArgs?: readonly string[];
  /** Recorded without checks: a NIC that a stop disturbs. */
  readonly unchecked?: boolean;
}

const BLACKLIST = "initcall_blacklist=";

/** The default's arguments, but for those that start with one of `prefixes`. */
function without(...prefixes: string[]): string[] {
  return GUEST_ARGS_DEFAULT.filter((arg) => !prefixes.some((prefix) => arg.startsWith(prefix)));
}

/** The default's arguments and others. */
function and(...args: string[]): string[] {
  return [...GUEST_ARGS_DEFAULT, ...args];
}

/** The default's arguments, but with the HPET as the clock that wakes; `left` initcalls of its do not run. */
function withHpet(...left: string[]): string[] {
  return without("hpet=disable").map((arg) =>
    arg.startsWith(BLACKLIST) ? [arg, ...left].join(",") : arg
  );
}

/** The default's arguments with initcalls that run all the same. */
function running(...initcalls: string[]): string[] {
  return GUEST_ARGS_DEFAULT.map((arg) => {
    if (!arg.startsWith(BLACKLIST)) return arg;
    const names = arg.slice(BLACKLIST.length).split(",").filter((name) =>
      !initcalls.includes(name)
    );
    return BLACKLIST + names.join(",");
  });
}

/** What the default was before these measurements. */
const FIRST_PROFILE: Variation = {
  name: "first profile",
  machine: "pc",
  cpu: "qemu64",
  guestArgs: [
    ..."console=ttyS0 panic=-1 quiet nolapic_timer tsc_early_khz=1000000 lpj=4000000".split(" "),
    ..."no_timer_check pmtmr=0 hpet=disable cryptomgr.notests".split(" "),
  ],
};

/** All of them, the default first. */
export const VARIATIONS: readonly Variation[] = [
  { name: "default" },
  FIRST_PROFILE,
  // Clocks and timers.
  { name: "timer: HPET", guestArgs: withHpet("hpet_late_init", "hpet_init") },
  { name: "timer: HPET, /dev/hpet there", guestArgs: withHpet() },
  { name: "timer: local APIC", guestArgs: without("nolapic_timer") },
  { name: "high-resolution timers", guestArgs: without("highres=off") },
  { name: "nohz=off", guestArgs: and("nohz=off") },
  { name: "tsc watched", guestArgs: without("tsc=reliable") },
  { name: "icount shift 0", icountShift: 0 },
  { name: "icount shift 1", icountShift: 1 },
  { name: "icount shift 2", icountShift: 2 },
  { name: "icount shift 4", icountShift: 4 },
  { name: "icount shift 5", icountShift: 5 },
  // Machines and processors.
  { name: "pc", machine: "pc" },
  { name: "pc, acpi=noirq", machine: "pc", guestArgs: and("acpi=noirq") },
  { name: "q35, all its parts", machine: "q35" },
  { name: "q35 without vmport", machine: `${MACHINE_DEFAULT},vmport=off` },
  { name: "q35 of 6.2", machine: MACHINE_DEFAULT.replace("q35", "pc-q35-6.2") },
  { name: "cpu: no rdrand", cpu: "qemu64" },
  { name: "cpu: Nehalem", cpu: "Nehalem,+rdrand" },
  { name: "cpu: max", cpu: "max" },
  // What the kernel does when it starts.
  { name: "weak functions checked", guestArgs: running("ftrace_check_for_weak_functions") },
  { name: "trace enums resolved", guestArgs: running("trace_eval_init") },
  { name: "cryptomgr tests", guestArgs: without("cryptomgr.notests") },
  { name: "mitigations=off", guestArgs: and("mitigations=off") },
  { name: "init_on_alloc=0", guestArgs: and("init_on_alloc=0") },
  { name: "psi=0 audit=0 apparmor=0", guestArgs: and("psi=0", "audit=0", "apparmor=0") },
  { name: "8250.nr_uarts=1", guestArgs: and("8250.nr_uarts=1") },
  // What it does when it waits.
  { name: "idle=nomwait max_cstate=1", guestArgs: and("idle=nomwait", "processor.max_cstate=1") },
  { name: "idle=poll", guestArgs: and("idle=poll") },
  { name: "nowatchdog", guestArgs: and("nowatchdog") },
  { name: "rcu_nocbs=0", guestArgs: and("rcu_nocbs=0") },
  { name: "workqueue.power_efficient", guestArgs: and("workqueue.power_efficient=1") },
  // Network cards: the others that QEMU 7.2 has are not in Debian's cloud kernel.
  { name: "virtio-net", nic: "virtio-net-pci", unchecked: true },
];

/** The cluster file of a variation: two VMs, one that serves and one that fetches. */
export function clusterFileOf(variation: Variation, image: string): string {
  const { machine, cpu, icountShift, nic, guestArgs } = variation;
  const profile = {
    machine: machine ?? MACHINE_DEFAULT,
    cpu: cpu ?? CPU_DEFAULT,
    ...(icountShift === undefined ? {} : { icountShift }),
    ...(nic === undefined ? {} : { nic }),
    ...(guestArgs === undefined ? {} : { guestArgs }),
  };
  // JSON is YAML.
  return JSON.stringify({
    name: "profile",
    profile,
    defaults: { memory: "128M", kernel: `${image}/vmlinux`, initrd: `${image}/initrd` },
    vms: [
      { name: SERVER, args: "role=serve ip=10.76.0.1/24" },
      { name: CLIENT, args: "role=fetch ip=10.76.0.2/24" },
    ],
  });
}

export const SERVER = "server";
export const CLIENT = "client";
