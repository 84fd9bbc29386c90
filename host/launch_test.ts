import assert from "node:assert/strict";
import { ownCommand, packing, restoreEnvironment } from "./launch.ts";

Deno.test("from sources, the command starts the sources", async () => {
  assert.equal(packing(), "sources");
  const [program, ...args] = ownCommand();
  const { code, stdout } = await new Deno.Command(program!, {
    args: [...args, "--version"],
    cwd: "/",
  }).output();
  assert.equal(code, 0);
  assert.match(new TextDecoder().decode(stdout), /^clusterrr [^]*^packing +sources$/m);
});

Deno.test("from sources, the environment stays as it is", () => {
  const before = Deno.env.toObject();
  restoreEnvironment();
  assert.deepEqual(Deno.env.toObject(), before);
});
