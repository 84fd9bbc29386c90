/**
 * Turns the specifications of an object into kernel objects: creates its maps, writes their
 * descriptors into the instructions that load them, loads the programs. No tool on the host is needed.
 */
import { FormatError } from "../../lib/errors.ts";
import { closeFd, type Fd } from "../../host/libc.ts";
import {
  BPF_PROG_TYPE_SCHED_CLS,
  BPF_PROG_TYPE_SOCKET_FILTER,
  createMap,
  loadProgram,
} from "./bpf_syscall.ts";
import type { ObjectSpec, ProgramSpec } from "./elf.ts";

const BPF_PSEUDO_MAP_FD = 1;

const programTypes = new Map([
  ["tc", BPF_PROG_TYPE_SCHED_CLS],
  ["socket", BPF_PROG_TYPE_SOCKET_FILTER],
]);

/** A loaded object: descriptors by name. They live until `close`, or longer where something holds them. */
export interface LoadedObject {
  map(name: string): Fd;
  program(name: string): Fd;
  close(): void;
}

/**
 * Loads `object`; `maxEntries` replaces the sizes of the maps it names (in entries; bytes for a ring).
 * Closes everything again when one step fails.
 * @throws {HostError} from the kernel, {@link loadProgram}
 * @throws {FormatError} for a section that is no program type known here
 */
export function loadObject(
  object: ObjectSpec,
  maxEntries: Readonly<Record<string, number>>,
): LoadedObject {
  const maps = new Map<string, Fd>();
  const programs = new Map<string, Fd>();
  const close = () => [...maps.values(), ...programs.values()].forEach(closeFd);
  try {
    for (const spec of object.maps) {
      const size = maxEntries[spec.name] ?? spec.maxEntries;
      maps.set(spec.name, createMap({ ...spec, maxEntries: size }));
    }
    for (const spec of object.programs) {
      const type = programTypes.get(spec.section);
      if (type === undefined) {
        throw new FormatError(spec.name, 0, `unknown program section "${spec.section}"`);
      }
      programs.set(spec.name, loadProgram(spec.name, type, linked(spec, maps), object.license));
    }
  } catch (error) {
    close();
    throw error;
  }
  return {
    map: (name) => present(maps, name),
    program: (name) => present(programs, name),
    close,
  };
}

function present(descriptors: ReadonlyMap<string, Fd>, name: string): Fd {
  const fd = descriptors.get(name);
  if (fd === undefined) throw new Error(`the BPF object holds no ${name}`);
  return fd;
}

/** The program's code with map descriptors in place: the kernel's `struct bpf_insn`, imm at byte 4. */
function linked(spec: ProgramSpec, maps: ReadonlyMap<string, Fd>): Uint8Array<ArrayBuffer> {
  const code = spec.code.slice();
  const view = new DataView(code.buffer);
  for (const { offset, map } of spec.mapLoads) {
    code[offset + 1] = (code[offset + 1]! & 0x0f) | (BPF_PSEUDO_MAP_FD << 4); // src_reg
    view.setInt32(offset + 4, present(maps, map), true);
  }
  return code;
}
