import assert from "node:assert/strict";
import { ClusterrrError } from "../../lib/errors.ts";
import { inspectQemu, isBefore } from "./capabilities.ts";

Deno.test("QEMU is identified by path, version and content", async () => {
  const identity = await inspectQemu();
  assert.match(identity.path, /^\/.*qemu-system-x86_64$/);
  assert.match(identity.version, /^\d+\.\d+\.\d+$/);
  assert.match(identity.sha256, /^[0-9a-f]{64}$/);
  assert.equal(inspectQemu(), inspectQemu(), "asked once");
  assert.deepEqual(await inspectQemu(identity.path), identity);
});

Deno.test("a missing QEMU names the package", async () => {
  for (const program of ["qemu-system-nonesuch", "/nonexistent/qemu-system-x86_64"]) {
    await assert.rejects(inspectQemu(program), (error: unknown) => {
      assert(error instanceof ClusterrrError);
      assert(error.message.includes(program));
      assert.match(error.message, /apt-get install qemu-system-x86/);
      return true;
    });
  }
});

Deno.test("a program that is not QEMU is refused", async () => {
  await assert.rejects(inspectQemu("true"), /not a QEMU system emulator/);
  await assert.rejects(inspectQemu("false"), /Cannot run .*\/false/);
  await assert.rejects(inspectQemu("/etc/passwd"), ClusterrrError);
});

Deno.test("versions are compared by number", () => {
  assert(isBefore("7.2.22", "9.1"));
  assert(isBefore("9.0.4", "9.1"));
  assert(!isBefore("9.1.0", "9.1"));
  assert(!isBefore("10.0.2", "9.1"));
});
