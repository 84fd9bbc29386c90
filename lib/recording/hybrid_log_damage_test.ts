/** Hybrid logs with cut, flipped, missing and mixed-up bytes. */
import assert from "node:assert/strict";
import { FormatError } from "../errors.ts";
import { segmentName } from "./hybrid_log.ts";
import { HybridLogReader } from "./hybrid_log_reader.ts";
import { HybridLogWriter } from "./hybrid_log_writer.ts";
import {
  blocksOf,
  copySegments,
  indexOffset,
  inTempDir,
  SMALL,
  someItems,
  VM,
} from "./testdata/hybrid_log_fixture.ts";
import { readItems, writeItems } from "./testdata/item_trace.ts";

Deno.test("every truncation of the last segment opens up to its last whole block", () =>
  inTempDir((dir) => {
    const full = `${dir}/full`;
    const cut = `${dir}/cut`;
    const writer = new HybridLogWriter(full, SMALL);
    writeItems(writer, someItems(12));
    const { segments } = writer.close(true);
    assert(segments.length >= 2);
    const blocks = blocksOf(full);
    const last = segments.at(-1)!.file;
    const bytes = Deno.readFileSync(`${full}/${last}`);
    const starts = blocks.filter((b) => b.file.endsWith(last)).map((b) => b.offset);
    const endOfBlocks = indexOffset(bytes);
    const ends = [...starts.slice(1), endOfBlocks];
    const before = blocks.length - starts.length;
    Deno.mkdirSync(cut);
    copySegments(full, cut);
    for (let n = 0; n < bytes.length; n++) {
      Deno.writeFileSync(`${cut}/${last}`, bytes.subarray(0, n));
      const whole = before + ends.filter((end) => end <= n).length;
      const log = readItems(HybridLogReader.open(cut, VM));
      assert.equal(log.blocks, whole, `${n} bytes`);
      assert.deepEqual(log.items, blocks[whole - 1]!.items);
      assert.equal(log.ending.complete, n >= endOfBlocks);
      assert.match(log.ending.reason, n >= endOfBlocks ? /^closed, but its index/ : /^cut off: /);
      assert.equal(log.ending.file, `${cut}/${last}`);
      assert(log.ending.offset <= n);
      assert.throws(
        () => readItems(HybridLogReader.open(cut, { ...VM, closed: true })),
        FormatError,
      );
    }
    // A power loss may keep a file's length and not its pages.
    for (const zeros of [30, 48, bytes.length]) {
      Deno.writeFileSync(`${cut}/${last}`, new Uint8Array(zeros));
      const log = readItems(HybridLogReader.open(cut, VM));
      assert.equal(log.blocks, before);
      assert.match(log.ending.reason, /cut off: its header is cut off/);
    }
    const first = `${cut}/${segmentName(0)}`;
    const whole = Deno.readFileSync(first);
    Deno.writeFileSync(first, new Uint8Array(whole.length));
    assert.throws(() => readItems(HybridLogReader.open(cut, VM)), /yet another segment follows/);
    Deno.writeFileSync(first, whole);
    Deno.removeSync(`${cut}/${last}`);
    const log = readItems(HybridLogReader.open(cut, VM));
    assert.equal(log.blocks, before);
    assert.match(log.ending.reason, /cut off: the log goes on in a segment that is missing/);
    assert.throws(() => readItems(HybridLogReader.open(cut, { ...VM, closed: true })), {
      name: "FormatError",
      message: /segment that is missing/,
    });
  }));

Deno.test("every truncation of an earlier segment is an error that names it", () =>
  inTempDir((dir) => {
    const writer = new HybridLogWriter(dir, SMALL);
    writeItems(writer, someItems(12));
    writer.close(true);
    const first = `${dir}/${segmentName(0)}`;
    const bytes = Deno.readFileSync(first);
    for (let n = 0; n < bytes.length; n++) {
      Deno.writeFileSync(first, bytes.subarray(0, n));
      assert.throws(
        () => readItems(HybridLogReader.open(dir, VM)),
        (error) => error instanceof FormatError && error.file === first && error.offset <= n,
      );
    }
  }));

Deno.test("every flipped byte of a closed log is an error that names the file", () =>
  inTempDir((dir) => {
    const writer = new HybridLogWriter(dir, SMALL);
    writeItems(writer, someItems(7));
    const { segments } = writer.close(true);
    for (const { file } of segments) {
      const path = `${dir}/${file}`;
      const bytes = Deno.readFileSync(path);
      for (let i = 0; i < bytes.length; i++) {
        Deno.writeFileSync(path, bytes.with(i, bytes[i]! ^ (1 << i % 8)));
        for (const closed of [false, true]) {
          assert.throws(
            () => readItems(HybridLogReader.open(dir, { ...VM, closed })),
            (error) => error instanceof FormatError && error.file === path && error.offset <= i,
            `${file} byte ${i}`,
          );
        }
      }
      Deno.writeFileSync(path, bytes);
    }
    assert.equal(readItems(HybridLogReader.open(dir, VM)).ending.complete, true);
  }));

