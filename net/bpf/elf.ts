/**
 * Reads a compiled eBPF object: the bytes of an ELF file come in, map and program specifications go
 * out. Nothing here touches the kernel; `loader.ts` turns specifications into kernel objects.
 *
 * It reads what `recorder.bpf.c` needs and refuses the rest: little-endian 64-bit relocatable ELF
 * for eBPF; maps as `struct map_definition` (five u32) in the section `maps`, one symbol each;
 * programs as global functions; relocations of kind R_BPF_64_64 against a map. Layouts:
 * `/usr/include/elf.h`, and `Documentation/bpf/llvm_reloc.rst` of the kernel for the relocations.
 */
import { FormatError } from "../../lib/errors.ts";

/** A map as the object declares it. `maxEntries` of 1 may stand for "the loader decides". */
export interface MapSpec {
  readonly name: string;
  readonly type: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
}

/** A program: its instructions, and which of them (by byte offset) load the address of which map. */
export interface ProgramSpec {
  readonly name: string;
  /** The section name, which says what kind of program it is: `tc`, `socket`. */
  readonly section: string;
  readonly code: Uint8Array<ArrayBuffer>;
  readonly mapLoads: readonly { readonly offset: number; readonly map: string }[];
}

export interface ObjectSpec {
  readonly license: string;
  readonly maps: readonly MapSpec[];
  readonly programs: readonly ProgramSpec[];
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly info: number;
}

interface Symbol {
  readonly name: string;
  readonly info: number;
  readonly section: number;
  readonly value: number;
  readonly size: number;
}

const HEADER_BYTES = 64;
const SECTION_HEADER_BYTES = 64;
const SYMBOL_BYTES = 24;
const RELOCATION_BYTES = 16;
const INSTRUCTION_BYTES = 8;
const MAP_DEFINITION_BYTES = 20;
const IDENTITY = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]; // magic, 64-bit, little-endian, version 1
const ET_REL = 1;
const EM_BPF = 247;
const SHT_SYMTAB = 2;
const SHT_STRTAB = 3;
const SHT_NOBITS = 8;
const SHT_REL = 9;
const GLOBAL_FUNCTION = 0x12; // STB_GLOBAL << 4 | STT_FUNC
const GLOBAL_OBJECT = 0x11;
const R_BPF_64_64 = 1;
const LOAD_64_BIT_IMMEDIATE = 0x18; // BPF_LD | BPF_IMM | BPF_DW, two instructions long

/**
 * Reads the object `bytes`; `file` names it in errors.
 * @throws {FormatError} where the bytes are not such an object
 */
export function parseObject(bytes: Uint8Array, file: string): ObjectSpec {
  const elf = new ElfFile(bytes, file);
  const programs = elf.symbols.filter((s) => s.info === GLOBAL_FUNCTION).map((s) => elf.program(s));
  if (programs.length === 0) throw elf.wrong(0, "it holds no program");
  return { license: elf.license(), maps: elf.maps(), programs };
}

class ElfFile {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #file: string;
  readonly #sections: readonly Section[];
  readonly symbols: readonly Symbol[];

  constructor(bytes: Uint8Array, file: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#file = file;
    this.#need(0, HEADER_BYTES, "ELF header");
    IDENTITY.forEach((byte, at) => {
      if (bytes[at] !== byte) throw this.wrong(at, "not a little-endian 64-bit ELF file");
    });
    if (this.#u16(16) !== ET_REL || this.#u16(18) !== EM_BPF) {
      throw this.wrong(16, "not a relocatable eBPF object; build it with net/bpf/build.sh");
    }
    this.#sections = this.#readSections();
    this.symbols = this.#readSymbols();
  }

  wrong(offset: number, detail: string): FormatError {
    return new FormatError(this.#file, offset, detail);
  }

  /** Checks that `size` bytes at `offset` are inside the file. */
  #need(offset: number, size: number, what: string): void {
    if (offset > this.#bytes.length || size > this.#bytes.length - offset) {
      const at = Math.min(offset, this.#bytes.length);
      throw this.wrong(at, `${what} of ${size} bytes at ${offset} reaches past the end`);
    }
  }

  #u16(offset: number): number {
    return this.#view.getUint16(offset, true);
  }

  #u32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  /** A 64-bit field; values above 2^53 cannot be offsets and are caught by the bounds check. */
  #u64(offset: number): number {
    return Number(this.#view.getBigUint64(offset, true));
  }

  /** The NUL-terminated string at `offset` of the string table `table`. */
  #string(table: Section, offset: number): string {
    const start = table.offset + offset;
    const end = offset < table.size ? this.#bytes.indexOf(0, start) : -1;
    if (end < 0 || end >= table.offset + table.size) {
      throw this.wrong(table.offset, `no string at ${offset} of a string table`);
    }
    return new TextDecoder().decode(this.#bytes.slice(start, end));
  }

