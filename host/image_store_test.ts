/** The store of images: what is found is what was added, and nothing half-written ever is. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { ClusterrrError, HostError } from "../lib/errors.ts";
import { imagesDirectory, ImageStore } from "./image_store.ts";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const CONTENT = new Uint8Array(300_000).map((_, i) => i % 251);
const DIGEST = sha256(CONTENT);

async function withStore(work: (store: ImageStore, directory: string) => Promise<void>) {
  const directory = await Deno.makeTempDir({ prefix: "clrr-store-" });
  try {
    await work(new ImageStore(`${directory}/images`), directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const filesIn = (directory: string) => [...Deno.readDirSync(directory)].map(({ name }) => name);

async function* portions(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
  await Promise.resolve();
}

Deno.test("image store: CLUSTERRR_IMAGES names its directory", () => {
  assert.equal(imagesDirectory(() => undefined), "/var/lib/clusterrr/images");
  assert.equal(imagesDirectory((name) => name === "CLUSTERRR_IMAGES" ? "/x" : undefined), "/x");
});

Deno.test("image store: a file is linked, and found by its digest", () =>
  withStore(async (store, directory) => {
    assert.equal(store.find(DIGEST), undefined);
    await Deno.writeFile(`${directory}/kernel`, CONTENT);
    await Deno.symlink("kernel", `${directory}/name`);
    const path = await store.add(`${directory}/name`, DIGEST);
    assert.equal(path, store.find(DIGEST));
    assert.deepEqual(await Deno.readFile(path), CONTENT);
    assert.equal(Deno.lstatSync(path).ino, Deno.statSync(`${directory}/kernel`).ino);
    assert.equal(await store.add(`${directory}/kernel`, DIGEST), path, "adding again is no error");
    assert.deepEqual(filesIn(store.directory), [DIGEST]);
  }));

Deno.test("image store: a file of another file system is copied", async () => {
  const other = await Deno.makeTempFile({ dir: "/dev/shm" });
  try {
    await Deno.writeFile(other, CONTENT);
    await withStore(async (store) => {
      const path = await store.add(other, DIGEST);
      assert.notEqual(Deno.statSync(path).dev, Deno.statSync(other).dev, "the test needs two");
      assert.deepEqual(await Deno.readFile(path), CONTENT);
      assert.deepEqual(filesIn(store.directory), [DIGEST]);
    });
  } finally {
    await Deno.remove(other);
  }
});

Deno.test("image store: a stream is not visible before its end", () =>
  withStore(async (store) => {
    async function* watched(): AsyncGenerator<Uint8Array> {
      for await (const portion of portions(CONTENT, 50_000)) {
        assert.equal(store.find(DIGEST), undefined);
        assert.ok(!filesIn(store.directory).includes(DIGEST));
        yield portion;
      }
    }
    const path = await store.add(watched(), DIGEST);
    assert.deepEqual(await Deno.readFile(path), CONTENT);
  }));

Deno.test("image store: another content is refused and leaves nothing", () =>
  withStore(async (store, directory) => {
    await Deno.writeFile(`${directory}/kernel`, CONTENT.subarray(1));
    for (const source of [`${directory}/kernel`, portions(CONTENT.subarray(1), 1000)]) {
      await assert.rejects(
        store.add(source, DIGEST),
        (error) => error instanceof ClusterrrError && error.message.includes(DIGEST),
      );
      assert.deepEqual(filesIn(store.directory), []);
    }
    assert.equal(Deno.statSync(`${directory}/kernel`).size, CONTENT.length - 1);
  }));

Deno.test("image store: a broken or aborted stream leaves nothing", () =>
  withStore(async (store) => {
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield CONTENT.subarray(0, 1000);
      await Promise.reject(new Error("the connection is gone"));
    }
    await assert.rejects(store.add(broken(), DIGEST), /the connection is gone/);
    const controller = new AbortController();
    async function* aborting(): AsyncGenerator<Uint8Array> {
      for await (const portion of portions(CONTENT, 1000)) {
        yield portion;
        controller.abort(new Error("enough"));
      }
    }
    await assert.rejects(store.add(aborting(), DIGEST, controller.signal), /enough/);
    assert.deepEqual(filesIn(store.directory), []);
  }));

Deno.test("image store: a damaged image is replaced by the right one", () =>
  withStore(async (store) => {
    const path = await store.add(portions(CONTENT, 1000), DIGEST);
    await Deno.writeFile(path, CONTENT.subarray(5));
    await store.add(portions(CONTENT, 1000), DIGEST);
    assert.deepEqual(await Deno.readFile(path), CONTENT);
  }));

Deno.test("image store: a source or a directory that is not there is named", () =>
  withStore(async (store, directory) => {
    await assert.rejects(store.add(`${directory}/absent`, DIGEST), /absent|No such file/);
    await Deno.writeFile(`${directory}/file`, CONTENT);
    const inFile = new ImageStore(`${directory}/file/images`);
    await assert.rejects(inFile.add(portions(CONTENT, 1000), DIGEST), HostError);
    assert.equal(inFile.find(DIGEST), undefined);
    assert.throws(() => store.find("../kernel"), /not a SHA-256/);
  }));

Deno.test("image store: what a killed process left is removed a day later", () =>
  withStore(async ({ directory }) => {
    await Deno.mkdir(directory);
    await Deno.writeFile(`${directory}/.partial-new`, CONTENT);
    const store = new ImageStore(directory);
    await store.add(portions(CONTENT, 1000), DIGEST);
    assert.deepEqual(filesIn(directory).sort(), [".partial-new", DIGEST]);
    const tomorrow = new ImageStore(directory, () => Date.now() + 25 * 3_600_000);
    const other = CONTENT.subarray(1);
    await tomorrow.add(portions(other, 1000), sha256(other));
    assert.deepEqual(filesIn(directory).sort(), [DIGEST, sha256(other)].sort());
  }));
