import assert from "node:assert/strict";
import fc from "fast-check";
import { FormatError } from "../../lib/errors.ts";
import { parseObject } from "./elf.ts";
import object from "./recorder.bpf.o" with { type: "bytes" };

const FILE = "recorder.bpf.o";

Deno.test("the recorder's object holds its maps and programs", () => {
  const { license, maps, programs } = parseObject(object, FILE);
  assert.equal(license, "Dual MIT/GPL");
  const MMAPABLE = 1024;
  assert.deepEqual(
    maps.map((m) => [m.name, m.type, m.keyBytes, m.valueBytes, m.maxEntries, m.flags]).sort(),
    [
      ["clrr_frame", 6, 4, 1536, 1, 0],
      ["clrr_ports", 2, 4, 4, 1, 0],
      ["clrr_ring", 27, 0, 0, 1, 0],
      ["clrr_stamps", 2, 4, 32, 1, 0],
      ["clrr_state", 2, 4, 64, 1, MMAPABLE],
      ["clrr_tunnel", 2, 4, 64, 1, MMAPABLE],
    ],
  );
  assert.deepEqual(programs.map((p) => [p.name, p.section]), [
    ["clrr_ingress", "tc"],
    ["clrr_deliver", "socket"],
    ["clrr_tunnel_out", "tc"],
    ["clrr_tunnel_in", "tc"],
  ]);
  for (const { code, mapLoads } of programs) {
    assert.equal(code.length % 8, 0);
    assert.ok([0x95, 0x05].includes(code[code.length - 8]!)); // BPF_EXIT, or a jump back
    for (const { offset } of mapLoads) assert.equal(code[offset], 0x18); // BPF_LD | BPF_IMM | BPF_DW
  }
  assert.deepEqual(programs[1]!.mapLoads.map((load) => load.map), [
    "clrr_ports",
    "clrr_state",
    "clrr_state",
    "clrr_stamps",
    "clrr_ring",
  ]);
});

Deno.test("an object that is cut off anywhere is a FormatError", () => {
  for (let length = 0; length < object.length; length++) {
    assert.throws(
      () => parseObject(object.slice(0, length), FILE),
      (error: unknown) =>
        error instanceof FormatError && error.file === FILE && error.offset <= length,
      `${length}`,
    );
  }
});

Deno.test("what is no eBPF object is named", () => {
  const changed = (offset: number, value: number) => {
    const bytes = object.slice();
    bytes[offset] = value;
    return bytes;
  };
  assert.throws(
    () => parseObject(changed(0, 0), FILE),
    /at byte 0: not a little-endian 64-bit ELF/,
  );
  assert.throws(() => parseObject(changed(5, 2), FILE), /at byte 5: not a little-endian/);
  assert.throws(() => parseObject(changed(18, 62), FILE), /not a relocatable eBPF object/);
  assert.throws(() => parseObject(changed(0x3a, 40), FILE), /odd section headers/);
});

Deno.test("a changed byte gives an object or a FormatError, nothing else", () => {
  const change = fc.tuple(fc.nat(object.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
      const bytes = object.slice();
      for (const [offset, value] of changes) bytes[offset] = value;
      try {
        parseObject(bytes, FILE);
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
      }
    }),
    { numRuns: 1000, verbose: 1 },
  );
});
