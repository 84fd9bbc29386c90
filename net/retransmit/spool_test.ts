import assert from "node:assert/strict";
import fc from "fast-check";
import { FormatError, VersionError } from "../../lib/errors.ts";
import { Spool, type SpooledFrame } from "./spool.ts";

const RUN = "run 7";

function frame(vm: number, sequence: number, length = 30): SpooledFrame {
  const bytes = Uint8Array.from({ length }, (_, i) => vm + 3 * sequence + i);
  return { vm, sequence, sendNumber: 2 * sequence + 1, bytes };
}

async function inDirectory(work: (path: string) => void): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clrr-spool-" });
  try {
    work(`${directory}/peer.spool`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** How many frames of VMs 1 and 2 are there, all readable. */
function read(path: string): number[] {
  const spool = Spool.open(path, RUN);
  try {
    return [1, 2].map((vm) => {
      const count = spool.count(vm);
      for (let i = 0; i < count; i++) assert.deepEqual(spool.read(vm, i), frame(vm, i).bytes);
      assert.equal(spool.read(vm, count), undefined);
      return count;
    });
  } finally {
    spool.close();
  }
}

Deno.test("spool: exact bytes; frames are there again after it was opened anew", () =>
  inDirectory((path) => {
    const spool = Spool.open(path, RUN);
    spool.append({ vm: 1, sequence: 0, sendNumber: 5, bytes: Uint8Array.of(0xaa, 0xbb) });
    assert.throws(() => spool.append(frame(1, 2)), /not the next one/);
    assert.equal(spool.bytes, Deno.statSync(path).size);
    spool.close();
    assert.equal(
      Deno.readFileSync(path).toHex(),
      "43525350" + "0100" + "0500" + "72756e2037" + "05000000" + "2122d2f5" + "010005aabb",
    );
    const again = Spool.open(path, RUN);
    assert.deepEqual(again.read(1, 0), Uint8Array.of(0xaa, 0xbb));
    again.close();
  }));

Deno.test("spool: cut off anywhere, it has what is whole and goes on", () =>
  inDirectory((path) => {
    const spool = Spool.open(path, RUN);
    const ends: number[] = [];
    for (let i = 0; i < 3; i++) {
      spool.append(frame(1, i));
      spool.append(frame(2, i));
      ends.push(spool.bytes);
    }
    spool.close();
    const whole = Deno.readFileSync(path);
    for (let length = 0; length <= whole.length; length++) {
      Deno.writeFileSync(path, whole.subarray(0, length));
      const pairs = ends.filter((end) => end <= length).length;
      const [one, two] = read(path);
      assert.equal(two, pairs);
      assert.ok(one === pairs || one === pairs + 1);
      const again = Spool.open(path, RUN);
      again.append(frame(1, one));
      again.close();
      assert.deepEqual(read(path), [one + 1, two]);
    }
  }));

Deno.test("spool: reading, old frames and new ones, does not disturb what is appended", () =>
  inDirectory((path) => {
    const spool = Spool.open(path, RUN);
    for (let i = 0; i < 40; i++) {
      spool.append(frame(1, i));
      assert.deepEqual(spool.read(1, i), frame(1, i).bytes);
      assert.deepEqual(spool.read(1, i >> 1), frame(1, i >> 1).bytes);
    }
    assert.deepEqual([spool.read(1, 40), spool.read(2, 39)], [undefined, undefined]);
    spool.close();
    assert.deepEqual(read(path), [40, 0]);
  }));

Deno.test("spool: what is damaged ends it, and is refused when it is read", () =>
  inDirectory((path) => {
    const spool = Spool.open(path, RUN);
    for (let i = 0; i < 3; i++) spool.append(frame(1, i));
    const endOfThird = spool.bytes;
    for (let i = 3; i < 30; i++) spool.append(frame(1, i)); // the third is no longer in memory
    const bytes = Deno.readFileSync(path);
    bytes[endOfThird - 1]! ^= 1;
    Deno.writeFileSync(path, bytes);
    assert.throws(() => spool.read(1, 2), FormatError);
    spool.close();
    assert.deepEqual(read(path), [2, 0]);
  }));

Deno.test("spool: another run's, another version's, and what is none are refused", () =>
  inDirectory((path) => {
    Spool.open(path, "run 8").close();
    assert.throws(() => Spool.open(path, RUN), /the spool of another replay/);
    Deno.writeFileSync(path, Uint8Array.fromHex("43525350" + "0200" + "0000"));
    assert.throws(() => Spool.open(path, RUN), VersionError);
    Deno.writeTextFileSync(path, "something else entirely");
    assert.throws(() => Spool.open(path, RUN), /not a spool/);
  }));

Deno.test("property: spool: any frames, any torn end", () =>
  inDirectory((path) => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 2 }), { maxLength: 30 }),
        fc.uint8Array({ maxLength: 200 }),
        (vms, torn) => {
          Deno.writeFileSync(path, new Uint8Array(0));
          const spool = Spool.open(path, RUN);
          for (const vm of vms) spool.append(frame(vm, spool.count(vm)));
          spool.close();
          Deno.writeFileSync(path, torn, { append: true });
          assert.deepEqual(read(path), [1, 2].map((vm) => vms.filter((v) => v === vm).length));
        },
      ),
      { numRuns: 60 },
    );
  }));
