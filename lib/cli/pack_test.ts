/** `pack` and `unpack` as a user sees them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { makeRecording } from "../catalog/recording_fixture.ts";
import { commandLine, withDirectory } from "./command_fixture.ts";

Deno.test("pack: hands over the recording, for people and for scripts", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const directory = await makeRecording(join(dir, "r"));
    const file = join(dir, "r.tar");
    const plain = await run(["pack", directory, file]);
    assert.deepEqual(plain.calls, [["pack", { directory, file, images: false }]]);
    assert.equal(
      plain.stdout,
      `trio (abcdef01): 9 files, 20.0 MB packed in 1.5 s into ${file}, 5.00 MB\n` +
        "left out: index/\n",
    );
    const { calls, stdout } = await run(["pack", directory, file, "--images", "--json"]);
    assert.deepEqual(calls, [["pack", { directory, file, images: true }]]);
    assert.equal(JSON.parse(stdout).images, 2);
    const people = await run(["pack", directory, file, "--images"]);
    assert.match(people.stdout, /20\.0 MB, with 2 images packed in/);
  });
});

Deno.test("unpack: needs a file that is there and a directory to make", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const file = join(dir, "r.tar");
    const out = join(dir, "out");
    assert.equal((await run(["unpack", file, "--out", out])).status, 2);
    await Deno.writeTextFile(file, "");
    assert.equal((await run(["unpack", file])).status, 2);
    const { status, calls, stdout } = await run(["unpack", file, "--out", out]);
    assert.equal(status, 0);
    assert.deepEqual(calls, [["unpack", { file, out }]]);
    assert.equal(
      stdout,
      `trio (abcdef01): 9 files, 20.0 MB, with 2 images unpacked in 1.5 s: ${out}\n`,
    );
    const json = await run(["unpack", file, "--out", out, "--json"]);
    assert.equal(JSON.parse(json.stdout).directory, out);
  });
});

Deno.test("a packed recording where a directory is expected: unpack it first", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const testdata = fileURLToPath(new URL("../pack/testdata/", import.meta.url));
    for (const name of ["golden.tar", "golden.tar.zst"]) {
      const file = `${testdata}${name}`;
      for (const command of ["replay", "verify", "show"]) {
        const { status, stderr, calls } = await run([command, file]);
        assert.deepEqual([status, calls], [1, []], `${command} ${stderr}`);
        assert.match(
          stderr,
          /is a packed recording\. Unpack it first: clusterrr unpack .* --out DIR/,
        );
      }
    }
    const other = join(dir, "notes.txt");
    await Deno.writeTextFile(other, "not packed");
    assert.doesNotMatch((await run(["replay", other])).stderr, /packed/);
  });
});