  #stringTable(index: number, sections: readonly Omit<Section, "name">[]): Section {
    const section = sections[index];
    if (section?.type !== SHT_STRTAB) throw this.wrong(0, `section ${index} is no string table`);
    return { ...section, name: "" };
  }

  #readSections(): Section[] {
    const table = this.#u64(0x28);
    const count = this.#u16(0x3c);
    if (this.#u16(0x3a) !== SECTION_HEADER_BYTES) throw this.wrong(0x3a, "odd section headers");
    this.#need(table, count * SECTION_HEADER_BYTES, "section header table");
    const unnamed = Array.from({ length: count }, (_, index) => {
      const at = table + index * SECTION_HEADER_BYTES;
      const section = {
        nameOffset: this.#u32(at),
        type: this.#u32(at + 4),
        offset: this.#u64(at + 24),
        size: this.#u64(at + 32),
        link: this.#u32(at + 40),
        info: this.#u32(at + 44),
      };
      if (section.type !== SHT_NOBITS) this.#need(section.offset, section.size, "section");
      return section;
    });
    const names = this.#stringTable(this.#u16(0x3e), unnamed);
    return unnamed.map((s) => ({ ...s, name: this.#string(names, s.nameOffset) }));
  }

  #readSymbols(): Symbol[] {
    const table = this.#sections.find((s) => s.type === SHT_SYMTAB);
    if (table === undefined) throw this.wrong(0, "no symbol table; it was stripped");
    const names = this.#stringTable(table.link, this.#sections);
    return Array.from({ length: Math.floor(table.size / SYMBOL_BYTES) }, (_, index) => {
      const at = table.offset + index * SYMBOL_BYTES;
      return {
        name: this.#string(names, this.#u32(at)),
        info: this.#bytes[at + 4]!,
        section: this.#u16(at + 6),
        value: this.#u64(at + 8),
        size: this.#u64(at + 16),
      };
    });
  }

  /** Where a symbol's bytes are in the file. */
  #place(symbol: Symbol): { section: Section; start: number } {
    const section = this.#sections[symbol.section];
    if (section === undefined || section.type === SHT_NOBITS) {
      throw this.wrong(0, `symbol ${symbol.name} has no bytes`);
    }
    if (symbol.value > section.size || symbol.size > section.size - symbol.value) {
      throw this.wrong(section.offset, `symbol ${symbol.name} reaches past its section`);
    }
    return { section, start: section.offset + symbol.value };
  }

  license(): string {
    const section = this.#sections.find((s) => s.name === "license");
    if (section === undefined) throw this.wrong(0, "no license section");
    return this.#string(section, 0);
  }

  maps(): MapSpec[] {
    const index = this.#sections.findIndex((s) => s.name === "maps");
    return this.symbols.filter((s) => s.section === index && s.info === GLOBAL_OBJECT).map((s) => {
      const { start } = this.#place(s);
      if (s.size !== MAP_DEFINITION_BYTES) {
        throw this.wrong(start, `map ${s.name} has ${s.size} bytes, not ${MAP_DEFINITION_BYTES}`);
      }
      return {
        name: s.name,
        type: this.#u32(start),
        keyBytes: this.#u32(start + 4),
        valueBytes: this.#u32(start + 8),
        maxEntries: this.#u32(start + 12),
        flags: this.#u32(start + 16),
      };
    });
  }

  program(symbol: Symbol): ProgramSpec {
    const { section, start } = this.#place(symbol);
    if (symbol.size === 0 || symbol.size % INSTRUCTION_BYTES !== 0) {
      throw this.wrong(start, `program ${symbol.name} has ${symbol.size} bytes`);
    }
    const code = this.#bytes.slice(start, start + symbol.size);
    return {
      name: symbol.name,
      section: section.name,
      code,
      mapLoads: this.#mapLoads(symbol, code),
    };
  }

  #mapLoads(program: Symbol, code: Uint8Array): { offset: number; map: string }[] {
    const loads: { offset: number; map: string }[] = [];
    const tables = this.#sections.filter((s) => s.type === SHT_REL && s.info === program.section);
    const maps = new Set(this.maps().map((m) => m.name));
    for (const table of tables) {
      for (let at = table.offset; at + RELOCATION_BYTES <= table.offset + table.size;) {
        const offset = this.#u64(at) - program.value;
        const kind = this.#u32(at + 8);
        const map = this.symbols[this.#u32(at + 12)]?.name ?? "";
        if (offset >= 0 && offset < program.size) {
          if (
            kind !== R_BPF_64_64 || !maps.has(map) || code[offset] !== LOAD_64_BIT_IMMEDIATE ||
            offset % INSTRUCTION_BYTES !== 0 || offset + 2 * INSTRUCTION_BYTES > program.size
          ) {
            throw this.wrong(
              at,
              `relocation of kind ${kind} against "${map}", which is no map load`,
            );
          }
          loads.push({ offset, map });
        }
        at += RELOCATION_BYTES;
      }
    }
    return loads;
  }
}
