/**
 * Traces: written and read back, golden, cut off, damaged, and compared. `deno run -A` of this file
 * writes the golden trace anew: only for a change of the format.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { FormatError, VersionError } from "../errors.ts";
import type { CheckPoint } from "../recording/hybrid_log.ts";
import type { RamDigest } from "../recording/ram_digest.ts";
import { OutwardComparison } from "./outward_comparison.ts";
import { type OutwardSource, RecordedOutward, TracedOutward } from "./outward.ts";
import { openRun } from "./runs.ts";
import { checkOf, hashOf, type SyntheticItem, writeRun } from "./testdata/synthetic_run.ts";
import { TRACE_FORMAT, TRACE_VERSION, type TraceHeader, type TraceRecord } from "./trace.ts";
import { TraceReader } from "./trace_reader.ts";
import { TraceWriter } from "./trace_writer.ts";

const GOLDEN = fileURLToPath(new URL("./testdata/golden.trace", import.meta.url));
const HEADER: TraceHeader = {
  format: TRACE_FORMAT,
  formatVersion: TRACE_VERSION,
  recording: { id: "00112233", name: "golden" },
  toolVersion: "0.1.0",
  vms: [{ number: 1, name: "web" }, { number: 2, name: "db" }],
};

function inDirectory(work: (dir: string) => void): void {
  const dir = Deno.makeTempDirSync({ prefix: "clrr-trace-" });
  try {
    work(dir);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
}

const frameOf = (text: string) => new TextEncoder().encode(text.padEnd(60, "."));

/** Some of everything that a trace can hold. */
function writeGolden(path: string): void {
  const writer = new TraceWriter(path, HEADER);
  const send = (vm: string, number: number, lamport?: bigint) => {
    const frame = frameOf(`${vm} ${number}`.repeat(20)); // longer than the head that is kept
    writer.sent(vm, { number, frame, hash: hashOf(frame), near: 1000 * number, lamport });
  };
  send("web", 0, 1n);
  send("db", 0, 2n ** 63n);
  writer.checked("web", checkOf(500, 7));
  send("web", 1, 4n);
  send("db", 1);
  writer.diverged({
    vm: "db",
    instructionCount: 1500n,
    sendNumber: 1,
    what: "it sent a frame that the recording does not have",
    expected: "no frame",
    actual: "  0000  64 62",
    likelyCause: "none",
  });
  writer.ended("web", true, "complete");
  writer.printed("web", { bytes: 6, sha256: "0123456789abcdef".repeat(4) });
  writer.finish();
}

if (import.meta.main) writeGolden(GOLDEN);

function readRecords(path: string): { records: TraceRecord[]; complete: boolean } {
  const reader = new TraceReader(path);
  try {
    const records: TraceRecord[] = [];
    for (let record = reader.next(); record !== undefined; record = reader.next()) {
      records.push(record);
    }
    return { records, complete: reader.complete };
  } finally {
    reader.close();
  }
}

Deno.test("the golden trace is what is written today", () =>
  inDirectory((dir) => {
    writeGolden(`${dir}/new.trace`);
    assert.equal(Deno.readTextFileSync(`${dir}/new.trace`), Deno.readTextFileSync(GOLDEN));
  }));

Deno.test("the golden trace is read as what it means", () => {
  const { records, complete } = readRecords(GOLDEN);
  assert.equal(complete, true);
  assert.deepEqual(records.map(({ type }) => type), [
    ...["send", "send", "check", "send", "send", "divergence", "end", "console"],
  ]);
  const [first, second] = records as Extract<TraceRecord, { type: "send" }>[];
  assert.deepEqual([first!.vm, first!.number, first!.lamport], ["web", 0, "1"]);
  assert.equal(first!.head, frameOf("web 0".repeat(20)).toHex().slice(0, 128));
  assert.equal(first!.hash, hashOf(frameOf("web 0".repeat(20))).toHex());
  assert.equal(second!.lamport, String(2n ** 63n));
});

Deno.test("a trace that is cut off anywhere is read up to its last whole line", () =>
  inDirectory((dir) => {
    const whole = Deno.readFileSync(GOLDEN);
    const { records } = readRecords(GOLDEN);
    const path = `${dir}/cut.trace`;
    const headerBytes = whole.indexOf(10) + 1;
    for (let length = 0; length < whole.length; length++) {
      Deno.writeFileSync(path, whole.subarray(0, length));
      if (length < headerBytes) {
        assert.throws(() => new TraceReader(path), FormatError);
        continue;
      }
      const lines = whole.subarray(0, length).filter((byte) => byte === 10).length;
      assert.deepEqual(readRecords(path), {
        records: records.slice(0, lines - 1),
        complete: false,
      });
    }
  }));

