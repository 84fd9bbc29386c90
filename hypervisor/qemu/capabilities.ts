/** Which QEMU this host has: what the manifest names and what the command line depends on. */
import { run } from "../../host/command.ts";
import { ClusterrrError, HostError } from "../../lib/errors.ts";

export interface QemuIdentity {
  /** Absolute, links resolved. */
  readonly path: string;
  /** `7.2.22` */
  readonly version: string;
  /** Of the program file, in hex. A recording is replayed by the same program. */
  readonly sha256: string;
}

const inspected = new Map<string, Promise<QemuIdentity>>();

/**
 * Finds a QEMU program by name or path; asked once a process.
 * @throws {ClusterrrError} where it is missing or not QEMU
 */
export function inspectQemu(program = "qemu-system-x86_64"): Promise<QemuIdentity> {
  let identity = inspected.get(program);
  if (!identity) {
    identity = identify(program);
    inspected.set(program, identity);
    identity.catch(() => inspected.delete(program)); // it may be installed while we run
  }
  return identity;
}

/** Whether `version` comes before `other`, by major and minor number. */
export function isBefore(version: string, other: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [otherMajor = 0, otherMinor = 0] = other.split(".").map(Number);
  return major < otherMajor || (major === otherMajor && minor < otherMinor);
}

async function identify(program: string): Promise<QemuIdentity> {
  const path = await locate(program);
  let text: string;
  try {
    text = await run([path, "--version"]);
  } catch (cause) {
    if (!(cause instanceof HostError) && !(cause instanceof Deno.errors.PermissionDenied)) {
      throw cause;
    }
    throw new ClusterrrError(`Cannot run ${path}: is it QEMU?\n${installAdvice}`, { cause });
  }
  const version = /^QEMU emulator version (\d+\.\d+\.\d+)/.exec(text)?.[1];
  if (version === undefined) {
    throw new ClusterrrError(`${path} is not a QEMU system emulator.\n${installAdvice}`);
  }
  const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(path));
  return { path, version, sha256: new Uint8Array(digest).toHex() };
}

const installAdvice = "Install QEMU with: apt-get install qemu-system-x86";

async function locate(program: string): Promise<string> {
  const candidates = program.includes("/")
    ? [program]
    : (Deno.env.get("PATH") ?? "").split(":").map((directory) => `${directory}/${program}`);
  for (const candidate of candidates) {
    try {
      const path = await Deno.realPath(candidate);
      if ((await Deno.stat(path)).isFile) return path;
    } catch (cause) {
      if (cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory) {
        continue;
      }
      throw cause;
    }
  }
  throw new ClusterrrError(`QEMU is missing: no program ${program}.\n${installAdvice}`);
}
