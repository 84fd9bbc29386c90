import assert from "node:assert/strict";
import { run } from "./command.ts";
import { commitOf } from "./commit.ts";

Deno.test("a checkout's commit, whether files differ, and none elsewhere", async () => {
  const folder = await Deno.makeTempDir({ prefix: "clusterrr-commit-" });
  try {
    assert.equal(await commitOf(folder), undefined);
    const git = (...args: string[]) => run(["git", "-C", folder, ...args]);
    await git("init", "--quiet");
    assert.equal(await commitOf(folder), undefined, "no commit yet");
    const identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
    await git(...identity, "commit", "--quiet", "--allow-empty", "-m", "first");
    const commit = await commitOf(folder);
    assert.match(commit!, /^[0-9a-f]{12}$/);
    await Deno.mkdir(`${folder}/below`);
    await Deno.writeTextFile(`${folder}/below/file`, "new");
    assert.equal(await commitOf(folder), `${commit}-dirty`);
    assert.equal(await commitOf(`${folder}/below`), undefined, "somebody else's checkout");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