Deno.test("damage is named with its offset", () =>
  inDirectory((dir) => {
    const golden = Deno.readTextFileSync(GOLDEN);
    const path = `${dir}/damaged.trace`;
    const cases: [string, RegExp][] = [
      [golden.replace('"number":1,"length"', '"number":-1,"length"'), /at byte \d{3,}.*number/],
      [golden.replace('"type":"check"', '"type":"chuck"'), /not a record/],
      [golden.replace('"ram":"xxh64:', '"ram":"'), /not a record of a trace: ram/],
      [golden.replace('{"type":"end"', '"type":"end"'), /not JSON/],
      [golden + golden.split("\n")[1] + "\n", /behind the trace's end/],
    ];
    for (const [text, pattern] of cases) {
      Deno.writeTextFileSync(path, text);
      assert.throws(
        () => readRecords(path),
        (error) => error instanceof FormatError && pattern.test(error.message),
      );
    }
    for (const version of [1, 3]) {
      const other = golden.replace('"formatVersion":2', `"formatVersion":${version}`);
      Deno.writeTextFileSync(path, other);
      assert.throws(() => readRecords(path), VersionError);
    }
    Deno.writeTextFileSync(path, HEADER.format + "x".repeat(2 << 20));
    assert.throws(() => readRecords(path), /a line of more than/);
  }));

Deno.test("property: arbitrary bytes are refused, and arbitrary damage never hangs", () =>
  inDirectory((dir) => {
    const golden = Deno.readFileSync(GOLDEN);
    const path = `${dir}/arbitrary.trace`;
    const read = (bytes: Uint8Array) => {
      Deno.writeFileSync(path, bytes);
      try {
        readRecords(path);
      } catch (error) {
        assert.ok(error instanceof FormatError, String(error));
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), read));
    fc.assert(fc.property(fc.nat(golden.length - 1), fc.nat(255), (at, byte) => {
      read(golden.with(at, byte));
    }));
  }));

// ---- comparing ----

function compareOutward(a: OutwardSource, b: OutwardSource) {
  const work = new OutwardComparison(a, b, 2).run();
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}

const FRAMES = ["one", "two", "three", "four"].map(frameOf);
const CHECKS = [checkOf(100, 1), checkOf(200, 2)];

/** A recording and the trace of its replay, which `change` falsifies. */
function recordAndTrace(
  dir: string,
  change: {
    frames?: Uint8Array[];
    checks?: readonly CheckPoint[];
    end?: (writer: TraceWriter) => void;
    complete?: boolean;
  } = {},
) {
  const items: SyntheticItem[] = [
    ...FRAMES.map((frame) => ({ item: "send" as const, frame })),
    ...CHECKS.map(({ icount }, i) => ({ item: "check" as const, icount, ram: i + 1 })),
  ];
  writeRun(`${dir}/r`, [{ name: "vm", items, complete: change.complete ?? true }]);
  const path = `${dir}/t.trace`;
  const writer = new TraceWriter(path, { ...HEADER, vms: [{ number: 1, name: "vm" }] });
  for (const [number, frame] of (change.frames ?? FRAMES).entries()) {
    const lamport = BigInt(number + 1);
    writer.sent("vm", { number, frame, hash: hashOf(frame), near: 10 * number, lamport });
  }
  for (const check of change.checks ?? CHECKS) writer.checked("vm", check);
  if (change.end) change.end(writer);
  else writer.ended("vm", true, "complete");
  writer.finish();
  const recorded = () => openRun({ kind: "recording", path: `${dir}/r` }).vms[0]!.outward();
  assert.ok(recorded() instanceof RecordedOutward);
  return { recorded, traced: () => new TracedOutward(path, "vm") };
}

Deno.test("a faithful trace is identical to its recording and to itself", () =>
  inDirectory((dir) => {
    const { recorded, traced } = recordAndTrace(dir);
    for (const [a, b] of [[recorded, traced], [traced, recorded], [traced, traced]] as const) {
      const { difference, equal } = compareOutward(a(), b());
      assert.equal(difference, undefined);
      assert.deepEqual([equal.sent, equal.checks], [4, 2]);
    }
  }));

