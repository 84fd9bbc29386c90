/**
 * The shape of a cluster file: which keys there are and what a value may look like.
 *
 * It knows nothing of defaults, of other files or of what two values mean together: that is
 * `resolve.ts`. Each value carries the words that tell a user what would be right.
 */
import { z } from "zod";

/**
 * The machine that records with the fewest events; hypervisor/qemu/PROFILE.md has the measurements. A q35
 * spends a fifth fewer instructions on booting than a pc, most of them in ACPI's interrupt routing. The parts
 * that are off are ones that no guest here has a driver for or a use of: firmware and kernel poll them.
 */
export const MACHINE_DEFAULT = "q35,sata=off,smbus=off,i8042=off";

/** With random numbers from the processor a guest does not gather them from the timing of its interrupts. */
export const CPU_DEFAULT = "qemu64,+rdrand";

/** Functions that a kernel does not run when it starts; PROFILE.md tells what a guest lacks without each. */
const INITCALLS_LEFT_OUT: readonly string[] = [
  "ftrace_check_for_weak_functions",
  "trace_eval_init",
  "blake2s_mod_init",
];

/** A kernel's arguments under which a guest boots and replays fastest: PROFILE.md. */
export const GUEST_ARGS_DEFAULT: readonly string[] = [
  "console=ttyS0",
  "panic=-1",
  "quiet",
  "nolapic_timer",
  "tsc_early_khz=1000000",
  "tsc=reliable",
  "lpj=4000000",
  "no_timer_check",
  "pmtmr=0",
  "hpet=disable",
  "highres=off",
  "cryptomgr.notests",
  `initcall_blacklist=${INITCALLS_LEFT_OUT.join(",")}`,
];

/**
 * The network card that a run can stop at any moment. QEMU's vmxnet3 sends when it is told to.
 * virtio-net (before QEMU 9.1) needs a timer to send deterministically, which a stop takes down and sets
 * up again at another instruction: of recordings with a check a second every other one did not replay.
 */
export const NIC_DEFAULT = "vmxnet3";

export const VMS_MAX = 200;
export const DISKS_MAX = 32;
/** Characters that can be fed into a serial console. */
export const SERIAL_INPUT_MAX = 256 << 10;
const ICOUNT_SHIFT_MAX = 10;

/** How zod asks for a message. */
interface RawIssue {
  readonly code?: string | undefined;
  readonly input?: unknown;
}

/** Zod parameters whose messages say what was expected and what is there. */
function expecting(what: string) {
  return {
    error: (issue: RawIssue): string | undefined => {
      if (issue.code === "unrecognized_keys") return undefined; // problems.ts words these
      if (issue.input === undefined) return `missing; expected ${what}`;
      return `expected ${what}, found ${shown(issue.input)}`;
    },
  };
}

const SHOWN_MAX = 60;

