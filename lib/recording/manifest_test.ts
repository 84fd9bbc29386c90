import assert from "node:assert/strict";
import { ClusterrrError, FormatError, HostError, VersionError } from "../errors.ts";
import { HybridLogReader } from "./hybrid_log_reader.ts";
import { HybridLogWriter } from "./hybrid_log_writer.ts";
import {
  type Manifest,
  MANIFEST_VERSION,
  readManifest,
  vmDirectory,
  writeManifest,
} from "./manifest.ts";
import {
  createRecordingDirectory,
  removeRecordingDirectory,
  requireUnused,
  verifySegments,
} from "./recording_directory.ts";
import { readItems, rrHeader } from "./testdata/item_trace.ts";

const SHA256 = "0123456789abcdef".repeat(4);

function manifest(): Manifest {
  return {
    format: "clusterrr-recording",
    formatVersion: MANIFEST_VERSION,
    id: "0123456789abcdef",
    name: "trio",
    createdAt: "2025-01-02T03:04:05.678Z",
    toolVersion: "0.1.0",
    state: "recording",
    complete: false,
    host: { kernel: "6.18.0", cpu: "Some CPU", cores: 2 },
    cluster: { name: "trio", vms: [{ name: "web" }] },
    vms: [{
      number: 1,
      name: "web",
      qemu: { path: "/usr/bin/qemu", version: "7.2.22", sha256: SHA256, rrLogVersion: 0xe0200c },
      images: [{ role: "kernel", path: "/boot/vmlinuz", sha256: SHA256, bytes: 5 }],
      commandLine: ["qemu", "-S"],
      console: "vms/web/console.log",
      logComplete: false,
      logClosed: false,
      end: null,
      totals: null,
    }],
    segments: [],
    timing: { recordS: 0, epochMs: 250 },
  };
}

async function inRecording(work: (dir: string) => void | Promise<void>): Promise<void> {
  const temp = Deno.makeTempDirSync({ prefix: "clrr-manifest-" });
  try {
    const dir = `${temp}/recording`;
    createRecordingDirectory(dir);
    Deno.mkdirSync(vmDirectory(dir, "web"));
    await work(dir);
  } finally {
    Deno.removeSync(temp, { recursive: true });
  }
}

const refuses = (work: () => unknown, type: new (...args: never[]) => Error, message: RegExp) =>
  assert.throws(work, (error) => {
    assert(error instanceof type, String(error));
    assert.match(error.message, message);
    return true;
  });

Deno.test("a manifest comes back as it was written; the old one is replaced", () =>
  inRecording((dir) => {
    writeManifest(dir, manifest());
    assert.deepEqual(readManifest(dir), manifest());
    const sealed: Manifest = {
      ...manifest(),
      state: "sealed",
      endedBy: "failure",
      message: "no space left",
    };
    writeManifest(dir, sealed);
    assert.deepEqual(readManifest(dir), sealed);
    const names = [...Deno.readDirSync(dir)].map(({ name }) => name).sort();
    assert.deepEqual(names, ["manifest.json", "vms"]);
  }));

Deno.test("a recording is removed; where its directory is a link, what is in it", () =>
  inRecording(async (dir) => {
    const link = `${dir}-link`;
    await Deno.symlink(dir, link);
    await removeRecordingDirectory(link);
    assert.deepEqual([...Deno.readDirSync(link)], []);
    createRecordingDirectory(link);
    await removeRecordingDirectory(dir);
    await assert.rejects(Deno.lstat(dir), Deno.errors.NotFound);
  }));

