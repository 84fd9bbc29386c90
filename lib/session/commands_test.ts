/** The commands of a session, with a session that notes what it is asked. */
import assert from "node:assert/strict";
import { ClusterrrError } from "../errors.ts";
import { runSessionCommand, SESSION_COMMANDS, sessionHelp } from "./commands.ts";
import type { SessionPort, SessionState } from "./session.ts";

const STATE: SessionState = {
  recording: "/r",
  checkpoint: 42,
  lastCheckpoint: 85,
  seconds: 10.5,
  lamport: `${42n << 40n}`,
  vms: [
    {
      name: "left",
      icount: 1_234_567,
      lamport: `${(41n << 40n) + 17n}`,
      sent: 3,
      received: 4,
      registers: "RAX=0\nRIP=ffffffff81a17a0a RFL=00000246\n",
    },
    { name: "right", icount: 9, lamport: "5", sent: 0, received: 1, registers: null },
  ],
  inFlight: [{
    from: "left",
    sendNumber: 2,
    bytes: 60,
    summary: "ARP who has 10.77.0.1, tell 10.77.0.2",
    to: ["right", "hub"],
  }],
};

function session() {
  const calls: unknown[][] = [];
  const note = <T>(value: T, ...call: unknown[]): Promise<T> => {
    calls.push(call);
    return Promise.resolve(value);
  };
  const port: SessionPort = {
    goTo: (target) => note(STATE, "goTo", target),
    finish: () => {
      const vm = { name: "left", framesMatched: 7, framesRecorded: 7, consoleEqual: true };
      return note({ ok: true, vms: [vm] }, "finish");
    },
    state: () => note(STATE, "state"),
    console: (vm) => note("hello\n", "console", vm),
    monitor: (vm, line) => note("0: 00\n", "monitor", vm, line),
    saveMemory: (...args) => note(undefined, "saveMemory", ...args),
  };
  return { calls, run: (line: string) => runSessionCommand(port, line.split(" ")) };
}

Deno.test("session: state shows every VM and the frames in flight, or one VM's registers", async () => {
  const { run } = session();
  const { text, value } = await run("state");
  assert.equal(
    text,
    "checkpoint 42 of 85, 10.50 s into the recording\n\n" +
      "VM     INSTRUCTIONS  LAMPORT  SENT  RECEIVED  RIP\n" +
      "left      1,234,567    41+17     3         4  ffffffff81a17a0a\n" +
      "right             9      0+5     0         1  ended\n\n" +
      "in flight:\n  left frame 2, 60 bytes, to right, hub: ARP who has 10.77.0.1, tell 10.77.0.2\n",
  );
  assert.equal(value, STATE);
  assert.equal((await run("state left")).text, STATE.vms[0]!.registers);
  assert.equal((await run("state right")).text, "right has ended.\n");
  await assert.rejects(run("state nobody"), /There is no VM nobody/);
});

Deno.test("session: what commands ask for", async () => {
  const { run, calls } = session();
  await run("seek 7@left");
  await run("console left");
  await run("x left /4i $pc");
  await run("xp left 0x10");
  await run("info left pic");
  assert.equal(
    (await run("pmemsave left 0x1000 4096 /tmp/f")).text,
    "4.10 kB of left written to /tmp/f\n",
  );
  assert.deepEqual(calls, [
    ["goTo", { kind: "instruction", vm: "left", icount: 7 }],
    ["console", "left"],
    ["monitor", "left", "x /4i $pc"],
    ["monitor", "left", "xp 0x10"],
    ["monitor", "left", "info pic"],
    ["saveMemory", "left", 0x1000, 4096, "/tmp/f"],
  ]);
});

Deno.test("session: continue and quit end it", async () => {
  const { run } = session();
  const end = await run("continue");
  assert.deepEqual([end.over, end.text], [
    true,
    "left: 7 of 7 frames, console equal\nidentical to the recording\n",
  ]);
  assert.equal((await run("quit")).over, true);
  assert.equal((await run("state")).over, undefined);
});

Deno.test("session: what is wrong is said, and nothing is asked", async () => {
  const { run, calls } = session();
  const wrong: [string, RegExp][] = [
    ["xp left /3000000xb 0", /at most 100000 items; pmemsave/],
    ["bogus", /no command "bogus". There are: state, seek/],
    ["toString", /no command/],
    ["seek", /Usage: seek/],
    ["seek yesterday", /"yesterday" is no point of a recording/],
    ["console", /Usage: console VM/],
    ["x left", /Usage: x VM/],
    ["x left /4i $pc extra", /Usage: x VM/],
    ["info left", /Usage: info/],
    ["pmemsave left 0 x f", /no address and size/],
    ["pmemsave left -1 4 f", /no address and size/],
    ["pmemsave left 0 4", /Usage: pmemsave/],
  ];
  for (const [line, message] of wrong) {
    await assert.rejects(run(line), (error) => {
      assert.ok(error instanceof ClusterrrError, line);
      assert.match(error.message, message);
      return true;
    });
  }
  assert.deepEqual(calls, []);
});

Deno.test("session: help names every command", async () => {
  const { run } = session();
  assert.equal((await run("help")).text, sessionHelp());
  const names = sessionHelp().trimEnd().split("\n").map((line) => line.split(" ")[0]);
  assert.deepEqual(names, Object.keys(SESSION_COMMANDS));
});
