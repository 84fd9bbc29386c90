/** The store of snapshots: only whole ones are seen, under names that are not taken by accident. */
import assert from "node:assert/strict";
import { makeSnapshot, withStore } from "./snapshot_fixture.ts";
import { snapshotsDirectory } from "./store.ts";

const hidden = (directory: string) =>
  [...Deno.readDirSync(directory)].map(({ name }) => name).filter((name) => name.startsWith("."));

Deno.test("store: next to the catalog's file, wherever that is", () => {
  const from = (env: Record<string, string>) => snapshotsDirectory((name) => env[name]);
  assert.equal(from({ HOME: "/home/u" }), "/home/u/.local/share/clusterrr/snapshots");
  assert.equal(from({ XDG_DATA_HOME: "/d" }), "/d/clusterrr/snapshots");
  assert.equal(from({ CLUSTERRR_CATALOG: "/c/x.db", HOME: "/home/u" }), "/c/snapshots");
  for (const CLUSTERRR_CATALOG of ["https://kv.example", ":memory:"]) {
    assert.equal(
      from({ CLUSTERRR_CATALOG, XDG_DATA_HOME: "/d" }),
      "/d/clusterrr/snapshots",
    );
  }
});

Deno.test("store: an unfinished snapshot is neither listed nor opened, and can be abandoned", () =>
  withStore(async (store) => {
    assert.deepEqual(await store.list(), []);
    Deno.writeTextFileSync(`${store.begin("zz00zz")}/part`, "x");
    assert.deepEqual(await store.list(), []);
    assert.deepEqual(store.unfinished(), ["zz00zz"]);
    assert.throws(() => store.open(".partial-zz00zz"), /No snapshot/);
    store.abandon("zz00zz");
    assert.deepEqual(store.unfinished(), []);
    store.abandon("zz00zz"); // nothing to do
  }));

Deno.test("store: a name is taken until it is replaced or removed", () =>
  withStore(async (store) => {
    makeSnapshot(store, "ready");
    const { sha256 } = store.open("ready");
    assert.throws(() => makeSnapshot(store, "ready", "cd34ef"), /"ready" already.*--force/);
    store.abandon("cd34ef");
    assert.equal(store.open("ready").sha256, sha256);

    makeSnapshot(store, "ready", "cd34ef", true);
    assert.deepEqual(hidden(store.directory), []);
    const [entry] = await store.list();
    assert.deepEqual([entry!.name, entry!.vms, entry!.problem], ["ready", ["web"], undefined]);
    assert.ok(entry!.bytes > 500);

    store.remove("ready", "ef56ab");
    assert.deepEqual(await store.list(), []);
    assert.deepEqual(hidden(store.directory), []);
    assert.throws(() => store.open("ready"), /No snapshot "ready" in .*clusterrr boot/);
  }));

Deno.test("store: a snapshot is found by its digest under any name, and beside the recording first", () =>
  withStore((store) => {
    makeSnapshot(store, "ready");
    makeSnapshot(store, "other", "cd34ef");
    const { sha256, directory } = store.open("ready");
    Deno.renameSync(directory, `${store.directory}/renamed`);
    assert.equal(store.find(sha256)!.directory, `${store.directory}/renamed`);
    const copy = `${store.directory}/../copy`;
    Deno.renameSync(`${store.directory}/renamed`, copy);
    assert.equal(store.find(sha256), undefined);
    assert.equal(store.find(sha256, ["/nonexistent", copy])!.directory, copy);
  }));

Deno.test("store: a damaged snapshot is listed with what is wrong, and is nobody's match", () =>
  withStore(async (store) => {
    makeSnapshot(store, "ready");
    const { sha256, directory } = store.open("ready");
    Deno.removeSync(`${directory}/vms/web/disk0.qcow2`);
    const [entry] = await store.list();
    assert.match(entry!.problem!, /disk0\.qcow2 is missing/);
    assert.equal(store.find(sha256), undefined);
  }));
