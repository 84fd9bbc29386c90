/** A pack gives back what went in, or says where it is damaged. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ClusterrrError, FormatError, VersionError } from "../errors.ts";
import { compressed, decompressed } from "./compression.ts";
import { decodeContents, encodeContents, type PackContents } from "./contents.ts";
import {
  contentsOf,
  filesOf,
  gather,
  GOLDEN_FILES,
  joined,
  packOf,
  portions,
  sha256Of,
} from "./pack_fixture.ts";
import { headerOf, paddingOf } from "./tar_blocks.ts";

const golden = new URL("./testdata/golden.tar", import.meta.url);
const goldenCompressed = new URL("./testdata/golden.tar.zst", import.meta.url);

Deno.test("pack: the golden pack is written and read as ever", async () => {
  const bytes = await Deno.readFile(golden);
  assert.deepEqual(await packOf(GOLDEN_FILES), bytes);
  assert.deepEqual(await filesOf(bytes), GOLDEN_FILES);
  const zipped = await Deno.readFile(goldenCompressed);
  assert.deepEqual(await gather(decompressed(portions(zipped), "golden.tar.zst")), bytes);
});

Deno.test("pack: GNU tar and zstd extract it", async () => {
  const directory = await Deno.makeTempDir({ prefix: "clrr-pack-" });
  try {
    for (const [file, options] of [[golden, []], [goldenCompressed, ["--zstd"]]] as const) {
      const target = await Deno.makeTempDir({ dir: directory });
      const args = [...options, "--extract", "-f", file.pathname, "-C", target];
      const { code, stderr } = await new Deno.Command("tar", { args }).output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      for (const [path, content] of Object.entries(GOLDEN_FILES)) {
        assert.deepEqual(await Deno.readFile(`${target}/${path}`), content);
      }
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

const pathPart = fc.stringMatching(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,15}$/);
const files = fc.dictionary(
  fc.tuple(fc.constantFrom("top", "vms/web", "snapshot/vms/web"), pathPart)
    .map((parts) => parts.join("/")),
  fc.uint8Array({ maxLength: 3000 }),
  { maxKeys: 8, noNullPrototype: true },
);

Deno.test("pack: what goes in comes out, whatever the portions, compressed or not", async () => {
  await fc.assert(
    fc.asyncProperty(files, fc.integer({ min: 1, max: 5000 }), async (given, portionBytes) => {
      const pack = await packOf(given);
      assert.equal(pack.length % 512, 0);
      assert.deepEqual(await filesOf(pack, portionBytes), given);
      const zipped = await gather(compressed(portions(pack, portionBytes)));
      assert.deepEqual(await gather(decompressed(portions(zipped, portionBytes), "z")), pack);
    }),
    { numRuns: 150 },
  );
});

Deno.test("pack: more than one compressed frame", async () => {
  const content = crypto.getRandomValues(new Uint8Array(60_000));
  const large = new Uint8Array((2 << 20) + 17); // two whole frames and a short one
  for (let at = 0; at < large.length; at += 900_000) {
    large.set(content.subarray(0, large.length - at), at);
  }
  for (const bytes of [large, large.subarray(0, 2 << 20), large.subarray(0, 0)]) {
    const zipped = await gather(compressed(portions(bytes, 123_457)));
    assert.deepEqual(await gather(decompressed(portions(zipped, 77_777), "z")), bytes);
  }
});

/** Reads a damaged pack, which has to be refused. */
async function damageIn(pack: Uint8Array): Promise<FormatError> {
  try {
    await filesOf(pack, 4096);
  } catch (error) {
    assert(error instanceof FormatError, `${error}`);
    return error;
  }
  return assert.fail("the damage was not found");
}

Deno.test("pack: a flipped bit anywhere is found", async () => {
  const pack = await Deno.readFile(golden);
  const listEnd = pack.indexOf(0, 512); // behind pack.json: with another list, what follows is wrong
  for (let at = 0; at < pack.length; at++) {
    pack[at]! ^= 1 << at % 8;
    const { offset } = await damageIn(pack);
    const inList = at >= 512 && at < listEnd;
    assert(inList || offset <= at, `the damage at ${at} was reported at ${offset}`);
    pack[at]! ^= 1 << at % 8;
  }
  assert.deepEqual(await filesOf(pack), GOLDEN_FILES);
});

Deno.test("pack: cut off at every block, and within one, it names the file", async () => {
  const pack = await Deno.readFile(golden);
  const lengths = Array.from({ length: pack.length / 512 }, (_, i) => [512 * i, 512 * i + 100]);
  for (const length of lengths.flat()) {
    const { message, offset } = await damageIn(pack.subarray(0, length));
    assert.equal(offset, length);
    assert.match(message, /the pack is cut off here, in .+\. Copy the pack again/);
  }
  const inLog = await damageIn(pack.subarray(0, pack.length - 1024 - 1024));
  assert.match(inLog.message, /in (the header of )?vms\/web\/console\.log/);
});

Deno.test("pack: damage names its file and place", async () => {
  const pack = await packOf(GOLDEN_FILES);
  const at = pack.length - 1024 - 1024; // in console.log, the last file
  pack[at]! ^= 4;
  const error = await damageIn(pack);
  assert.match(error.message, /vms\/web\/console\.log is damaged: SHA-256 [0-9a-f]{64}, packed/);
});

