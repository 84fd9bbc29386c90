import assert from "node:assert/strict";
import { HostError } from "../lib/errors.ts";
import { run } from "./command.ts";

Deno.test("a command's output comes back", async () => {
  assert.equal(await run(["printf", "%s|%s", "one word", "two"]), "one word|two");
});

Deno.test("more input than a pipe holds goes through a command that echoes it", async () => {
  const text = "0123456789abcdef".repeat(1 << 16);
  assert.equal(await run(["cat"], { stdin: text, timeoutMs: 10_000 }), text);
});

Deno.test("a failure names command, exit code, stderr and what to do", async () => {
  const failing = run(["sh", "-c", "echo no such table >&2; exit 3"], { advice: "Make it first." });
  await assert.rejects(failing, (error) => {
    assert.ok(error instanceof HostError);
    assert.equal(error.code, 3);
    assert.equal(
      error.message,
      "sh -c echo no such table >&2; exit 3 failed (3): no such table\nMake it first.",
    );
    return true;
  });
});

Deno.test("a command that ends without reading its input fails by its own message", async () => {
  const failing = run(["sh", "-c", "exec <&-; echo refused >&2; exit 2"], {
    stdin: "x".repeat(1 << 20),
  });
  await assert.rejects(failing, (error) => {
    assert.ok(error instanceof HostError, String(error));
    assert.equal(error.code, 2);
    assert.match(error.stderr, /refused/);
    return true;
  });
});

Deno.test("a program that is missing is code 127", async () => {
  await assert.rejects(run(["clrr-no-such-program"], { advice: "Install it." }), (error) => {
    assert.ok(error instanceof HostError);
    assert.equal(error.code, 127);
    assert.match(error.message, /no such program\nInstall it\.$/);
    return true;
  });
});

Deno.test("a command that takes too long is ended, and that is a failure", async () => {
  const startedAt = performance.now();
  await assert.rejects(run(["sleep", "30"], { timeoutMs: 100 }), HostError);
  assert.ok(performance.now() - startedAt < 10_000);
});
