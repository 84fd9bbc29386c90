import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Catalog, openCatalog } from "./catalog.ts";
import { ClusterrrError, HostError, UsageError } from "../errors.ts";
import { FIXTURE_LOG_BYTES, makeRecording } from "./recording_fixture.ts";
import { defaultCatalogPath } from "./store.ts";

/** A catalog in a temporary directory that is removed afterwards. */
async function withCatalog(work: (catalog: Catalog, dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.realPath(await Deno.makeTempDir({ prefix: "clrr-catalog-" }));
  const catalog = await openCatalog({ path: join(dir, "kv/c.sqlite3") });
  try {
    await work(catalog, dir);
  } finally {
    catalog.close();
    await Deno.remove(dir, { recursive: true });
  }
}

const refusal = (pattern: RegExp) => (error: unknown) =>
  error instanceof ClusterrrError && pattern.test(error.message);

Deno.test("add, then find by id, the beginning of it, name, and path", async () => {
  await withCatalog(async (catalog, dir) => {
    const path = await makeRecording(join(dir, "one"), { id: "abcd1234", name: "trio" });
    const entry = await catalog.add(join(dir, "one"), { tags: ["ci", "bug-7"] });
    const manifestBytes = (await Deno.stat(join(path, "manifest.json"))).size;
    assert.deepEqual(entry, {
      id: "abcd1234",
      name: "trio",
      createdAt: "2026-01-01T00:00:00Z",
      vms: ["client", "server"],
      complete: true,
      storedBytes: FIXTURE_LOG_BYTES + manifestBytes,
      path,
      host: Deno.hostname(),
      tags: ["bug-7", "ci"],
      renamed: false,
    });
    await Deno.symlink(path, join(dir, "link"));
    for (const reference of ["abcd1234", "ab", "AB", "trio", path, join(dir, "link"), `${path}/`]) {
      assert.deepEqual(await catalog.find(reference), entry, reference);
    }
    await assert.rejects(catalog.find("nowhere"), refusal(/No recording "nowhere".*clusterrr ls/s));
    await assert.rejects(catalog.find(""), refusal(/No recording ""/));
  });
});

Deno.test("list is the newest first and filters by name and tag", async () => {
  await withCatalog(async (catalog, dir) => {
    for (const [i, name] of ["old", "new", "new"].entries()) {
      const createdAt = `2026-01-0${i + 1}T00:00:00Z`;
      await makeRecording(join(dir, `r${i}`), { id: `0000000${i}`, name, createdAt });
      await catalog.add(join(dir, `r${i}`), { tags: i === 1 ? ["x"] : [] });
    }
    const ids = async (filter = {}) => (await catalog.list(filter)).map((e) => e.id);
    assert.deepEqual(await ids(), ["00000002", "00000001", "00000000"]);
    assert.deepEqual(await ids({ name: "new" }), ["00000002", "00000001"]);
    assert.deepEqual(await ids({ tag: "x" }), ["00000001"]);
    assert.deepEqual(await ids({ name: "old", tag: "x" }), []);
  });
});

Deno.test("an ambiguous reference lists what it could mean; a name goes before an id prefix", async () => {
  await withCatalog(async (catalog, dir) => {
    await makeRecording(join(dir, "a"), { id: "beef0001", name: "twin" });
    await makeRecording(join(dir, "b"), { id: "beef0002", name: "twin" });
    await makeRecording(join(dir, "c"), { id: "cafe0003", name: "beef" });
    for (const name of ["a", "b", "c"]) await catalog.add(join(dir, name));
    await assert.rejects(
      catalog.find("twin"),
      refusal(/"twin" means 2 recordings.*beef0001 {2}twin.*beef0002 {2}twin/s),
    );
    await assert.rejects(catalog.find("beef00"), refusal(/"beef00" means 2 recordings/));
    assert.equal((await catalog.find("beef")).id, "cafe0003");
    assert.equal((await catalog.find("beef0001")).id, "beef0001");
  });
});

Deno.test("names and tags outlive a rescan and an add", async () => {
  await withCatalog(async (catalog, dir) => {
    await makeRecording(join(dir, "a"), { id: "aaaaaaaa", name: "first" });
    await catalog.add(join(dir, "a"));
    await catalog.rename("aaaaaaaa", "the-bug");
    await catalog.tag("aaaaaaaa", ["x", "y", "x"]);
    await catalog.untag("aaaaaaaa", ["y", "unknown"]);
    await catalog.rescan([dir]);
    await catalog.add(join(dir, "a"));
    const entry = await catalog.find("the-bug");
    assert.deepEqual([entry.name, entry.tags, entry.renamed], ["the-bug", ["x"], true]);
    await assert.rejects(catalog.find("first"), refusal(/No recording/));
  });
});

Deno.test("names and tags that could be mistaken for something else are refused", async () => {
  await withCatalog(async (catalog, dir) => {
    await makeRecording(join(dir, "a"), { id: "aaaaaaaa", name: "first" });
    await catalog.add(join(dir, "a"));
    for (const name of ["", "-x", "a/b", "a b", "x".repeat(65), "a\n"]) {
      await assert.rejects(catalog.rename("aaaaaaaa", name), UsageError);
      await assert.rejects(catalog.tag("aaaaaaaa", [name]), UsageError);
    }
    const many = Array.from({ length: 65 }, (_, i) => `t${i}`);
    await assert.rejects(catalog.tag("aaaaaaaa", many), refusal(/64 tags/));
    await assert.rejects(catalog.rename("unknown", "x"), refusal(/has just been removed/));
  });
});

Deno.test("rescan finds nested recordings, drops what is gone, reports what it cannot read", async () => {
  await withCatalog(async (catalog, dir) => {
    await makeRecording(join(dir, "deep/er/a"), { id: "aaaaaaaa", name: "a" });
    await makeRecording(join(dir, "deep/er/a/vms/client/inner"), { id: "11111111" });
    await makeRecording(join(dir, ".hidden/h"), { id: "22222222", name: "h" });
    await makeRecording(join(dir, "b"), { id: "bbbbbbbb", name: "b" });
    await Deno.mkdir(join(dir, "broken"));
    await Deno.writeTextFile(join(dir, "broken/manifest.json"), "{");
    const first = await catalog.rescan([dir]);
    assert.deepEqual(first.added.map((e) => e.id).sort(), ["aaaaaaaa", "bbbbbbbb"]);
    assert.deepEqual(first.unreadable.map((u) => u.path), [join(dir, "broken")]);
    assert.deepEqual(first.dropped, []);

    await Deno.remove(join(dir, "b"), { recursive: true });
    const second = await catalog.rescan([]);
    assert.deepEqual(second.added, []);
    assert.deepEqual(second.dropped.map((e) => e.id), ["bbbbbbbb"]);
    assert.deepEqual((await catalog.list()).map((e) => e.id), ["aaaaaaaa"]);
    await assert.rejects(catalog.rescan([join(dir, "none")]), refusal(/not a directory/));
  });
});

Deno.test("a recording whose directory has another one now is forgotten", async () => {
  await withCatalog(async (catalog, dir) => {
    const path = join(dir, "run");
    const ids = async () => (await catalog.list()).map(({ id }) => id);
    for (const id of ["aaaaaaaa", "bbbbbbbb"]) {
      await makeRecording(path, { id, name: "run" });
      await catalog.add(path);
      assert.deepEqual(await ids(), [id]);
      await Deno.remove(path, { recursive: true });
    }
    await makeRecording(path, { id: "cccccccc", name: "run" });
    const { added, dropped } = await catalog.rescan([]);
    assert.deepEqual([added, dropped].map((some) => some.map(({ id }) => id)), [
      ["cccccccc"],
      ["bbbbbbbb"],
    ]);
    assert.deepEqual(await ids(), ["cccccccc"]);
  });
});

Deno.test("a lost store is rebuilt by a rescan, all but names and tags", async () => {
  const dir = await Deno.realPath(await Deno.makeTempDir({ prefix: "clrr-catalog-" }));
  try {
    const path = join(dir, "c.sqlite3");
    await makeRecording(join(dir, "recordings/a"), { id: "aaaaaaaa", name: "a" });
    const before = await openCatalog({ path });
    await before.add(join(dir, "recordings/a"), { name: "mine", tags: ["t"] });
    const entry = await before.find("mine");
    before.close();
    for await (const { name } of Deno.readDir(dir)) {
      if (name.startsWith("c.sqlite3")) await Deno.remove(join(dir, name));
    }
    const after = await openCatalog({ path });
    try {
      assert.deepEqual(await after.list(), []);
      await after.rescan([dir]);
      assert.deepEqual(await after.list(), [{ ...entry, name: "a", tags: [], renamed: false }]);
    } finally {
      after.close();
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a copy: add takes the entry over, rescan leaves it where it was", async () => {
  await withCatalog(async (catalog, dir) => {
    const original = await makeRecording(join(dir, "x/a"), { id: "aaaaaaaa", name: "a" });
    const copy = await makeRecording(join(dir, "x/b"), { id: "aaaaaaaa", name: "a" });
    await catalog.add(original);
    await catalog.rescan([dir]);
    assert.equal((await catalog.find("aaaaaaaa")).path, original);
    await catalog.add(copy);
    assert.equal((await catalog.find("aaaaaaaa")).path, copy);
    assert.equal((await catalog.list()).length, 1);
  });
});

Deno.test("entries of another host are listed, and neither dropped nor deleted here", async () => {
  const dir = await Deno.makeTempDir({ prefix: "clrr-catalog-" });
  const path = join(dir, "c.sqlite3");
  const here = await openCatalog({ path, host: "here" });
  const there = await openCatalog({ path, host: "there" });
  try {
    await makeRecording(join(dir, "a"), { id: "aaaaaaaa", name: "a" });
    const entry = await there.add(join(dir, "a"));
    await Deno.remove(join(dir, "a"), { recursive: true });
    assert.deepEqual((await here.rescan([])).dropped, []);
    assert.equal((await here.find("aaaaaaaa")).host, "there");
    await assert.rejects(here.remove(entry, { files: true }), refusal(/on host there/));
    assert.equal((await there.rescan([])).dropped.length, 1);
  } finally {
    here.close();
    there.close();
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("remove forgets, or deletes the files, and deletes nothing but a recording", async () => {
  await withCatalog(async (catalog, dir) => {
    const a = await makeRecording(join(dir, "a"), { id: "aaaaaaaa", name: "a" });
    await catalog.remove(await catalog.add(a), { files: false });
    assert.deepEqual(await catalog.list(), []);
    assert.ok((await Deno.stat(a)).isDirectory);

    await catalog.remove(await catalog.add(a), { files: true });
    assert.deepEqual(await catalog.list(), []);
    await assert.rejects(Deno.stat(a), Deno.errors.NotFound);

    // The directory was replaced by something else since it was added.
    const b = await makeRecording(join(dir, "b"), { id: "bbbbbbbb", name: "b" });
    const entry = await catalog.add(b);
    await makeRecording(join(dir, "b"), { id: "dddddddd", name: "b" });
    await assert.rejects(
      catalog.remove(entry, { files: true }),
      refusal(/holds recording dddddddd/),
    );
    await Deno.remove(join(b, "manifest.json"));
    await assert.rejects(
      catalog.remove(entry, { files: true }),
      refusal(/not .*a readable record/),
    );
    assert.ok((await Deno.stat(join(b, "vms/client/hybrid-000000.seg"))).isFile);
    assert.equal((await catalog.list()).length, 1);

    // Its directory is gone already: the entry goes too.
    await Deno.remove(b, { recursive: true });
    await catalog.remove(entry, { files: true });
    assert.deepEqual(await catalog.list(), []);
  });
});

Deno.test("three processes write at once and lose nothing", async () => {
  const dir = await Deno.realPath(await Deno.makeTempDir({ prefix: "clrr-catalog-" }));
  const path = join(dir, "c.sqlite3");
  const writes = 25;
  try {
    await makeRecording(join(dir, "shared"), { id: "eeeeeeee", name: "shared" });
    for (let i = 0; i < 3; i++) {
      await makeRecording(join(dir, `own${i}`), { id: `0000000${i}`, name: `own${i}` });
    }
    const script = (i: number) => `
      import { openCatalog } from ${JSON.stringify(import.meta.resolve("./catalog.ts"))};
      const catalog = await openCatalog({ path: ${JSON.stringify(path)} });
      await catalog.add(${JSON.stringify(join(dir, "shared"))});
      for (let n = 0; n < ${writes}; n++) {
        await catalog.tag("eeeeeeee", ["p${i}-" + n % 20]);
        await catalog.add(${JSON.stringify(dir)} + "/own${i}", { tags: ["t" + n] });
      }
      catalog.close();`;
    const config = fileURLToPath(new URL("../../deno.json", import.meta.url));
    const children = [0, 1, 2].map((i) =>
      new Deno.Command(Deno.execPath(), {
        args: ["eval", "--config", config, script(i)],
        stdout: "piped",
        stderr: "piped",
        signal: AbortSignal.timeout(60_000),
      }).output()
    );
    for (const { code, stderr } of await Promise.all(children)) {
      assert.equal(code, 0, new TextDecoder().decode(stderr));
    }
    const catalog = await openCatalog({ path });
    try {
      assert.equal((await catalog.list()).length, 4);
      assert.equal((await catalog.find("shared")).tags.length, 60);
      for (let i = 0; i < 3; i++) {
        assert.equal((await catalog.find(`own${i}`)).tags.length, writes);
      }
    } finally {
      catalog.close();
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("a file that is not a database is refused with what to do", async () => {
  const path = await Deno.makeTempFile({ prefix: "clrr-catalog-" });
  try {
    await Deno.writeTextFile(path, "hello, this is no database at all\n".repeat(100));
    await assert.rejects(
      openCatalog({ path }),
      (error) => error instanceof HostError && /CLUSTERRR_CATALOG/.test(error.message),
    );
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("the default path follows the environment", () => {
  const path = (env: Record<string, string>) => defaultCatalogPath((name) => env[name]);
  assert.equal(path({ HOME: "/home/u" }), "/home/u/.local/share/clusterrr/catalog.sqlite3");
  assert.equal(path({ HOME: "/h", XDG_DATA_HOME: "/d" }), "/d/clusterrr/catalog.sqlite3");
  assert.equal(path({ XDG_DATA_HOME: "/d", CLUSTERRR_CATALOG: "http://kv" }), "http://kv");
});