Deno.test("what is wrong with a manifest is said", () =>
  inRecording((dir) => {
    refuses(() => readManifest(dir), ClusterrrError, /is not a recording: it has no manifest.json/);
    refuses(() => readManifest(`${dir}/none`), ClusterrrError, /is not a recording/);
    const path = `${dir}/manifest.json`;
    const write = (value: unknown) => Deno.writeTextFileSync(path, JSON.stringify(value));
    const good = manifest();

    Deno.writeTextFileSync(path, JSON.stringify(good).slice(0, 100));
    refuses(() => readManifest(dir), FormatError, /manifest.json at byte 100: not JSON/);
    Deno.writeTextFileSync(path, `{"é": 1`);
    refuses(() => readManifest(dir), FormatError, /manifest.json at byte 8: not JSON/);
    write({ some: "thing" });
    refuses(() => readManifest(dir), FormatError, /something else than a recording/);
    write({ ...good, formatVersion: MANIFEST_VERSION + 1 });
    refuses(() => readManifest(dir), VersionError, /recording format 4; this build knows format 3/);
    write({ ...good, vms: [{ ...good.vms[0], name: "../../etc" }], id: "xyz" });
    refuses(
      () => readManifest(dir),
      FormatError,
      /id: expected hex.*vms\[0\]\.name: not a VM name/,
    );
    write({ ...good, vms: [good.vms[0], { ...good.vms[0], name: "db" }] });
    refuses(() => readManifest(dir), FormatError, /vms: two VMs have the same number/);
    write({ ...good, segments: [{ vm: 9, file: "hybrid-000000.seg", bytes: 1, sha256: SHA256 }] });
    refuses(() => readManifest(dir), FormatError, /segments\[0\]\.vm: there is no VM 9/);
    write({ ...good, segments: [{ vm: 1, file: "../x.seg", bytes: 1, sha256: SHA256 }] });
    refuses(() => readManifest(dir), FormatError, /segments\[0\]\.file: not a segment's name/);
    write({ ...good, state: "sealed" });
    refuses(() => readManifest(dir), FormatError, /endedBy: a sealed recording says how it ended/);
    write({ ...good, vms: [good.vms[0], { ...good.vms[0], number: 2, name: "db" }] });
    refuses(() => readManifest(dir), ClusterrrError, /lacks the directory vms\/db of VM "db"/);
    assert.throws(() => writeManifest(dir, { ...good, id: "no hex" }), /expected hex digits/);
    refuses(() => writeManifest(`${dir}/none`, good), HostError, /write .*none\/manifest.json/);
  }));

Deno.test("a recording's directory is claimed once", () =>
  inRecording((dir) => {
    refuses(
      () => createRecordingDirectory(dir),
      ClusterrrError,
      /exists and is not empty.*--out/,
    );
    createRecordingDirectory(`${dir}/deep/er`);
    Deno.mkdirSync(`${dir}/empty`);
    createRecordingDirectory(`${dir}/empty`);
    Deno.writeTextFileSync(`${dir}/file`, "");
    refuses(() => createRecordingDirectory(`${dir}/file`), ClusterrrError, /file exists/);
    refuses(() => createRecordingDirectory(`${dir}/file/x`), ClusterrrError, /Cannot make/);
  }));

Deno.test("a recording's directory is looked at before there is a recording", () =>
  inRecording((dir) => {
    requireUnused(`${dir}/deep/er`);
    Deno.mkdirSync(`${dir}/empty`);
    requireUnused(`${dir}/empty`);
    assert.deepEqual([...Deno.readDirSync(`${dir}/empty`)], []);
    Deno.writeTextFileSync(`${dir}/file`, "");
    refuses(() => requireUnused(dir), ClusterrrError, /exists and is not empty.*--out/);
    for (const path of [`${dir}/file`, `${dir}/file/x`]) {
      refuses(() => requireUnused(path), ClusterrrError, /Cannot make/);
    }
  }));

Deno.test("segments are checked against a sealed manifest", () =>
  inRecording(async (dir) => {
    const vmDir = vmDirectory(dir, "web");
    const writer = new HybridLogWriter(vmDir, {
      vm: 1,
      rrLogVersion: 0xe0200c,
      blockBytes: 100,
      segmentBytes: 250,
    });
    const header = Uint8Array.fromHex(rrHeader(9, 0, 0, 60));
    for (let i = 0; i < 60; i++) writer.reference(header, 2, i, BigInt(i));
    const { segments, complete, closed, icount, ...totals } = writer.close(true);
    assert(segments.length >= 2);
    const sealed: Manifest = {
      ...manifest(),
      state: "sealed",
      endedBy: "poweroff",
      complete,
      segments: segments.map((segment) => ({ vm: 1, ...segment })),
    };
    Object.assign(sealed.vms[0]!, {
      totals,
      logClosed: closed,
      end: { icount, reason: "poweroff" },
    });
    writeManifest(dir, sealed);
    const read = readManifest(dir);
    await verifySegments(dir, read);
    readItems(HybridLogReader.open(vmDir, { vm: 1, closed: read.vms[0]!.logClosed }));

    await assert.rejects(verifySegments(dir, manifest()), /never sealed/);
    const path = `${vmDir}/${segments[1]!.file}`;
    const bytes = Deno.readFileSync(path);
    const rejects = (offset: number, message: RegExp, file = path) =>
      assert.rejects(
        verifySegments(dir, read),
        (error) =>
          error instanceof FormatError && error.file === file && error.offset === offset &&
          message.test(error.message),
      );
    Deno.writeFileSync(path, bytes.subarray(0, 99));
    await rejects(99, /segment of VM "web" has 99 bytes, \d+ were recorded/);
    Deno.writeFileSync(path, bytes.with(120, bytes[120]! ^ 1));
    await rejects(48, /block \d+ checksum wrong: the file is damaged/);
    // Intact in itself, but not what was recorded.
    const other = new HybridLogWriter(`${dir}/other`, { vm: 1, rrLogVersion: 1, blockBytes: 100 });
    other.close(true);
    const foreign = Deno.readFileSync(`${dir}/other/hybrid-000000.seg`);
    Deno.writeFileSync(path, foreign);
    read.segments[1]!.bytes = foreign.length;
    await rejects(0, /is damaged: SHA-256 [0-9a-f]{64}, recorded/);
    Deno.removeSync(path);
    await rejects(0, /the segment is missing/);
    Deno.writeFileSync(path, bytes);
    read.segments[1]!.bytes = bytes.length;
    const extra = `${vmDir}/hybrid-000099.seg`;
    Deno.writeFileSync(extra, bytes);
    await rejects(0, /does not list/, extra);
    Deno.removeSync(extra);
    await verifySegments(dir, read);
  }));
