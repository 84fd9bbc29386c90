import assert from "node:assert/strict";
import { renderMarkdown } from "./report.ts";
import { recording, replay, results, stock } from "./results_fixture.ts";
import { mergeResults, readResults, writeResults } from "./samples.ts";

function withFolder(work: (folder: string) => void): void {
  const folder = Deno.makeTempDirSync({ prefix: "clusterrr-test-" });
  try {
    work(folder);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

const FIRST = results([recording("trio", 10, [replay(6)])], [stock("trio")]);
const SECOND = results([recording("trio", 12, [replay(7)])], [], "2026-02-01T12:00:00.000Z");

Deno.test("what is written is read again, and makes the same report", () =>
  withFolder((folder) => {
    writeResults(`${folder}/results.json`, FIRST);
    const read = readResults(`${folder}/results.json`);
    assert.deepEqual(read, FIRST);
    assert.equal(renderMarkdown(read, []), renderMarkdown(FIRST, []));
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name), ["results.json"]);
  }));

Deno.test("merged samples go on saying which run they are of", () => {
  const merged = mergeResults([FIRST, SECOND]);
  assert.deepEqual(merged.pieces, [...FIRST.pieces, ...SECOND.pieces]);
  assert.deepEqual(merged.recordings.map(({ piece }) => piece), [0, 1]);
  assert.deepEqual(mergeResults([merged]), merged);
  assert.throws(() => mergeResults([merged, SECOND]), /2026-02-01.* is in two of the files/);
});

Deno.test("anything else is refused, with what is wrong", () =>
  withFolder((folder) => {
    const path = `${folder}/r.json`;
    const refuses = (content: string, reason: RegExp) => {
      Deno.writeTextFileSync(path, content);
      assert.throws(() => readResults(path), reason);
    };
    refuses("{", /holds no results/);
    refuses("{}", /format/);
    refuses(JSON.stringify({ ...FIRST, format: "clusterrr laboratory 3" }), /format/);
    refuses(JSON.stringify({ ...FIRST, more: 1 }), /more/);
    refuses(
      JSON.stringify({ ...FIRST, stock: [{ ...FIRST.stock[0], piece: 1 }] }),
      /a sample of a piece that is not in it/,
    );
    assert.throws(() => readResults(`${folder}/none.json`), /holds no results/);
  }));
