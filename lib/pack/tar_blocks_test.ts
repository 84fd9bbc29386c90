/** Other tools read what we write: GNU tar and Python's tarfile are asked. */
import assert from "node:assert/strict";
import { headerOf, paddingOf, sizeIn } from "./tar_blocks.ts";

async function output(program: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(program, { args }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

Deno.test("tar blocks: sizes", () => {
  assert.equal(headerOf("a", 0).length, 512);
  assert.equal(headerOf("a", 8 ** 11 - 1).length, 512);
  assert.equal(headerOf("a", 8 ** 11).length, 1536);
  assert.deepEqual([0, 1, 511, 512, 513].map(paddingOf), [0, 511, 1, 0, 511]);
  for (const bytes of [0, 1, 512, 8 ** 11 - 1]) assert.equal(sizeIn(headerOf("a", bytes)), bytes);
  assert.equal(sizeIn(new Uint8Array(512)), undefined);
  assert.throws(() => headerOf("x".repeat(101), 1), /too long/);
});

Deno.test("tar blocks: GNU tar and Python read small files, large files and long paths", async () => {
  const directory = await Deno.makeTempDir({ prefix: "clrr-tar-" });
  try {
    const long = "x".repeat(100);
    const large = 9 * 2 ** 30 + 5;
    const path = `${directory}/pack.tar`;
    using file = await Deno.open(path, { write: true, createNew: true });
    for (const [name, bytes] of [["vms/web/a", 3], ["large", large], [long, 0]] as const) {
      await file.write(headerOf(name, bytes));
      await file.seek(bytes + paddingOf(bytes), Deno.SeekMode.Current); // a hole
    }
    await file.write(new Uint8Array(1024));
    const listed = await output("tar", "--list", "--verbose", "--numeric-owner", "-f", path);
    assert.deepEqual(listed.trim().split("\n").map((line) => line.split(/ +/)), [
      ["-rw-r--r--", "0/0", "3", "1970-01-01", "00:00", "vms/web/a"],
      ["-rw-r--r--", "0/0", `${large}`, "1970-01-01", "00:00", "large"],
      ["-rw-r--r--", "0/0", "0", "1970-01-01", "00:00", long],
    ]);
    const script = "import sys, tarfile\n" +
      "for m in tarfile.open(sys.argv[1], 'r:'): print(m.name, m.size, m.isreg())";
    const python = await output("python3", "-c", script, path);
    assert.equal(python, `vms/web/a 3 True\nlarge ${large} True\n${long} 0 True\n`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
