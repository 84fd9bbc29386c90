/** The fix that the tutorial ships is the whole difference: it applies to the teller as it is. */
import assert from "node:assert/strict";
import { run } from "../../host/command.ts";

const GUEST = import.meta.dirname + "/guest";

Deno.test("locks: the fix applies to the teller, and nothing else is changed", async () => {
  const teller = await Deno.makeTempFile({ suffix: ".lua" });
  try {
    await Deno.copyFile(`${GUEST}/teller.lua`, teller);
    await run(["busybox", "patch", teller, `${GUEST}/fix.patch`]);
    const [before, after] = [`${GUEST}/teller.lua`, teller].map((file) =>
      Deno.readTextFileSync(file).split("\n")
    );
    const added = after!.filter((line) => !before!.includes(line));
    assert.equal(after!.length, before!.length + 2);
    assert.match(added.join("\n"), /if answer == "GRANT " \.\. request then return end/);
  } finally {
    await Deno.remove(teller);
  }
});