/** A value of the file in an error message. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return "nothing";
  if (Array.isArray(value)) return value.length === 0 ? "an empty list" : "a list";
  if (typeof value === "object") return "a mapping";
  const text = JSON.stringify(value);
  return text.length <= SHOWN_MAX ? text : `${text.slice(0, SHOWN_MAX)}…`;
}

function text(what: string, pattern?: RegExp) {
  const filled = z.string(expecting(what)).min(1, expecting(what));
  return pattern === undefined ? filled : filled.regex(pattern, expecting(what));
}

function section<Shape extends z.ZodRawShape>(what: string, shape: Shape) {
  return z.strictObject(shape, expecting(what));
}

const path = () => text("a path, relative to this file");
const name = () =>
  text(
    "a name of a-z, 0-9 and -, starting with a letter, at most 31 long",
    /^[a-z][a-z0-9-]{0,30}$/,
  );
const host = () => name().describe("The host it is placed on. Default: the coordinator chooses");
const memory = () =>
  text('a size such as "512M" or "2G"', /^[1-9][0-9]{0,5}[MG]$/)
    .describe("Memory of the VM: 32M to 64G. Default: 256M");
const ARGS = "kernel arguments: a text, or a list of texts";
const args = () =>
  z.union([text(ARGS), z.array(text("a kernel argument"), expecting(ARGS))], expecting(ARGS))
    .describe(
      "Kernel arguments; those of the profile and of the defaults come before the VM's own",
    );

const DISK = 'a path, or {image: PATH, format: "qcow2" or "raw"}';
const disk = () =>
  z.union([
    path(),
    section(DISK, {
      image: path(),
      format: z.enum(["qcow2", "raw"], expecting('"qcow2" or "raw"')).optional(),
    }),
  ], expecting(DISK)).describe(
    "A disk image. It is never written: each run has an overlay of its own. Its format follows from .qcow2, .img or .raw; " +
      "else name it. Either disk or disks",
  );

const DISKS = `a list of at most ${DISKS_MAX} disks`;

const SERIAL_INPUT = "a text, or {file: PATH}";
const MAC = "a unicast MAC address such as 52:54:00:12:34:56";

const ON_REBOOT = '"end" or "restart"';

const vm = section("a VM: {name: …, …}", {
  name: name(),
  host: host().optional(),
  memory: memory().optional(),
  kernel: path().describe("The Linux kernel to boot").optional(),
  initrd: path().describe("The initial RAM disk").optional(),
  args: args().optional(),
  disk: disk().optional(),
  disks: z.array(disk(), expecting(DISKS)).max(DISKS_MAX, expecting(DISKS)).optional(),
  mac: text(MAC, /^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/)
    .describe("Default: made from the names of cluster and VM, the same on every run").optional(),
  serialInput: z.union(
    [text(SERIAL_INPUT), section(SERIAL_INPUT, { file: path() })],
    expecting(SERIAL_INPUT),
  ).describe("Text to feed into the serial console").optional(),
  onReboot: z.enum(["end", "restart"], expecting(ON_REBOOT)).describe(
    "Whether the VM ends where its guest reboots, or starts again as a machine does. A kernel that panics " +
      "reboots too. Default: end",
  ).optional(),
});

const UPLINK_ADDRESS = "an IPv4 address with its prefix length, such as 10.77.0.254/24";
const NETWORK = '"isolated", or {uplink: {address: …, nat: …}}';
const UPLINK = "an uplink: {address: 10.77.0.254/24, nat: true or false, host: …}";

const network = z.union([
  z.literal("isolated", expecting(NETWORK)),
  section(NETWORK, {
    uplink: section(UPLINK, {
      address: text(UPLINK_ADDRESS, /^[0-9]{1,3}(\.[0-9]{1,3}){3}\/[0-9]{1,2}$/)
        .describe("The host's own address on the cluster's bridge"),
      nat: z.boolean(expecting("true or false"))
        .describe("Whether the VMs reach the host's networks. Default: false").optional(),
      host: name()
        .describe("The host that has the uplink. Default: the first one with VMs").optional(),
    }).optional(),
  }),
], expecting(NETWORK)).describe("What the VMs reach beside each other. Default: isolated");

const SHIFT = `a whole number from 0 to ${ICOUNT_SHIFT_MAX}`;

const profile = section("a machine profile: {machine: …, cpu: …, …}", {
  qemu: text("a program's name or path")
    .describe("QEMU's program. Default: qemu-system-x86_64").optional(),
  machine: text(
    '"pc" or "q35", or one of their versions, with properties such as "q35,sata=off"',
    /^(pc|q35|pc-(i440fx|q35)-[0-9.]+)(,[a-z0-9-]+=[A-Za-z0-9.-]+)*$/,
  ).describe(`QEMU's machine type, with its properties. Default: ${MACHINE_DEFAULT}`).optional(),
  cpu: text("a CPU model of QEMU", /^[A-Za-z0-9][A-Za-z0-9_.,=+-]*$/)
    .describe(`QEMU's CPU model. Default: ${CPU_DEFAULT}`).optional(),
  icountShift: z.int(expecting(SHIFT)).min(0, expecting(SHIFT)).max(
    ICOUNT_SHIFT_MAX,
    expecting(SHIFT),
  ).describe("An instruction takes 2^icountShift ns of guest time. Default: 3").optional(),
  nic: text("a network card of QEMU such as vmxnet3", /^[a-z0-9][a-z0-9-]*$/)
    .describe("QEMU's device for the network card. Default: vmxnet3").optional(),
  guestArgs: z.array(text("a kernel argument"), expecting("a list of kernel arguments"))
    .describe("Kernel arguments of every guest, in place of the ones measured to be best")
    .optional(),
}).describe("The machine that every VM is; the default is what was measured to replay");

const VMS = `a list of 1 to ${VMS_MAX} VMs`;

/** The whole file. */
export const clusterFileSchema = section("a cluster: {name: …, vms: […]}", {
  name: name(),
  network: network.optional(),
  profile: profile.optional(),
  defaults: section("defaults: {memory: …, kernel: …, initrd: …, args: …}", {
    memory: memory().optional(),
    kernel: path().optional(),
    initrd: path().optional(),
    args: args().optional(),
  }).describe("What holds for every VM that does not say otherwise").optional(),
  vms: z.array(vm, expecting(VMS)).min(1, expecting(VMS)).max(VMS_MAX, expecting(VMS)),
});

/** A cluster file as written, before defaults. */
export type ClusterFile = z.infer<typeof clusterFileSchema>;
export type VmEntry = ClusterFile["vms"][number];

/** The JSON Schema of cluster files, for editors; committed as `cluster.schema.json`. */
export function clusterJsonSchema(): object {
  const { $schema, ...rest } = z.toJSONSchema(clusterFileSchema, { io: "input" });
  return { $schema, title: "clusterrr cluster file", ...rest };
}
