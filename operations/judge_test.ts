/** What counts as a failed run. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { makeRecording } from "../lib/catalog/recording_fixture.ts";
import { until } from "../lib/until_fixture.ts";
import { judge } from "./judge.ts";

async function withConsoles(
  consoles: { client: string; server: string },
  work: (directory: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-judge-" });
  try {
    const recording = await makeRecording(`${directory}/r`);
    for (const [vm, text] of Object.entries(consoles)) {
      await Deno.writeTextFile(`${recording}/vms/${vm}/console.log`, text);
    }
    await work(recording);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

const { signal } = new AbortController();
const GOOD = "GUEST role=x status=0\nit did not FAIL\nTEST exit_status=00 ok\n";

Deno.test("judge: a guest's own marker", async () => {
  const cases: [string, boolean][] = [
    [GOOD, false],
    ["", false],
    ["GUEST role=x status=1\n", true],
    ["GUEST role=x status=127 (no /guest/x.sh)\n", true],
    ["GUEST role=x status=10\n", true],
    ["  FAIL: 3 of 4\n", true],
    ["FAILED\n", true],
    ["FAILSAFE mode\n", false],
    ["[ 1.0] Kernel panic - not syncing\n", true],
  ];
  for (const [server, failed] of cases) {
    await withConsoles({ client: GOOD, server }, async (directory) => {
      const verdict = await judge({ directory, guests: true }, signal);
      assert.equal(verdict.failed, failed, server);
      if (failed) assert.match(verdict.reason, /^VM server printed "/);
    });
  }
});

Deno.test("judge: a command, which finds the recording and its consoles", () =>
  withConsoles({ client: "c-text", server: "s-text" }, async (directory) => {
    const by = (command: string, guests = false) => judge({ directory, command, guests }, signal);
    assert.equal((await by("true")).failed, false);
    assert.deepEqual(await by("exit 7"), {
      failed: true,
      reason: "the command ended with status 7",
    });
    const finds = 'test "$(cat "$CLUSTERRR_CONSOLE_CLIENT")" = c-text && ' +
      'test "$(cat "$CLUSTERRR_CONSOLE_SERVER")" = s-text && cd "$CLUSTERRR_RECORDING/vms"';
    assert.equal((await by(finds)).failed, false);
  }));

Deno.test("judge: either of command and guests is enough", () =>
  withConsoles({ client: "FAIL", server: GOOD }, async (directory) => {
    assert.equal((await judge({ directory, command: "true", guests: true }, signal)).failed, true);
    assert.equal(
      (await judge({ directory, command: "false", guests: false }, signal)).failed,
      true,
    );
  }));

Deno.test("judge: a command that cannot run judges nothing", () =>
  withConsoles({ client: "", server: "" }, async (directory) => {
    for (const command of ["/nonexistent/judge", "kill -9 $$"]) {
      await assert.rejects(
        judge({ directory, command, guests: false }, signal),
        /could not judge the run: .*The recording is kept in /,
      );
    }
  }));

Deno.test("judge: a signal ends the command; what has ended the recording does not", () =>
  withConsoles({ client: "", server: "" }, async (directory) => {
    const controller = new AbortController();
    const command = 'touch "$CLUSTERRR_RECORDING/started"; exec sleep 60';
    const judged = judge({ directory, command, guests: false }, controller.signal);
    const ended = assert.rejects(judged, /could not judge the run: ended by SIGTERM/);
    await until(() => existsSync(`${directory}/started`));
    controller.abort();
    await ended;
    const after = await judge({ directory, command: "true", guests: false }, controller.signal);
    assert.equal(after.failed, false);
  }));
