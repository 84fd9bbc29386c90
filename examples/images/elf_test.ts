import assert from "node:assert/strict";
import fc from "fast-check";
import { FormatError } from "../../lib/errors.ts";
import { elfNeeds, isElf, moduleNeeds } from "./elf.ts";

const INTERPRETER = "/lib64/ld-linux-x86-64.so.2";

/** A program of three segments that needs libc.so.6: just the fields that the reader looks at. */
function smallProgram(): Uint8Array {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  const put64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);
  bytes.set([0x7f, 0x45, 0x4c, 0x46]);
  put64(32, 64); // program headers follow the ELF header
  view.setUint16(54, 56, true);
  view.setUint16(56, 3, true);
  const segment = (i: number, type: number, offset: number, address: number, size: number) => {
    const at = 64 + i * 56;
    view.setUint32(at, type, true);
    put64(at + 8, offset);
    put64(at + 16, address);
    put64(at + 32, size);
  };
  segment(0, 1, 0, 0x400000, 512); // PT_LOAD
  segment(1, 3, 256, 0x400100, 28); // PT_INTERP
  segment(2, 2, 320, 0x400140, 48); // PT_DYNAMIC
  bytes.set(new TextEncoder().encode(`${INTERPRETER}\0`), 256);
  put64(320, 1); // DT_NEEDED, name at 1 of the string table
  put64(328, 1);
  put64(336, 5); // DT_STRTAB
  put64(344, 0x400180);
  bytes.set(new TextEncoder().encode("\0libc.so.6\0"), 384);
  return bytes;
}

Deno.test("elf: libraries and interpreter", () => {
  const needs = { libraries: ["libc.so.6"], interpreter: INTERPRETER };
  assert.deepEqual(elfNeeds("program", smallProgram()), needs);
  const shifted = new Uint8Array(1024).subarray(8, 520);
  shifted.set(smallProgram());
  assert.deepEqual(elfNeeds("program", shifted), needs, "a view into a larger buffer");
});

Deno.test("elf: a static program needs nothing", () => {
  const bytes = smallProgram();
  bytes[56] = 1;
  assert.deepEqual(elfNeeds("program", bytes), { libraries: [], interpreter: undefined });
});

Deno.test("elf: cut off anywhere before its last text, it is refused", () => {
  const whole = smallProgram();
  for (let length = 0; length < 384 + 11; length++) {
    assert.throws(() => elfNeeds("cut", whole.slice(0, length)), FormatError, `${length} bytes`);
  }
});

Deno.test("elf: damaged bytes give an answer or a FormatError", () => {
  fc.assert(fc.property(fc.nat(511), fc.integer({ min: 0, max: 255 }), (at, value) => {
    const bytes = smallProgram();
    bytes[at] = value;
    try {
      elfNeeds("damaged", bytes);
    } catch (error) {
      assert(error instanceof FormatError, `${error}`);
    }
  }));
});

const moduleWith = (info: string) => new TextEncoder().encode(`\x7fELF...\0${info}\0name=x\0`);

Deno.test("kernel module: what it needs", () => {
  const needs = (info: string) => moduleNeeds("x.ko", moduleWith(info));
  assert.deepEqual(needs("depends=virtio,net_failover"), ["virtio", "net_failover"]);
  assert.deepEqual(needs("depends="), []);
  assert.throws(() => needs("retpoline=Y"), /x\.ko at byte 0: no depends=/);
  assert.throws(() => moduleNeeds("x.ko.xz", new Uint8Array([0xfd, 0x37])), /not an uncompressed/);
});

Deno.test("isElf looks at the first four bytes", () => {
  assert(isElf(smallProgram()));
  assert(!isElf(new TextEncoder().encode("#!/bin/sh")));
  assert(!isElf(new Uint8Array(3)));
});
