/** Files between hosts: what is given out, what is taken in, what is refused. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { makeRecording } from "../../lib/catalog/recording_fixture.ts";
import { ProtocolError, RemoteError } from "../../lib/errors.ts";
import { until } from "../../lib/until_fixture.ts";
import { FILE_METHODS, PORTION_BYTES_MAX } from "../../lib/protocol/control.ts";
import { channelPair } from "../../lib/protocol/memory_channel.ts";
import { startRpc } from "../../lib/protocol/rpc.ts";
import { fetchPart, type FileRpc, listPart, readImage, sendImage } from "../remote_files.ts";
import { AgentState } from "./agent_state.ts";
import { serveFiles } from "./file_service.ts";

const ALPHA = { role: "agent", name: "alpha", serial: "1" } as const;
const OPERATOR = { role: "operator", name: "ann", serial: "2" } as const;
const RECORDING = "abcdef0123456789";

interface Scene {
  readonly rpc: FileRpc;
  readonly state: AgentState;
  readonly folder: string;
}

/** An agent with one recording, and an operator who has opened its file service. */
async function withAgent(work: (scene: Scene) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "clrr-files-" });
  const [left, right] = channelPair(OPERATOR, ALPHA);
  try {
    const state = new AgentState(`${folder}/state`);
    await makeRecording(state.recording(RECORDING));
    await Deno.writeTextFile(`${state.recording(RECORDING)}/cluster.yaml`, "name: trio");
    await Deno.writeTextFile(`${state.recording(RECORDING)}/vms/server/console.log`, "hello");
    serveFiles(right, state);
    const rpc = startRpc(left, { serves: {}, handlers: {}, calls: FILE_METHODS });
    await work({ rpc, state, folder });
  } finally {
    left.close();
    await right.closed;
    await Deno.remove(folder, { recursive: true });
  }
}

/** A file of `bytes` bytes, and its digest. */
async function makeFile(path: string, bytes: number): Promise<string> {
  const content = Uint8Array.from({ length: bytes }, (_, i) => i * 7 + (i >> 8));
  await Deno.writeFile(path, content);
  return createHash("sha256").update(content).digest("hex");
}

Deno.test("a part is listed and copied, whole or some of it", async () => {
  await withAgent(async ({ rpc, folder, state }) => {
    const big = `${state.recording(RECORDING)}/vms/client/hybrid-000001.seg`;
    await makeFile(big, 2 * PORTION_BYTES_MAX + 17);
    const part = await listPart(rpc, RECORDING);
    assert.deepEqual(part.files.map(({ path }) => path), [
      "cluster.yaml",
      "vms/client/hybrid-000000.seg",
      "vms/client/hybrid-000001.seg",
      "vms/server/console.log",
    ]);
    let bytes = 0;
    await fetchPart(rpc, RECORDING, part, `${folder}/all`, { onBytes: (n) => bytes += n });
    assert.equal(bytes, part.files.reduce((sum, file) => sum + file.bytes, 0));
    const copy = await Deno.readFile(`${folder}/all/vms/client/hybrid-000001.seg`);
    assert.deepEqual(copy, await Deno.readFile(big));
    const wanted = (path: string) => path.startsWith("vms/server/");
    await fetchPart(rpc, RECORDING, part, `${folder}/some`, { wanted });
    assert.deepEqual([...Deno.readDirSync(`${folder}/some`)].map(({ name }) => name), ["vms"]);
    assert.equal(await Deno.readTextFile(`${folder}/some/vms/server/console.log`), "hello");
  });
});

Deno.test("nothing but the files of recordings is given out", async () => {
  await withAgent(async ({ rpc }) => {
    const paths = [
      "manifest.json",
      "../../identity/key.pem",
      "vms/../../../identity/key.pem",
      "vms/server/../../cluster.yaml",
      "/etc/passwd",
      "vms/server/key.pem",
    ];
    for (const path of paths) {
      await assert.rejects(
        rpc.call("files.read", { recording: RECORDING, path, offset: 0 }),
        (error) => error instanceof RemoteError && /no file of a recording/.test(error.message),
        path,
      );
    }
    await assert.rejects(rpc.call("files.list", { recording: "0000000000000000" }), RemoteError);
  });
});

Deno.test("a host that offers other paths is not believed", async () => {
  const [left, right] = channelPair(OPERATOR, ALPHA);
  const offer = { path: "vms/../../etc/cron.d/x.log", bytes: 1 };
  startRpc(right, {
    serves: { "files.list": FILE_METHODS["files.list"] },
    handlers: { "files.list": () => ({ manifest: {}, files: [offer] }) },
    calls: {},
  });
  const rpc = startRpc(left, { serves: {}, handlers: {}, calls: FILE_METHODS });
  await assert.rejects(listPart(rpc, RECORDING), ProtocolError);
  left.close();
  await right.closed;
});

const { signal } = new AbortController();

Deno.test("images: what is missing is sent, several at once, and read again", async () => {
  await withAgent(async ({ rpc, folder, state }) => {
    const images = await Promise.all(
      [PORTION_BYTES_MAX + 5, 3, 2 * PORTION_BYTES_MAX].map(async (bytes, i) => {
        const path = `${folder}/image${i}`;
        return { path, sha256: await makeFile(path, bytes), bytes };
      }),
    );
    const asked = images.map(({ sha256 }) => ({ sha256, path: "/nowhere" }));
    const before = await rpc.call("images.missing", { images: asked });
    assert.deepEqual(before.sha256s, images.map(({ sha256 }) => sha256));
    const here = images.map(({ sha256, path }) => ({ sha256, path }));
    assert.deepEqual((await rpc.call("images.missing", { images: here })).sha256s, []);
    await Promise.all(images.map(({ path, sha256 }) => sendImage(rpc, path, sha256, signal)));
    assert.deepEqual((await rpc.call("images.missing", { images: asked })).sha256s, []);
    for (const { path, sha256, bytes } of images) {
      assert.deepEqual(await Deno.readFile(state.images.find(sha256)!), await Deno.readFile(path));
      const read = await new Response(ReadableStream.from(readImage(rpc, sha256, bytes, signal)))
        .bytes();
      assert.deepEqual(read, await Deno.readFile(path));
    }
  });
});

Deno.test("images: a wrong digest, portions out of order and an upload given up leave nothing", async () => {
  await withAgent(async ({ rpc, folder, state }) => {
    const sha256 = await makeFile(`${folder}/image`, PORTION_BYTES_MAX + 5);
    await makeFile(`${folder}/other`, 9);
    await assert.rejects(sendImage(rpc, `${folder}/other`, sha256, signal), /is not the image/);
    const data = new Uint8Array(4).toBase64();
    await assert.rejects(
      rpc.call("images.write", { sha256, offset: 4, data, last: true }),
      /at 4: 0 is next/,
    );
    await rpc.call("images.write", { sha256, offset: 0, data, last: false });
    rpc.close();
    await rpc.closed;
    await until(() => [...Deno.readDirSync(state.images.directory)].length === 0);
  });
});
