import assert from "node:assert/strict";
import { ClusterrrError } from "../lib/errors.ts";
import { requireRoomForRam } from "./scratch_space.ts";

Deno.test("scratch: room for the largest VM is enough, however many there are", () => {
  requireRoomForRam([{ name: "a", memoryMiB: 1 }, { name: "b", memoryMiB: 2 }], "do not");
});

Deno.test("scratch: says which VM needs how much, how much there is, and what to do", () => {
  const vms = [{ name: "small", memoryMiB: 1 }, { name: "huge", memoryMiB: 2 ** 40 }];
  assert.throws(() => requireRoomForRam(vms, "take none: --digest-every 0"), (error: Error) => {
    assert.ok(error instanceof ClusterrrError);
    assert.match(
      error.message,
      /VM huge needs 1099511627776 MiB there, and \d+ MiB are free\. .*--shm-size.*, or take none: --digest-every 0\.$/,
    );
    return true;
  });
});
