/**
 * Makes a {@link ClusterSpec} of a cluster file whose shape is right: fills in defaults, makes paths
 * absolute, and checks what one value alone cannot show (duplicates, ranges, files that must exist).
 */
import { dirname, extname, isAbsolute, resolve } from "node:path";
import type { SpecProblem } from "../errors.ts";
import { isUnicast, makeMac } from "./mac_address.ts";
import {
  type ClusterFile,
  CPU_DEFAULT,
  GUEST_ARGS_DEFAULT,
  MACHINE_DEFAULT,
  NIC_DEFAULT,
  SERIAL_INPUT_MAX,
  shown,
  type VmEntry,
} from "./schema.ts";
import type { ClusterSpec, DiskSpec, MachineSpec, NetworkSpec, VmSpec } from "./spec.ts";
import type { SpecPath, YamlSource } from "./yaml_source.ts";

/** The files around a cluster file, as far as it refers to them. */
export interface Surroundings {
  /** What is at an absolute path. */
  kindOf(path: string): "file" | "directory" | undefined;
  readText(path: string): string;
  /** Whether a file says that it is a qcow2 image. */
  isQcow2(path: string): boolean;
}

const MEMORY_DEFAULT = "256M";
const MEMORY_MIN_MIB = 32;
const MEMORY_MAX_MIB = 64 * 1024;
/** COMMAND_LINE_SIZE of x86, less the NUL: arch/x86/include/asm/setup.h. */
const KERNEL_ARGS_MAX_BYTES = 2047;

/** One pass over a file: collects problems, so that the user sees all of them at once. */
export class Resolver {
  readonly problems: SpecProblem[] = [];
  readonly #folder: string;

  constructor(
    readonly file: string,
    readonly source: YamlSource,
    readonly content: ClusterFile,
    readonly surroundings: Surroundings,
  ) {
    this.#folder = dirname(file);
  }

  /** The cluster; meaningful only if `problems` stays empty. */
  resolve(): ClusterSpec {
    const { name, vms } = this.content;
    this.#checkUnique(vms.map((vm) => vm.name), "name");
    const macs = this.#macs();
    return {
      name,
      network: this.#network(),
      qemu: this.#machine(),
      vms: vms.map((vm, i) => this.#vm(vm, i, macs[i]!)),
    };
  }

  #report(path: SpecPath, message: string): void {
    this.problems.push(this.source.problem(path, message));
  }

