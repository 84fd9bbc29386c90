import assert from "node:assert/strict";
import { join } from "node:path";

/** Runs a script with the process's terminal, its output cut short by `head`. */
async function pipedToHead(script: string): Promise<{ code: number; stdout: string }> {
  const dir = await Deno.makeTempDir({ prefix: "clrr-terminal-" });
  try {
    const path = join(dir, "script.ts");
    await Deno.writeTextFile(path, script);
    const { code, stdout } = await new Deno.Command("bash", {
      args: [
        "-c",
        `set -o pipefail; "$0" run -A --no-check "$1" | head -c 5`,
        Deno.execPath(),
        path,
      ],
      stdout: "piped",
      stderr: "inherit",
      signal: AbortSignal.timeout(30_000),
    }).output();
    return { code, stdout: new TextDecoder().decode(stdout) };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("a reader that goes away ends the output, and is no failure", async () => {
  const terminal = import.meta.resolve("./terminal.ts");
  const { code, stdout } = await pipedToHead(`
    import { OutputClosed, processTerminal } from ${JSON.stringify(terminal)};
    const terminal = processTerminal();
    if (terminal.outColor) throw new Error("a pipe has no colours");
    try {
      for (let i = 0; i < 1000; i++) terminal.out("x".repeat(10_000));
    } catch (error) {
      Deno.exit(error instanceof OutputClosed ? 0 : 1);
    }
    Deno.exit(2);
  `);
  assert.deepEqual([code, stdout], [0, "xxxxx"]);
});

Deno.test("what nobody reads of standard error is no failure", async () => {
  const terminal = import.meta.resolve("./terminal.ts");
  const script = `
    import { processTerminal } from ${JSON.stringify(terminal)};
    for (let i = 0; i < 1000; i++) processTerminal().err("x".repeat(10_000));
  `;
  const { success } = await new Deno.Command("bash", {
    args: [
      "-c",
      'set -o pipefail; "$0" eval --no-check "$1" 2>&1 | head -c 5',
      Deno.execPath(),
      script,
    ],
    stdout: "null",
    stderr: "inherit",
    signal: AbortSignal.timeout(30_000),
  }).output();
  assert.ok(success);
});
