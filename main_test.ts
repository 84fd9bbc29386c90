import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import config from "./deno.json" with { type: "json" };

/** Runs the program as a user would, with a catalog that is thrown away. */
async function clusterrr(...args: string[]) {
  const dir = await Deno.makeTempDir({ prefix: "clrr-main-" });
  try {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-check",
        fileURLToPath(new URL("./main.ts", import.meta.url)),
        ...args,
      ],
      env: { CLUSTERRR_CATALOG: `${dir}/catalog.sqlite3`, NO_COLOR: "1" },
      stdin: "null",
      signal: AbortSignal.timeout(60_000),
    }).output();
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    return { code, stdout: text(stdout), stderr: text(stderr) };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("the exit status reaches the shell, results stdout, the rest stderr", async () => {
  const version = await clusterrr("--version");
  assert.deepEqual([version.code, version.stderr], [0, ""]);
  assert.ok(version.stdout.startsWith(`clusterrr ${config.version}\n`), version.stdout);
  assert.match(version.stdout, /^commit {6}([0-9a-f]{12}(-dirty)?|unknown)$/m);
  assert.match(version.stdout, /^packing {5}sources$/m);
  assert.match(version.stdout, /^recorder {4}[0-9a-f]{16} /m);
  const wrong = await clusterrr("record", "--frob");
  assert.deepEqual([wrong.code, wrong.stdout], [2, ""]);
  assert.match(wrong.stderr, /^clusterrr: .*"--frob"/);
  const failed = await clusterrr("show", "nix");
  assert.deepEqual([failed.code, failed.stdout], [1, ""]);
  assert.match(failed.stderr, /^clusterrr: No recording "nix"/);
});
