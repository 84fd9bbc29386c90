import assert from "node:assert/strict";
import { FormatError, VersionError } from "../../lib/errors.ts";
import { concat } from "../../lib/bytes/concat.ts";
import { decodeEvents } from "./events.ts";
import { detectForm, parseRrLog, readRrLogFile, replayPreamble, syntheticEnd } from "./stream.ts";
import { REPLAY_VERSION, tableForQemu, tableOfLog } from "./tables.ts";

const table = tableForQemu("7.2.22");
const goldenUrl = new URL("testdata/seabios-7.2.rrlog", import.meta.url);
const golden = await Deno.readFile(goldenUrl);
const goldenEvents = golden.subarray(0, golden.length - 4);

/** The file form of the golden log: what QEMU writes into a regular file. */
function fileForm(versionWord: number): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(12);
  new DataView(header.buffer).setUint32(0, versionWord);
  return concat([header, goldenEvents]);
}

Deno.test("the FIFO form comes apart", async () => {
  const log = await readRrLogFile(goldenUrl.pathname);
  assert.equal(log.form, "fifo");
  assert.equal(log.closed, true);
  assert.equal(log.eventsOffset, 0);
  assert.equal(log.table, table);
  assert.deepEqual(log.events, goldenEvents);
});

Deno.test("the file form comes apart to the same events", () => {
  const log = parseRrLog(fileForm(REPLAY_VERSION), "test log");
  assert.equal(log.form, "file");
  assert.equal(log.closed, true);
  assert.equal(log.eventsOffset, 12);
  assert.deepEqual(log.events, goldenEvents);
});

Deno.test("a file that QEMU did not close is readable", () => {
  const cut = fileForm(0).subarray(0, 300);
  const log = parseRrLog(cut, "test log");
  assert.equal(log.form, "file");
  assert.equal(log.closed, false);
  assert.deepEqual(log.events, goldenEvents.subarray(0, 288));
});

Deno.test("a cut FIFO log is not closed, wherever it was cut", () => {
  for (const length of [0, 1, 4, 11, 12, 13, 500, golden.length - 5, golden.length - 1]) {
    const log = parseRrLog(golden.subarray(0, length), "test log");
    assert.equal(log.closed, false, `${length} bytes`);
    assert.equal(log.events.length, length);
  }
});

Deno.test("small first runs are not taken for a header", () => {
  assert.equal(detectForm(Uint8Array.of(0, 0, 0, 0, 9, 30, 30, 30, 30, 30, 30, 30)), "fifo");
  assert.equal(detectForm(Uint8Array.of(0, 0, 0)), "fifo");
  assert.equal(detectForm(new Uint8Array(12)), "file");
  assert.equal(detectForm(fileForm(0xe02007)), "file");
});

Deno.test("a version that is not the table's is refused", () => {
  assert.throws(
    () => parseRrLog(fileForm(0xe0200a), "old log"),
    (error) =>
      error instanceof VersionError && error.file === "old log" &&
      error.message.includes("0xe0200a"),
  );
});

Deno.test("a table may be given, for a log whose version word is ambiguous", () => {
  const table71 = tableForQemu("7.1.0");
  assert.equal(parseRrLog(fileForm(REPLAY_VERSION), "test log", table71).table, table71);
});

Deno.test("the preamble of a replay is the version word", () => {
  assert.deepEqual(replayPreamble(table), Uint8Array.of(0, 0xe0, 0x20, 0x0c));
});

Deno.test("the synthetic end closes a cut log", () => {
  assert.deepEqual(syntheticEnd(table), Uint8Array.of(12, 39));
  assert.deepEqual(syntheticEnd(tableForQemu("7.1.0")), Uint8Array.of(12, 38));
  const events = [...decodeEvents(syntheticEnd(table), table, "test log")];
  assert.deepEqual(events.map((event) => event.name), ["SHUTDOWN_HOST_QMP_QUIT", "END"]);
  assert.throws(() => [...decodeEvents(golden.subarray(0, 3), table, "test log")], FormatError);
});

Deno.test("the table of a log is that of the QEMU that wrote it, whose word others share", () => {
  const of = (version: string) => tableOfLog({ version, rrLogVersion: REPLAY_VERSION });
  assert.equal(of("7.1.0"), tableForQemu("7.1.0"));
  assert.equal(of("7.2.22"), tableForQemu("7.2.22"));
  assert.throws(() => tableOfLog({ version: "7.2.22", rrLogVersion: 1 }), VersionError);
});