  #checkUnique(values: readonly (string | undefined)[], key: string): void {
    values.forEach((value, i) => {
      const first = value === undefined ? i : values.indexOf(value);
      if (first < i) {
        this.#report(["vms", i, key], `${value} is taken by vms[${first}]; give each VM its own`);
      }
    });
  }

  #network(): NetworkSpec {
    const { network } = this.content;
    if (network === undefined || network === "isolated" || network.uplink === undefined) return {};
    const { address, nat = false, host } = network.uplink;
    const wrong = addressProblem(address);
    if (wrong !== undefined) this.#report(["network", "uplink", "address"], wrong);
    return { uplink: { address, nat, ...(host === undefined ? {} : { host }) } };
  }

  #machine(): MachineSpec {
    const profile = this.content.profile ?? {};
    const program = profile.qemu ?? "qemu-system-x86_64";
    return {
      program: program.includes("/") ? this.#existingFile(program, ["profile", "qemu"]) : program,
      machine: profile.machine ?? MACHINE_DEFAULT,
      cpu: profile.cpu ?? CPU_DEFAULT,
      icountShift: profile.icountShift ?? 3,
      nic: profile.nic ?? NIC_DEFAULT,
    };
  }

  #vm(vm: VmEntry, index: number, mac: string): VmSpec {
    const at = ["vms", index];
    const initrd = this.#fileOrDefault(vm, index, "initrd");
    const serialInput = this.#serialInput(vm, [...at, "serialInput"]);
    return {
      number: index + 1,
      name: vm.name,
      ...(vm.host === undefined ? {} : { host: vm.host }),
      memoryMiB: this.#memoryMiB(vm, index),
      kernel: this.#kernel(vm, index),
      ...(initrd === undefined ? {} : { initrd }),
      kernelArgs: this.#kernelArgs(vm, index),
      disks: this.#disks(vm, index),
      mac,
      ...(serialInput === undefined ? {} : { serialInput }),
      ...(vm.onReboot === "restart" ? { onReboot: vm.onReboot } : {}),
    };
  }

  #kernel(vm: VmEntry, index: number): string {
    const kernel = this.#fileOrDefault(vm, index, "kernel");
    if (kernel !== undefined) return kernel;
    this.#report(["vms", index], "no kernel; give it a kernel, or give defaults one for every VM");
    return "";
  }

  /** A file that the VM names, or else the defaults do. The defaults' file is reported once. */
  #fileOrDefault(vm: VmEntry, index: number, key: "kernel" | "initrd"): string | undefined {
    const own = vm[key];
    if (own !== undefined) return this.#existingFile(own, ["vms", index, key]);
    const common = this.content.defaults?.[key];
    return common === undefined ? undefined : this.#existingFile(common, ["defaults", key]);
  }

  #existingFile(path: string, at: SpecPath): string {
    const absolute = isAbsolute(path) ? path : resolve(this.#folder, path);
    const kind = this.surroundings.kindOf(absolute);
    const wrong = kind === undefined
      ? `no such file: ${absolute}`
      : kind === "directory"
      ? `${absolute} is a directory; expected a file`
      : undefined;
    if (wrong !== undefined) this.#reportOnce(at, wrong);
    return absolute;
  }

  #reportOnce(path: SpecPath, message: string): void {
    const problem = this.source.problem(path, message);
    const known = this.problems.some((p) => p.path === problem.path && p.message === message);
    if (!known) this.problems.push(problem);
  }

  #memoryMiB(vm: VmEntry, index: number): number {
    const text = vm.memory ?? this.content.defaults?.memory ?? MEMORY_DEFAULT;
    const mib = Number(text.slice(0, -1)) * (text.endsWith("G") ? 1024 : 1);
    if (mib < MEMORY_MIN_MIB || mib > MEMORY_MAX_MIB) {
      const at = vm.memory === undefined ? ["defaults", "memory"] : ["vms", index, "memory"];
      this.#reportOnce(at, `expected a size from 32M to 64G, found ${shown(text)}`);
    }
    return mib;
  }

  #kernelArgs(vm: VmEntry, index: number): string {
    const guestArgs = this.content.profile?.guestArgs ?? GUEST_ARGS_DEFAULT;
    const args = [...guestArgs, ...listOf(this.content.defaults?.args), ...listOf(vm.args)]
      .map((arg) => arg.trim().replace(/\s*\n\s*/g, " ")).filter((arg) => arg !== "").join(" ");
    const bytes = new TextEncoder().encode(args).length;
    if (bytes > KERNEL_ARGS_MAX_BYTES) {
      this.#report(
        ["vms", index, "args"],
        `${bytes} bytes of kernel arguments in all; Linux takes ${KERNEL_ARGS_MAX_BYTES}`,
      );
    }
    return args;
  }

  #disks(vm: VmEntry, index: number): DiskSpec[] {
    if (vm.disk !== undefined && vm.disks !== undefined) {
      this.#report(
        ["vms", index, "disk"],
        'both "disk" and "disks"; put all of them under "disks"',
      );
    }
    if (vm.disk !== undefined) return [this.#disk(vm.disk, ["vms", index, "disk"])];
    return (vm.disks ?? []).map((disk, i) => this.#disk(disk, ["vms", index, "disks", i]));
  }

  #disk(disk: NonNullable<VmEntry["disk"]>, at: SpecPath): DiskSpec {
    const whole = typeof disk === "string";
    const { image, format } = whole ? { image: disk, format: undefined } : disk;
    const absolute = this.#existingFile(image, whole ? at : [...at, "image"]);
    const known = format ?? this.#formatOf(image, absolute);
    if (known === undefined) {
      this.#report(at, `unknown format of ${shown(image)}; say {image: …, format: qcow2 or raw}`);
    }
    return { image: absolute, format: known ?? "raw" };
  }

  /** The format by the image's name. A cloud image is often a qcow2 file called .img: that says so itself. */
  #formatOf(image: string, path: string): DiskSpec["format"] | undefined {
    const byName = formatByName(image);
    const { surroundings } = this;
    if (byName !== "raw" || surroundings.kindOf(path) !== "file") return byName;
    return surroundings.isQcow2(path) ? "qcow2" : "raw";
  }

  /** An address for every VM: those that are given first, so that a made one never takes theirs. */
  #macs(): string[] {
    const given = this.content.vms.map((vm) => vm.mac?.toLowerCase());
    this.#checkUnique(given, "mac");
    given.forEach((mac, i) => {
      if (mac !== undefined && !isUnicast(mac)) {
        this.#report(
          ["vms", i, "mac"],
          `${mac} is no unicast address; expected one such as 52:54:00:12:34:56`,
        );
      }
    });
    const taken = new Set(given.filter((mac) => mac !== undefined));
    return this.content.vms.map((vm, i) => {
      const mac = given[i] ?? makeMac(this.content.name, vm.name, taken);
      taken.add(mac);
      return mac;
    });
  }

  #serialInput(vm: VmEntry, at: SpecPath): string | undefined {
    const { serialInput } = vm;
    const text = typeof serialInput === "object"
      ? this.#textOf(serialInput.file, [...at, "file"])
      : serialInput;
    if (text !== undefined && text.length > SERIAL_INPUT_MAX) {
      this.#report(at, `${text.length} characters; expected at most ${SERIAL_INPUT_MAX}`);
    }
    return text;
  }

  #textOf(path: string, at: SpecPath): string | undefined {
    const count = this.problems.length;
    const file = this.#existingFile(path, at);
    return this.problems.length === count ? this.surroundings.readText(file) : undefined;
  }
}

function listOf(args: string | readonly string[] | undefined): readonly string[] {
  return args === undefined ? [] : typeof args === "string" ? [args] : args;
}

function formatByName(image: string): DiskSpec["format"] | undefined {
  switch (extname(image)) {
    case ".qcow2":
      return "qcow2";
    case ".img":
    case ".raw":
      return "raw";
    default:
      return undefined;
  }
}

/** What is wrong with `a.b.c.d/n` as a host's address, if anything. */
function addressProblem(text: string): string | undefined {
  const [dotted, prefixText] = text.split("/");
  const bytes = dotted!.split(".").map(Number);
  const prefix = Number(prefixText);
  if (bytes.some((byte) => byte > 255)) return `expected numbers up to 255, found ${shown(text)}`;
  if (prefix < 8 || prefix > 30) return `expected a prefix length from 8 to 30, found /${prefix}`;
  const address = bytes.reduce((sum, byte) => sum * 256 + byte, 0);
  const size = 2 ** (32 - prefix);
  const host = address % size;
  if (host === 0 || host === size - 1) {
    const which = host === 0 ? "network's own" : "broadcast";
    return `${dotted} is the ${which} address of this /${prefix}; expected a host's`;
  }
  return undefined;
}
