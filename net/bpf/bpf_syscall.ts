/**
 * The bpf(2) system call: maps, programs and pins as file descriptors.
 *
 * Field offsets in `union bpf_attr` are those of `include/uapi/linux/bpf.h`; numbers are x86-64's.
 */
import { HostError } from "../../lib/errors.ts";
import { cString, errno, type Fd, libc } from "../../host/libc.ts";
import type { MapSpec } from "./elf.ts";

const SYS_BPF = 321n;
const ATTR_BYTES = 128;
const NAME_BYTES_MAX = 15;
const LOG_BYTES = 1 << 20;
/** How often a load that a signal ended is tried again. */
const LOAD_RETRIES_MAX = 20;
const EPERM = 1;
const E2BIG = 7;
const EAGAIN = 11;
const EINVAL = 22;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
/** Page size of x86-64. */
export const PAGE_BYTES = 4096;

export const BPF_PROG_TYPE_SOCKET_FILTER = 1;
export const BPF_PROG_TYPE_SCHED_CLS = 3;

const BPF_TCX_INGRESS = 46;

const command = { mapCreate: 0, mapUpdate: 2, progLoad: 5, objPin: 6, linkCreate: 28 } as const;

const ADVICE: Record<number, string> = {
  [EPERM]: "Loading the recorder needs root (CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN).",
  [E2BIG]: "This kernel is too old for the recorder, or the cluster has too many VMs.",
};

/** Keeps the buffers that an attribute points to alive for the length of the call. */
class Attribute {
  readonly bytes = new Uint8Array(ATTR_BYTES);
  readonly #view = new DataView(this.bytes.buffer);
  readonly buffers: Uint8Array<ArrayBuffer>[] = [];

  u32(offset: number, value: number): this {
    this.#view.setUint32(offset, value, true);
    return this;
  }

  u64(offset: number, value: bigint): this {
    this.#view.setBigUint64(offset, value, true);
    return this;
  }

  pointer(offset: number, target: Uint8Array<ArrayBuffer>): this {
    this.buffers.push(target);
    return this.u64(
      offset,
      BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(target))),
    );
  }

  name(offset: number, name: string): this {
    this.bytes.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES_MAX), offset);
    return this;
  }
}

/** The result of the call, or minus errno. */
function bpf(cmd: number, attribute: Attribute): number {
  const result = Number(
    libc().syscall(SYS_BPF, BigInt(cmd), attribute.bytes, BigInt(ATTR_BYTES)),
  );
  return result < 0 ? -errno() : result;
}

function bpfOrThrow(what: string, cmd: number, attribute: Attribute): number {
  const result = bpf(cmd, attribute);
  if (result < 0) throw new HostError(what, -result, "", ADVICE[-result]);
  return result;
}

/** Makes a map. @throws {HostError} with errno */
export function createMap(spec: MapSpec): Fd {
  return bpfOrThrow(
    `creating the BPF map ${spec.name} (${spec.maxEntries} entries)`,
    command.mapCreate,
    new Attribute().u32(0, spec.type).u32(4, spec.keyBytes).u32(8, spec.valueBytes)
      .u32(12, spec.maxEntries).u32(16, spec.flags).name(28, spec.name),
  );
}

function u32Bytes(value: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** Sets `key` to `value` in a map of u32 to u32. @throws {HostError} */
export function setMapEntry(map: Fd, key: number, value: number): void {
  const attribute = new Attribute().u32(0, map).pointer(8, u32Bytes(key))
    .pointer(16, u32Bytes(value));
  bpfOrThrow("setting an entry of a BPF map", command.mapUpdate, attribute);
}

/**
 * Loads a program of `type`.
 * @throws {HostError} whose message is the verifier's last word and whose cause holds its full log
 */
export function loadProgram(
  name: string,
  type: number,
  code: Uint8Array<ArrayBuffer>,
  license: string,
): Fd {
  const attribute = new Attribute().u32(0, type).u32(4, code.length / 8).pointer(8, code)
    .pointer(16, cString(license)).name(48, name);
  const load = () => untilNoSignal(() => bpf(command.progLoad, attribute));
  const result = load();
  if (result >= 0) return result;
  const log = new Uint8Array(LOG_BYTES); // a second try, with the verifier's log switched on
  attribute.u32(24, 1).u32(28, LOG_BYTES).pointer(32, log);
  const second = load();
  if (second >= 0) return second;
  const text = new TextDecoder().decode(log.subarray(0, log.indexOf(0)));
  throw new HostError(
    `loading the BPF program ${name}`,
    -result,
    summariseVerifierLog(text),
    ADVICE[-result] ?? "The kernel refused the recorder; it needs Linux 5.12 or newer.",
    { cause: new Error(text) },
  );
}

/**
 * The result of `load`, which the verifier ends with EAGAIN where a signal comes meanwhile, a profiler's or a
 * terminal's: then once more.
 */
export function untilNoSignal(load: () => number): number {
  let result = load();
  for (let again = 0; result === -EAGAIN && again < LOAD_RETRIES_MAX; again++) result = load();
  return result;
}

/** The line of a verifier log that says what is wrong: the last one that is not a statistic. */
export function summariseVerifierLog(log: string): string {
  const lines = log.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const statistic = /^(processed \d+ insns|verification time|stack depth|max_states)/;
  return lines.findLast((line) => !statistic.test(line)) ?? "";
}

/**
 * Hangs a tc program on the ingress of the device `ifindex` of this thread's network namespace, without a queueing
 * discipline in between (TCX, Linux 6.6). It is gone when the descriptor is closed.
 * @returns `undefined` on a kernel that has no such thing
 * @throws {HostError}
 */
export function linkIngress(program: Fd, ifindex: number): Fd | undefined {
  const attribute = new Attribute().u32(0, program).u32(4, ifindex).u32(8, BPF_TCX_INGRESS);
  const result = bpf(command.linkCreate, attribute);
  if (result >= 0) return result;
  if (result === -EINVAL) return undefined;
  throw new HostError("attaching a BPF program to a device", -result, "", ADVICE[-result]);
}

/** Gives a program the name `path` in a BPF file system. @throws {HostError} */
export function pinObject(fd: Fd, path: string): void {
  bpfOrThrow(
    `pinning a BPF program at ${path}`,
    command.objPin,
    new Attribute().pointer(0, cString(path)).u32(8, fd),
  );
}

/** Memory shared with the kernel. Nothing may touch `buffer` after `unmap`. */
export interface Mapping {
  readonly buffer: ArrayBuffer;
  unmap(): void;
}

/** Maps `bytes` of a map's memory from `offset` on. @throws {HostError} */
export function mapMemory(fd: Fd, bytes: number, offset: number, writable: boolean): Mapping {
  const pages = Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
  const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  const address = libc().mmap(0n, BigInt(pages), protection, MAP_SHARED, fd, BigInt(offset));
  if (address === null || Deno.UnsafePointer.value(address) === 0xffff_ffff_ffff_ffffn) {
    throw new HostError(`mmap of ${pages} bytes of a BPF map`, errno(), "");
  }
  return {
    buffer: Deno.UnsafePointerView.getArrayBuffer(address, pages),
    unmap: () => void libc().munmap(address, BigInt(pages)),
  };
}
