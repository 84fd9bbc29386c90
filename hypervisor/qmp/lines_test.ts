import assert from "node:assert/strict";
import fc from "fast-check";
import { ProtocolError } from "../../lib/errors.ts";
import { LINE_BYTES_MAX, LineReader } from "./lines.ts";

/** Delivers the portions one a read; a portion must fit the reader's buffer. */
function source(portions: Uint8Array[]): Pick<Deno.Conn, "read"> {
  const queue = [...portions];
  return {
    read: (into) => {
      const portion = queue.shift();
      if (portion) into.set(portion);
      return Promise.resolve(portion ? portion.length : null);
    },
  };
}

async function allLines(portions: Uint8Array[]): Promise<string[]> {
  const reader = new LineReader(source(portions));
  const lines: string[] = [];
  for (let line = await reader.next(); line !== undefined; line = await reader.next()) {
    lines.push(line);
  }
  return lines;
}

const bytesOf = (text: string) => new TextEncoder().encode(text);

Deno.test("lines come out whole for every cut into two portions", async () => {
  const bytes = bytesOf('{"a":"ä€𝄞"}\r\n{"b":1}\n\n{"c":2}\r\n{"cut');
  for (let cut = 0; cut <= bytes.length; cut++) {
    const lines = await allLines([bytes.subarray(0, cut), bytes.subarray(cut)]);
    assert.deepEqual(lines, ['{"a":"ä€𝄞"}', '{"b":1}', '{"c":2}'], `cut at ${cut}`);
  }
});

Deno.test("portions do not change the lines", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.string({ unit: "grapheme" }).map((text) => text.replace(/\s/g, "")), {
        maxLength: 8,
      }),
      fc.integer({ min: 1, max: 9 }),
      async (texts, portionBytes) => {
        const bytes = bytesOf(texts.map((text) => text + "\r\n").join(""));
        const portions: Uint8Array[] = [];
        for (let at = 0; at < bytes.length; at += portionBytes) {
          portions.push(bytes.subarray(at, at + portionBytes));
        }
        assert.deepEqual(await allLines(portions), texts.filter((text) => text.trim() !== ""));
      },
    ),
    { numRuns: 200, verbose: 1 },
  );
});

Deno.test("an endless line is refused, not kept", async () => {
  const portion = new Uint8Array(64 << 10).fill(0x20);
  const portions = Array.from({ length: LINE_BYTES_MAX / portion.length + 1 }, () => portion);
  await assert.rejects(allLines(portions), ProtocolError);
});
