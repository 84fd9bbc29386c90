import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { run } from "../../host/command.ts";
import object from "./recorder.bpf.o" with { type: "bytes" };

Deno.test("the committed object is what build.sh makes of the source", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const script = fileURLToPath(new URL("./build.sh", import.meta.url));
    await run(["sh", script, `${directory}/recorder.bpf.o`], {
      advice: "Install Debian 12's compiler: apt install clang-14 clang libbpf-dev linux-libc-dev.",
    });
    const built = await Deno.readFile(`${directory}/recorder.bpf.o`);
    assert.deepEqual(built, object, "run net/bpf/build.sh and commit the object");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