Deno.test("what a trace has else is found: frames, checks, ends", () => {
  const other = frameOf("other");
  const cases: [Parameters<typeof recordAndTrace>[1], string, RegExp][] = [
    [{ frames: FRAMES.with(2, other) }, "send", /another sent frame/],
    [{ frames: [...FRAMES, other] }, "send", /B sends a frame that A does not send/],
    [{ frames: FRAMES.slice(0, 3) }, "send", /A sends a frame that B does not send/],
    [{ checks: [CHECKS[0]!, checkOf(200, 9)] }, "check", /another state/],
    [{ end: () => {} }, "end", /end differently/],
    [
      { frames: FRAMES.slice(0, 2), end: (writer) => writer.ended("vm", false, "cut") },
      "end",
      /B ends early where A goes on/,
    ],
  ];
  for (const [change, kind, what] of cases) {
    inDirectory((dir) => {
      const { recorded, traced } = recordAndTrace(dir, change);
      const { difference } = compareOutward(recorded(), traced());
      assert.equal(difference!.kind, kind);
      assert.match(difference!.what, what);
    });
  }
});

Deno.test("RAM whose digests are not of one kind is not compared, and that is said", () =>
  inDirectory((dir) => {
    const checks = CHECKS.map((check) => ({
      ...check,
      ramDigest: check.ramDigest.replace("xxh64", "sha256") as RamDigest,
    }));
    const { recorded, traced } = recordAndTrace(dir, { checks });
    const { difference, ramsNotCompared } = compareOutward(recorded(), traced());
    assert.equal(difference, undefined);
    assert.equal(ramsNotCompared, 2);
    const registers = [{ ...checks[0]!, registers: "RIP=0" }, checks[1]!];
    const other = recordAndTrace(`${dir}/other`, { checks: registers });
    const found = compareOutward(other.recorded(), other.traced()).difference!;
    assert.equal(found.kind, "check");
    assert.doesNotMatch(found.a.text, /RAM/);
  }));

Deno.test("a send that differs: number, both frames, the sends before, Lamport times", () =>
  inDirectory((dir) => {
    const { recorded, traced } = recordAndTrace(dir, { frames: FRAMES.with(3, frameOf("5")) });
    const { a, b, context, lamport } = compareOutward(recorded(), traced()).difference!;
    assert.match(a.text, /^frame 3, 60 bytes/);
    assert.equal(a.bytes, FRAMES[3]!.toHex());
    assert.equal(b.bytes, frameOf("5").toHex());
    assert.deepEqual(context.map(({ text }) => text.slice(0, 7)), ["frame 1", "frame 2"]);
    assert.deepEqual(lamport, { a: 4n, b: 4n });
  }));

Deno.test("a check that differs shows the registers that differ", () =>
  inDirectory((dir) => {
    const checks = [CHECKS[0]!, { ...CHECKS[1]!, registers: "RIP=200\nRAX=1" }];
    const { recorded, traced } = recordAndTrace(dir, { checks });
    const { a, icount } = compareOutward(recorded(), traced()).difference!;
    assert.equal(icount, 200);
    assert.match(a.text, /^registers with SHA-256/); // the trace keeps no text
  }));

Deno.test("two replays that diverge are equal only if they do so in the same way", () =>
  inDirectory((dir) => {
    const divergence = (what: string) => ({
      vm: "vm",
      instructionCount: 99n,
      sendNumber: null,
      ...{ what, expected: "", actual: "", likelyCause: "" },
    });
    const traces = ["stuck", "stuck", "gone"].map((what, i) => {
      Deno.mkdirSync(`${dir}/${i}`);
      const end = (writer: TraceWriter) => writer.diverged(divergence(what));
      return recordAndTrace(`${dir}/${i}`, { end });
    });
    const compareTraces = (i: number, j: number) =>
      compareOutward(traces[i]!.traced(), traces[j]!.traced()).difference?.kind;
    assert.equal(compareTraces(0, 1), undefined);
    assert.equal(compareTraces(0, 2), "end");
    const { difference } = compareOutward(traces[0]!.recorded(), traces[0]!.traced());
    assert.match(difference!.b.text, /diverged: stuck/);
  }));
