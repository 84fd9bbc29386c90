/** A stopped replay driven from standard input: a script's lines, a person's, or nobody's. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { makeRecording } from "../catalog/recording_fixture.ts";
import type { SessionAnswer } from "../session/commands.ts";
import { commandLine, MemoryTerminal, withDirectory } from "./command_fixture.ts";
import type { Operations } from "./ports.ts";

const TARGET = { kind: "instruction", vm: "client", icount: 7 };

Deno.test("session prompt: commands come in lines; the session is closed at their end", async () => {
  await withDirectory(async (dir) => {
    const path = await makeRecording(join(dir, "r"));
    const run = commandLine(dir);
    const terminal = new MemoryTerminal();
    terminal.input = ["  console   client ", "", "seek 9"];
    const { status, stdout, calls } = await run(
      ["replay", path, "--to", "7@client", "--window", "2"],
      terminal,
    );
    assert.equal(status, 0);
    assert.equal(stdout, "state\nconsole client\nseek 9\n");
    assert.deepEqual(calls, [
      ["openSession", { directory: path, target: TARGET, windowEpochs: 2 }],
      ["run", ["state"]],
      ["run", ["console", "client"]],
      ["run", ["seek", "9"]],
      ["close", undefined],
    ]);
  });
});

Deno.test("session prompt: a command that fails makes a script fail, and does not end it", async () => {
  await withDirectory(async (dir) => {
    const path = await makeRecording(join(dir, "r"));
    const run = commandLine(dir);
    const script = new MemoryTerminal();
    script.input = ["bad", "state"];
    const failed = await run(["replay", path, "--to", "3"], script);
    assert.deepEqual([failed.status, failed.stderr], [1, "clusterrr: no such command\n"]);
    assert.deepEqual(failed.calls.at(-2), ["run", ["state"]]);

    const person = new MemoryTerminal();
    person.interactive = true;
    person.input = ["bad", "quit", "state"];
    const typed = await run(["replay", path, "--to", "3"], person);
    assert.equal(typed.status, 0);
    assert.match(
      typed.stderr,
      /help lists them.*\nclusterrr> clusterrr: no such command\nclusterrr> $/,
    );
    assert.deepEqual(typed.calls.at(-2), ["run", ["quit"]], "nothing is read behind quit");
  });
});

Deno.test("session prompt: --hold waits for others, or for a signal; --json prints values", async () => {
  await withDirectory(async (dir) => {
    const path = await makeRecording(join(dir, "r"));
    const run = commandLine(dir);
    const interrupt = new AbortController();
    const terminal = new MemoryTerminal();
    terminal.input = ["state"];
    setTimeout(() => interrupt.abort(), 50);
    const args = ["replay", path, "--to", "3", "--hold", "--json"];
    const { status, stdout, stderr, calls } = await run(args, terminal, interrupt.signal);
    assert.equal(status, 0);
    assert.deepEqual(JSON.parse(stdout), { words: ["state"] });
    assert.match(stderr, /This replay is abc123\./);
    assert.deepEqual(calls.at(-1), ["close", undefined]);
    assert.equal(calls.length, 3, "standard input is left alone");
    assert.equal((await run(["replay", path, "--hold"])).status, 2);
    assert.equal((await run(["replay", path, "--to", "soon"])).status, 2);
  });
});

Deno.test("session prompt: where the rest was not what was recorded, the exit status is 1", async () => {
  await withDirectory(async (dir) => {
    const path = await makeRecording(join(dir, "r"));
    const hold = ["--hold", "--json"];
    for (const ok of [true, false]) {
      const end = { text: "end\n", value: { ok, vms: [] }, over: true };
      /** A session whose commands end it, or that another process has ended. */
      const ending = (over: Promise<SessionAnswer>): Partial<Operations> => ({
        openSession: () =>
          Promise.resolve({
            name: "abc123",
            gdb: [],
            over,
            run: ([name]) =>
              Promise.resolve(name === "continue" ? end : { text: "", value: { vms: [] } }),
            close: () => Promise.resolve(),
          }),
        askSession: () => Promise.resolve(end),
      });
      const here = commandLine(dir, ending(new Promise(() => {})));
      for (const interactive of [true, false]) {
        const terminal = new MemoryTerminal();
        Object.assign(terminal, { interactive, input: ["continue", "state"] });
        const { status } = await here(["replay", path, "--to", "3"], terminal);
        assert.equal(status, ok ? 0 : 1);
      }
      const elsewhere = commandLine(dir, ending(Promise.resolve(end)));
      for (const args of [["replay", path, "--to", "3"], ["replay", path, "--to", "3", ...hold]]) {
        const waiting = new MemoryTerminal();
        waiting.lines = async function* () {
          yield await new Promise<string>(() => {});
        };
        assert.equal((await elsewhere(args, waiting)).status, ok ? 0 : 1, args.join(" "));
      }
      assert.equal((await elsewhere(["continue"])).status, ok ? 0 : 1);
    }
  });
});
