/** The committed recording in `testdata/golden/` must go on to read as it did when it was written. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { HybridLogReader } from "./hybrid_log_reader.ts";
import { MANIFEST_VERSION, readManifest, vmDirectory } from "./manifest.ts";
import { verifySegments } from "./recording_directory.ts";
import { HYBRID_LOG_VERSION } from "./segment_layout.ts";
import { formatTrace, readItems } from "./testdata/item_trace.ts";

const GOLDEN = fileURLToPath(new URL("./testdata/golden", import.meta.url));
/** Written by the versions before, which are still read. */
const OLDER = [2, 3].map((version) =>
  [version, fileURLToPath(new URL(`./testdata/golden_${version}`, import.meta.url))] as const
);

async function readsAsWritten(directory: string): Promise<void> {
  const manifest = readManifest(directory);
  await verifySegments(directory, manifest);
  const vm = manifest.vms[0]!;
  const reader = HybridLogReader.open(vmDirectory(directory, vm.name), {
    vm: vm.number,
    rrLogVersion: vm.qemu.rrLogVersion,
    closed: true,
  });
  const { items, blocks, ending } = readItems(reader);
  assert.equal(formatTrace(items), Deno.readTextFileSync(`${directory}/web.trace`));
  assert.equal(ending.complete, true);
  assert(manifest.segments.length >= 2 && blocks > manifest.segments.length);
  assert.deepEqual(new Set(items.map(({ item }) => item)).size, 7);
  assert.deepEqual(items.at(-1), { item: "end", complete: true, icount: vm.end!.icount });
}

Deno.test("the golden recording reads as it was written", () => readsAsWritten(GOLDEN));

for (const [version, directory] of OLDER) {
  Deno.test(`the golden recording of version ${version} still reads`, async () => {
    await readsAsWritten(directory);
    const segment = Deno.readFileSync(`${vmDirectory(directory, "web")}/hybrid-000000.seg`);
    assert.equal(segment[8], version);
  });
}

Deno.test("code, document and golden files have the same versions", () => {
  const manifest = readManifest(GOLDEN);
  const segment = Deno.readFileSync(`${vmDirectory(GOLDEN, "web")}/${manifest.segments[0]!.file}`);
  assert.equal(segment[8], HYBRID_LOG_VERSION);
  assert.equal(manifest.formatVersion, MANIFEST_VERSION);
  const document = Deno.readTextFileSync(new URL("./FORMAT.md", import.meta.url));
  assert(document.includes(
    `Version ${HYBRID_LOG_VERSION} of the hybrid log, version ${MANIFEST_VERSION} of the manifest.`,
  ));
  const lastRow = document.trimEnd().split("\n").at(-1)!;
  assert(lastRow.startsWith(`| ${HYBRID_LOG_VERSION} | ${MANIFEST_VERSION} |`));
});