Deno.test("every flipped byte of a log without an end is an error, or the cut if nothing follows", () =>
  inTempDir((dir) => {
    const writer = new HybridLogWriter(dir, { ...SMALL, segmentBytes: 1 << 20 });
    writeItems(writer, someItems(6));
    writer.flush();
    const path = `${dir}/${segmentName(0)}`;
    const bytes = Deno.readFileSync(path);
    const lastBlock = blocksOf(dir).at(-1)!.offset;
    const blocks = blocksOf(dir).length;
    for (let i = 0; i < bytes.length; i++) {
      Deno.writeFileSync(path, bytes.with(i, bytes[i]! ^ (1 << i % 8)));
      if (i < lastBlock) {
        assert.throws(
          () => readItems(HybridLogReader.open(dir, VM)),
          (error) => error instanceof FormatError && error.file === path && error.offset <= i,
          `byte ${i}`,
        );
        continue;
      }
      const log = readItems(HybridLogReader.open(dir, VM));
      assert.equal(log.blocks, blocks - 1, `byte ${i}`);
      assert.equal(log.ending.complete, false);
      assert.equal(log.ending.offset, lastBlock);
      assert.match(log.ending.reason, /cut off: .*(checksum wrong|no block starts here)/);
    }
    writer.close(false);
  }));

Deno.test("segments that are missing, renamed, of another VM or recording", () =>
  inTempDir((dir) => {
    const [a, b, broken] = [`${dir}/a`, `${dir}/b`, `${dir}/broken`];
    for (const logDir of [a, b]) {
      const writer = new HybridLogWriter(logDir, SMALL);
      writeItems(writer, someItems(20));
      assert(writer.close(true).segments.length >= 3);
    }
    const refused = (file: string, message: RegExp, expect = VM) => {
      assert.throws(
        () => readItems(HybridLogReader.open(broken, expect)),
        (error) =>
          error instanceof FormatError && error.file === `${broken}/${file}` &&
          message.test(error.message),
      );
    };
    const damage = (work: () => void) => {
      Deno.mkdirSync(broken);
      copySegments(a, broken);
      work();
    };
    const [first, second, third] = [0, 1, 2].map(segmentName) as [string, string, string];
    const clear = () => Deno.removeSync(broken, { recursive: true });

    damage(() => Deno.removeSync(`${broken}/${second}`));
    refused(second, /the segment is missing/);
    clear();
    damage(() => Deno.removeSync(`${broken}/${first}`));
    refused(first, /the segment is missing/);
    clear();
    damage(() => Deno.copyFileSync(`${b}/${second}`, `${broken}/${second}`));
    refused(second, /at byte 24: the segment comes from another recording/);
    clear();
    damage(() => Deno.copyFileSync(`${a}/${third}`, `${broken}/${second}`));
    refused(second, /at byte 16: this is segment 2: the file was renamed/);
    clear();
    damage(() => {});
    refused(first, /at byte 12: a segment of VM 2, not of VM 7/, { vm: 7 });
    refused(first, /at byte 20: rr log version 0xe0200c, 0xe02010 expected/, {
      vm: 2,
      rrLogVersion: 0xe02010,
    });
    clear();
    damage(() => {
      const bytes = Deno.readFileSync(`${broken}/${first}`);
      bytes[8] = 9;
      Deno.writeFileSync(`${broken}/${first}`, bytes);
    });
    refused(first, /hybrid log version 9; this build knows versions 2 to 4/);
    clear();
    assert.throws(() => HybridLogReader.open(broken, VM), /directory is missing/);
    Deno.mkdirSync(broken);
    const none = readItems(HybridLogReader.open(broken, VM));
    assert.equal(none.ending.reason, "cut off: no segment was written");
    refused(first, /the segment is missing/, { ...VM, closed: true });
  }));

Deno.test("a block cut out, doubled or moved is an error", () =>
  inTempDir((dir) => {
    const writer = new HybridLogWriter(dir, { ...SMALL, segmentBytes: 1 << 20 });
    writeItems(writer, someItems(12));
    writer.close(true);
    const path = `${dir}/${segmentName(0)}`;
    const bytes = Deno.readFileSync(path);
    const [a, b, c] = blocksOf(dir).slice(2).map(({ offset }) => offset) as [
      number,
      number,
      number,
    ];
    const [head, one, two, tail] = [[0, a], [a, b], [b, c], [c, undefined]].map(([from, to]) =>
      bytes.slice(from, to)
    ) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
    const variants: [Uint8Array[], number][] = [
      [[head, two, tail], a],
      [[head, one, one, two, tail], b],
      [[head, two, one, tail], a],
    ];
    for (const [parts, offset] of variants) {
      Deno.writeFileSync(path, Uint8Array.from(parts.flatMap((part) => [...part])));
      assert.throws(
        () => readItems(HybridLogReader.open(dir, VM)),
        (error) =>
          error instanceof FormatError && error.offset === offset &&
          /does not follow the block before/.test(error.message),
      );
    }
  }));
