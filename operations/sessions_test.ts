/** Asking a session that another process holds. */
import assert from "node:assert/strict";
import { RunDirectory } from "../host/run_directory.ts";
import { askSession } from "./sessions.ts";

/** A session that does with what it is asked as `answer` does. */
async function withSession(
  answer: (client: Deno.UnixConn) => Promise<void>,
  work: (name: string) => Promise<void>,
): Promise<void> {
  const run = RunDirectory.create("a test");
  const listener = Deno.listen({ transport: "unix", path: run.file("session.sock") });
  const serving = (async () => {
    using client = await listener.accept();
    await client.read(new Uint8Array(4096));
    await answer(client);
  })();
  try {
    await work(run.run);
    await serving;
  } finally {
    listener.close();
    run.remove();
  }
}

const { signal } = new AbortController();

Deno.test("session: what it answers, also that something is wrong", async () => {
  const line = (answer: unknown) => new TextEncoder().encode(JSON.stringify(answer) + "\n");
  await withSession(
    async (client) => void await client.write(line({ ok: true, text: "there", value: { at: 7 } })),
    async (name) => {
      const { text, value } = await askSession(["seek", "7"], name, signal);
      assert.deepEqual([text, value], ["there", { at: 7 }]);
    },
  );
  await withSession(
    async (client) => void await client.write(line({ ok: false, error: "there is no 8" })),
    (name) => assert.rejects(askSession(["seek", "8"], name, signal), { message: "there is no 8" }),
  );
});

Deno.test("session: one that ends before it answers is told, one that does not answer can be left", async () => {
  await withSession(() => Promise.resolve(), async (name) => {
    await assert.rejects(askSession(["state"], name, signal), /The session ended before/);
  });
  const controller = new AbortController();
  const reason = new Error("interrupted");
  await withSession(
    async (client) => {
      controller.abort(reason);
      assert.equal(await client.read(new Uint8Array(1)), null, "whoever asked has hung up");
    },
    (name) => assert.rejects(askSession(["continue"], name, controller.signal), reason),
  );
  await withSession(
    async (client) => void await client.read(new Uint8Array(1)),
    (name) => assert.rejects(askSession(["state"], name, controller.signal), reason),
  );
});
