import assert from "node:assert/strict";
import { FormatError } from "../lib/errors.ts";
import { tableForQemu } from "../hypervisor/rr_log/tables.ts";
import { firstRun } from "./log_start.ts";

const table = tableForQemu("7.2.22");
const byte = (name: string) => table.kinds.findIndex((kind) => kind.name === name);
const BEGIN = [byte("CHECKPOINT_INIT"), byte("CHECKPOINT_RESET")];
const ACCOUNT = byte("CHECKPOINT_CLOCK_WARP_ACCOUNT");
const run = (...bytes: number[]) => firstRun(Uint8Array.from(bytes), table);

Deno.test("the log's lag: the run behind CHECKPOINT_RESET, or none", () => {
  assert.equal(run(...BEGIN, 0, 0, 0, 0x16, 0x9a, ACCOUNT), 0x169a);
  assert.equal(run(...BEGIN, ACCOUNT, 0, 0, 0, 0, 9), 0);
});

Deno.test("the log's lag: unknown where the VM did not get to run", () => {
  const quit = byte("SHUTDOWN_HOST_QMP_QUIT");
  assert.equal(run(...BEGIN, quit, 0, 0, 0, 0, 9, byte("END")), undefined);
  assert.equal(run(...BEGIN, byte("END")), undefined);
  assert.equal(run(...BEGIN), undefined);
  assert.equal(run(0, 0, 0, 0, 9, ACCOUNT), undefined, "nothing was loaded");
  assert.equal(run(), undefined);
});

Deno.test("the log's lag: a damaged log is an error", () => {
  assert.throws(() => run(...BEGIN.slice(0, 1), 255), FormatError);
});
