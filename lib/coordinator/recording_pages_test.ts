import assert from "node:assert/strict";
import { OPERATOR_METHODS, type RecordingEntry } from "../protocol/control.ts";
import { JSON_BYTES_MAX } from "../protocol/framing.ts";
import { allPages, byAge, pageOf } from "./recording_pages.ts";

/** Entry `i`: three of the same moment follow each other. */
function entryOf(i: number, vms = 3): RecordingEntry {
  const counts = { internal: 1e6, external: 1e6, stored: 0, sent: 1e6 };
  return {
    id: i.toString(16).padStart(16, "0"),
    name: `nightly-${i}`,
    cluster: "trio",
    createdAt: new Date(1.7e12 + Math.floor(i / 3) * 1000).toISOString(),
    endedBy: "poweroff",
    complete: true,
    recordS: 12.5,
    placement: [{ host: "alpha", vms: Array.from({ length: vms }, (_, vm) => vm + 1) }],
    vms: Array.from({ length: vms }, (_, vm) => ({
      name: `vm-${vm}`,
      instructions: 1e9,
      bytes: { rrLog: 1e7, hybrid: 1e6, stored: 1e5 },
      frames: counts,
      checks: 5,
    })),
  };
}

const entriesUpTo = (count: number) =>
  Array.from({ length: count }, (_, i) => entryOf(i)).sort(byAge);

Deno.test("more recordings than one message holds come in pages, the newest first", async () => {
  const entries = entriesUpTo(3000);
  assert.ok(JSON.stringify(entries).length > JSON_BYTES_MAX);
  let pages = 0;
  const all = await allPages((behind) => {
    const page = pageOf(entries, behind);
    OPERATOR_METHODS["recordings.page"].result.parse(page);
    assert.ok(JSON.stringify(page).length < JSON_BYTES_MAX / 2);
    pages++;
    return Promise.resolve(page);
  });
  assert.ok(pages > 2, `${pages}`);
  assert.deepEqual(all.map(({ id }) => id), entries.map(({ id }) => id));
});

Deno.test("what is deleted between two pages hides nothing else and repeats nothing", async () => {
  let entries = entriesUpTo(3000);
  const all = await allPages((behind) => {
    if (behind !== null) entries = entries.filter(({ id }) => id !== behind.id);
    return Promise.resolve(pageOf(entries, behind));
  });
  assert.equal(new Set(all.map(({ id }) => id)).size, 3000);
});

Deno.test("an entry larger than a page is one, and none are one page", async () => {
  const large = [entryOf(3, 2000), entryOf(0)];
  assert.deepEqual(pageOf(large, null).recordings.map(({ name }) => name), ["nightly-3"]);
  const all = await allPages((behind) => Promise.resolve(pageOf(large, behind)));
  assert.equal(all.length, 2);
  assert.deepEqual(await allPages((behind) => Promise.resolve(pageOf([], behind))), []);
});
