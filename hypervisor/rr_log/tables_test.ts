import assert from "node:assert/strict";
import { VersionError } from "../../lib/errors.ts";
import { REPLAY_VERSION, RR_LOG_TABLES, tableForQemu, tableForVersion } from "./tables.ts";

Deno.test("7.2 has the kind bytes of replay-internal.h", () => {
  const table = tableForQemu("7.2.22");
  const at = (name: string) => table.kinds.findIndex((kind) => kind.name === name);
  // The numbers of scripts/replay-dump.py, table v12.
  assert.deepEqual(
    [
      ["INSTRUCTION", 0],
      ["ASYNC_BH", 3],
      ["ASYNC_NET", 9],
      ["SHUTDOWN_NONE", 10],
      ["SHUTDOWN_HOST_SIGNAL", 14],
      ["SHUTDOWN_SNAPSHOT_LOAD", 20],
      ["SHUTDOWN__MAX", 21],
      ["CHAR_WRITE", 22],
      ["AUDIO_OUT", 25],
      ["RANDOM", 27],
      ["CLOCK_HOST", 28],
      ["CHECKPOINT_CLOCK_WARP_START", 30],
      ["CHECKPOINT_INIT", 37],
      ["END", 39],
    ].filter(([name, kind]) => at(name as string) !== kind),
    [],
  );
  assert.equal(table.kinds.length, 40);
  assert.equal(table.verified, true);
});

Deno.test("7.1 has one shutdown cause less, so END is 38", () => {
  const { kinds, version } = tableForQemu("7.1.0");
  assert.equal(kinds.findIndex((kind) => kind.name === "END"), 38);
  assert.equal(kinds.some((kind) => kind.name === "SHUTDOWN_SNAPSHOT_LOAD"), false);
  assert.equal(version, REPLAY_VERSION);
});

Deno.test("names in a table are unique", () => {
  for (const { kinds } of RR_LOG_TABLES) {
    assert.equal(new Set(kinds.map((kind) => kind.name)).size, kinds.length);
  }
});

Deno.test("a QEMU version finds its table", () => {
  const ranges = ["7.1.0", "7.2", "8.0.0", "9.2.4", "10.0.2 (Debian 1:10.0.2+ds-2)", "10.2.2"]
    .map((version) => tableForQemu(version).qemu);
  assert.deepEqual(ranges, ["7.1", "7.2", "8.0 to 9.2", "8.0 to 9.2", "10.0", "10.1 to 10.2"]);
  assert.equal(tableForVersion(REPLAY_VERSION).qemu, "7.2");
});

Deno.test("an unknown version is refused and the known ones are named", () => {
  for (const version of ["7.0.0", "10.3", "11.1.3", "100.1", "7", "", "v7.2"]) {
    assert.throws(
      () => tableForQemu(version),
      (error) => error instanceof VersionError && error.message.includes("7.2, 8.0 to 9.2, 10.0"),
    );
  }
  assert.throws(
    () => tableForVersion(0xe0200a),
    (error) => error instanceof VersionError && error.message.includes("0xe0200c"),
  );
});