Deno.test("pack: a compressed pack is whole, or damage is reported", async () => {
  const pack = await Deno.readFile(golden);
  const zipped = await Deno.readFile(goldenCompressed);
  const read = (bytes: Uint8Array) => filesOf(decompressed(portions(bytes), "test.tar.zst"));
  for (let length = 0; length < zipped.length; length++) {
    await assert.rejects(read(zipped.subarray(0, length)), FormatError);
  }
  for (let at = 0; at < zipped.length; at++) {
    const damaged = zipped.slice();
    damaged[at]! ^= 1 << at % 8;
    try {
      assert.deepEqual(await read(damaged), GOLDEN_FILES); // bits that zstd does not use
    } catch (error) {
      assert(error instanceof FormatError, `byte ${at}: ${error}`);
    }
  }
  for (const more of [Uint8Array.of(1), zipped, new Uint8Array(600)]) {
    await assert.rejects(read(joined([zipped, more])), FormatError);
  }
  await assert.rejects(filesOf(joined([pack, new Uint8Array(1)])), /behind the end of the pack/);
});

Deno.test("pack: what zstd itself wrote is refused with what to do", async () => {
  const { code, stdout } = await new Deno.Command("zstd", {
    args: ["--stdout", "--quiet", golden.pathname],
  }).output();
  assert.equal(code, 0);
  await assert.rejects(
    gather(decompressed(portions(stdout), "z")),
    (error) => error instanceof FormatError && /unzstd first/.test(error.message),
  );
});

Deno.test("pack: arbitrary bytes are a FormatError", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), async (bytes) => {
      await assert.rejects(filesOf(decompressed(portions(bytes), "x")), FormatError);
    }),
  );
});

/** A pack whose `pack.json` is `text`. */
function packWith(text: string): Uint8Array {
  const list = new TextEncoder().encode(text);
  return joined([
    headerOf("pack.json", list.length),
    list,
    new Uint8Array(paddingOf(list.length) + 1024),
  ]);
}

Deno.test("pack: paths that lead elsewhere, twice the same, hidden ones are refused", async () => {
  const refused = [
    ["/etc/passwd"],
    ["../x"],
    ["a/../../x"],
    ["a/./x"],
    ["a//x"],
    ["a/"],
    [""],
    [".hidden"],
    ["a/.hidden"],
    ["a\\b"],
    ["a\0b"],
    ["ä"],
    ["x".repeat(101)],
    ["pack.json"],
    ["a", "b", "a"],
    ["a", "a/b"],
    [`images/${"0".repeat(64)}`],
  ];
  for (const paths of refused) {
    const [file] = contentsOf({ a: new Uint8Array(0) }).files;
    const contents: PackContents = {
      ...contentsOf({}),
      files: paths.map((path) => ({ ...file!, path })),
    };
    assert.throws(() => encodeContents(contents), `${paths}`);
    const text = JSON.stringify(contents, null, 1) + "\n";
    const error = await damageIn(packWith(text));
    assert.match(error.message, /pack\.json: files\[\d\]\.path: /, `${paths}`);
  }
});

Deno.test("pack: links, devices and directories are not what the list says", async () => {
  const content = Uint8Array.of(1, 2, 3);
  const pack = await packOf({ a: content });
  const header = pack.length - 1024 - 512 - 512;
  for (const type of "1234567gxL") {
    const changed = pack.slice();
    changed[header + 156] = type.charCodeAt(0);
    const sum = changed.subarray(header, header + 512)
      .reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 32 : byte), 0);
    changed.set(new TextEncoder().encode(sum.toString(8).padStart(6, "0")), header + 148);
    assert.match((await damageIn(changed)).message, /this is not the header of a/);
  }
});

Deno.test("pack: another version, another format, too much", async () => {
  const text = new TextDecoder().decode(encodeContents(contentsOf({})));
  const newer = await damageIn(packWith(text.replace('"formatVersion": 1', '"formatVersion": 2')));
  assert(newer instanceof VersionError);
  assert.match(newer.message, /pack format 2; this build knows format 1/);
  const other = await damageIn(packWith(text.replace("clusterrr-pack", "something")));
  assert.match(other.message, /no packed recording/);
  const spaced = await damageIn(packWith(text.replace("\n", "\n ")));
  assert.match(spaced.message, /not written as clusterrr writes it/);
  const extra = await damageIn(packWith(text.replace('"files"', '"more": 1, "files"')));
  assert.match(extra.message, /more/);
  const huge = await damageIn(headerOf("pack.json", 1 << 30));
  assert.match(huge.message, /too many/);
  assert.throws(() => decodeContents("x", 0, Uint8Array.of(0xff)), /not JSON/);
});

Deno.test("pack: a file that changes meanwhile is named", async () => {
  const content = Uint8Array.of(1, 2, 3);
  const contents = contentsOf({ "vms/web/console.log": content });
  for (const now of [[1, 2], [1, 2, 3, 4], [1, 2, 4]]) {
    await assert.rejects(
      packOf({ "vms/web/console.log": Uint8Array.from(now) }, contents),
      (error) =>
        error instanceof ClusterrrError &&
        /vms\/web\/console\.log changed while it was packed/.test(error.message),
    );
  }
  assert.equal(contents.files[0]!.sha256, sha256Of(content));
});
