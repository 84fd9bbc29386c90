import assert from "node:assert/strict";
import fc from "fast-check";
import { run } from "../../host/command.ts";
import { cpioArchive, type TreeEntry } from "./cpio.ts";

const file = (text: string, executable = false): TreeEntry => ({
  kind: "file",
  bytes: new TextEncoder().encode(text),
  executable,
});

Deno.test("cpio: the exact bytes of a small tree", () => {
  const archive = cpioArchive(
    new Map<string, TreeEntry>([["b/x", file("hello", true)], ["a", {
      kind: "link",
      target: "b",
    }]]),
  );
  const zeros = "00000000";
  const header = (inode: number, mode: string, links: number, size: number, name: number) =>
    "070701" + `0000000${inode}` + mode + zeros + zeros + `0000000${links}` + zeros +
    `0000000${size}` + zeros + zeros + zeros + zeros + `0000000${name.toString(16)}` + zeros;
  const expected = [
    header(1, "0000a1ff", 1, 1, 2) + "a\0" + "" + "b\0\0\0", // 110 + 2 is a multiple of 4
    header(2, "000041ed", 2, 0, 2) + "b\0",
    header(3, "000081ed", 1, 5, 4) + "b/x\0" + "\0\0" + "hello\0\0\0",
    header(0, zeros, 1, 0, 11) + "TRAILER!!!\0" + "\0\0\0",
  ].join("");
  assert.equal(new TextDecoder("latin1").decode(archive), expected);
});

Deno.test("cpio: the order of the tree does not matter", () => {
  const nameArb = fc.stringMatching(/^[a-c]{1,2}(\/[a-c]{1,2}){0,2}$/);
  const treeArb = fc.uniqueArray(fc.tuple(nameArb, fc.string()), { selector: ([name]) => name })
    .filter((list) => !list.some(([a]) => list.some(([b]) => b.startsWith(`${a}/`))));
  fc.assert(fc.property(treeArb, (list) => {
    const tree = (entries: typeof list) =>
      cpioArchive(new Map(entries.map(([name, text]) => [name, file(text)])));
    assert.deepEqual(tree(list), tree(list.toReversed()));
  }));
});

Deno.test("cpio: busybox unpacks what was put in", async () => {
  const folder = await Deno.makeTempDir({ prefix: "clusterrr-cpio-" });
  try {
    const archive = `${folder}/archive`;
    const long = "x".repeat(100_001);
    await Deno.writeFile(
      archive,
      cpioArchive(
        new Map<string, TreeEntry>([
          ["usr/bin/tool", file("#!/bin/sh\n", true)],
          ["usr/share/long name", file(long)],
          ["bin", { kind: "link", target: "usr/bin" }],
          ["empty", { kind: "directory" }],
        ]),
      ),
    );
    await Deno.mkdir(`${folder}/out`);
    await run(["env", "-C", `${folder}/out`, "busybox", "cpio", "-i", "-F", archive]);
    assert.equal(await Deno.readTextFile(`${folder}/out/bin/tool`), "#!/bin/sh\n");
    assert.equal((await Deno.stat(`${folder}/out/bin/tool`)).mode! & 0o777, 0o755);
    assert.equal(await Deno.readTextFile(`${folder}/out/usr/share/long name`), long);
    assert.equal((await Deno.stat(`${folder}/out/usr/share/long name`)).mode! & 0o777, 0o644);
    assert((await Deno.stat(`${folder}/out/empty`)).isDirectory);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
