/** The format of a snapshot's directory: what is read back, and what is refused. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { ClusterrrError, FormatError, VersionError } from "../errors.ts";
import { makeSnapshot, withStore } from "./snapshot_fixture.ts";
import { decodeFrames, encodeFrames, readSnapshot, SNAPSHOT_MANIFEST } from "./snapshot.ts";

Deno.test("snapshot: what was written is read, with the digest of the manifest's bytes", () =>
  withStore(async (store) => {
    const manifest = makeSnapshot(store, "ready");
    const { directory } = store.open("ready");
    const snapshot = readSnapshot(directory);
    assert.deepEqual(snapshot.manifest, manifest);
    const bytes = await Deno.readFile(`${directory}/${SNAPSHOT_MANIFEST}`);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
    assert.equal(snapshot.sha256, digest);
  }));

Deno.test("snapshot: a file that is missing or cut is named", () =>
  withStore((store) => {
    makeSnapshot(store, "ready");
    const { directory } = store.open("ready");
    const state = `${directory}/vms/web/state.qcow2`;
    Deno.truncateSync(state, 3);
    assert.throws(() => readSnapshot(directory), /state\.qcow2 has 3 bytes, 5 were saved/);
    Deno.removeSync(state);
    assert.throws(() => readSnapshot(directory), /state\.qcow2 is missing/);
  }));

Deno.test("snapshot: what is no manifest, another's, another version's or damaged is refused", () =>
  withStore((store) => {
    makeSnapshot(store, "ready");
    const { directory } = store.open("ready");
    const path = `${directory}/${SNAPSHOT_MANIFEST}`;
    const good = Deno.readTextFileSync(path);
    const refused = (text: string, kind: typeof ClusterrrError, message: RegExp) => {
      assert.notEqual(text, good);
      Deno.writeTextFileSync(path, text);
      assert.throws(() => readSnapshot(directory), (error) => {
        assert.ok(error instanceof kind);
        assert.match(error.message, message);
        return true;
      });
    };
    const format = FormatError as unknown as typeof ClusterrrError;
    refused(good.slice(0, -3), format, /not JSON/);
    refused(good.replace("clusterrr-snapshot", "clusterrr-recording"), format, /something else/);
    const version = VersionError as unknown as typeof ClusterrrError;
    refused(good.replace('"formatVersion": 1', '"formatVersion": 2'), version, /format 2/);
    refused(good.replace("vms/web/state", "../state"), format, /vms\[0\]\.state\.path/);
    refused(good.replace('"name": "web"', '"name": "../web"'), format, /not a VM name/);
    Deno.removeSync(path);
    assert.throws(() => readSnapshot(directory), /not a snapshot/);
  }));

Deno.test("frames in flight: decode after encode is the identity, a cut is an error", () => {
  const frames = fc.array(fc.uint8Array({ minLength: 1, maxLength: 80 }), { maxLength: 5 });
  fc.assert(fc.property(frames, fc.nat(), (frames, cut) => {
    const bytes = encodeFrames(frames);
    assert.deepEqual(decodeFrames("f", bytes), frames);
    const ends = new Set([0]);
    for (const frame of frames) ends.add(Math.max(...ends) + 4 + frame.length);
    const length = cut % (bytes.length + 1);
    const decode = () => decodeFrames("f", bytes.subarray(0, length));
    if (ends.has(length)) assert.ok(decode().length <= frames.length);
    else assert.throws(decode, FormatError);
  }));
});
