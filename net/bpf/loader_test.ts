import assert from "node:assert/strict";
import { FormatError, HostError } from "../../lib/errors.ts";
import { summariseVerifierLog, untilNoSignal } from "./bpf_syscall.ts";
import type { ObjectSpec, ProgramSpec } from "./elf.ts";
import { loadObject } from "./loader.ts";

/** `struct bpf_insn` in hex, eight bytes each. */
function program(section: string, hex: string): ProgramSpec {
  const code = Uint8Array.from(hex.replace(/\s/g, "").match(/../g)!, (b) => parseInt(b, 16));
  return { name: "test", section, code, mapLoads: [] };
}

const EXIT = "9500000000000000";
const RETURN_0 = `b700000000000000 ${EXIT}`;

function objectOf(programs: ProgramSpec[]): ObjectSpec {
  const map = { name: "m", type: 2, keyBytes: 4, valueBytes: 8, maxEntries: 1, flags: 0 };
  return { license: "GPL", maps: [map], programs };
}

/** Descriptors of this process that are BPF objects. */
function openObjects(): number {
  const links = [...Deno.readDirSync("/proc/self/fd")].map(({ name }) => {
    try {
      return Deno.readLinkSync(`/proc/self/fd/${name}`);
    } catch {
      return ""; // the directory's own descriptor is gone
    }
  });
  return links.filter((link) => link.startsWith("anon_inode:bpf")).length;
}

Deno.test("maps and programs are there until close", () => {
  const before = openObjects();
  const loaded = loadObject(objectOf([program("socket", RETURN_0)]), { m: 5 });
  assert.equal(openObjects(), before + 2);
  const info = Deno.readTextFileSync(`/proc/self/fdinfo/${loaded.map("m")}`);
  assert.match(info, /max_entries:\t5\n/);
  assert.throws(() => loaded.map("other"), /holds no other/);
  loaded.close();
  assert.equal(openObjects(), before);
});

Deno.test("the verifier's last word is the message, its whole log the cause", () => {
  const before = openObjects();
  assert.throws(() => loadObject(objectOf([program("tc", EXIT)]), {}), (error: unknown) => {
    assert.ok(error instanceof HostError);
    assert.match(error.message, /^loading the BPF program test failed \(13\): R0 !read_ok\n/);
    assert.ok(error.cause instanceof Error);
    assert.match(error.cause.message, /0: \(95\) exit/);
    return true;
  });
  assert.equal(openObjects(), before);
});

Deno.test("a load that a signal ends is tried again, not for ever", () => {
  const answers = [-11, -11, 7];
  assert.equal(untilNoSignal(() => answers.shift()!), 7);
  assert.deepEqual(answers, []);
  assert.equal(untilNoSignal(() => -13), -13);
  let loads = 0;
  assert.equal(untilNoSignal(() => (loads++, -11)), -11);
  assert.equal(loads, 21);
});

Deno.test("a section that is no program type is refused", () => {
  const before = openObjects();
  assert.throws(() => loadObject(objectOf([program("kprobe", RETURN_0)]), {}), FormatError);
  assert.equal(openObjects(), before);
});

Deno.test("a verifier log is summarised by what is wrong, not by its statistics", () => {
  const log =
    "0: R1=ctx() R10=fp0\n0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000)\n\n";
  assert.equal(summariseVerifierLog(log), "R0 !read_ok");
  assert.equal(summariseVerifierLog(""), "");
});
