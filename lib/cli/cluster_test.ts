/** Commands for the hosts of a coordinator: what they ask for, what they print, how they end. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { makeRecording } from "../catalog/recording_fixture.ts";
import { ClusterrrError } from "../errors.ts";
import type { HostState, RecordingEntry } from "../protocol/control.ts";
import type { ClusterAddress, ClusterClient } from "./cluster_ports.ts";
import { clusterAddress } from "./cluster_options.ts";
import { type Call, commandLine, MemoryTerminal, withDirectory } from "./command_fixture.ts";
import { verification } from "./verification_fixture.ts";

const HOST: HostState = {
  name: "alpha",
  connected: true,
  drained: false,
  revoked: false,
  addedAt: "2026-01-31T12:00:00.000Z",
  lastSeen: "2026-01-31T12:30:00.000Z",
  link: { host: "10.0.0.2", port: 7401 },
  toolVersion: "9.9.9",
  host: { kernel: "6.18", cpu: "a CPU", cores: 2, memoryMiB: 4096 },
  qemu: { path: "/usr/bin/qemu", version: "7.2.22", sha256: "ab".repeat(32) },
  vms: 3,
};
const AWAY: HostState = {
  ...HOST,
  name: "beta",
  connected: false,
  drained: true,
  revoked: true,
  lastSeen: null,
};
const RECORDING: RecordingEntry = {
  id: "0123456789abcdef",
  name: "trio",
  cluster: "trio",
  createdAt: "2026-01-31T12:00:00.000Z",
  endedBy: "poweroff",
  complete: true,
  recordS: 12.4,
  placement: [{ host: "alpha", vms: [1, 3] }, { host: "beta", vms: [2] }],
  vms: [{
    name: "hub",
    instructions: 123,
    bytes: { rrLog: 3000, hybrid: 2000, stored: 1000 },
    frames: { internal: 5, external: 6, stored: 7, sent: 8 },
    checks: 2,
  }],
};
const RUN = {
  run: "00112233445566ff",
  kind: "record" as const,
  name: "trio",
  phase: "running",
  startedAt: "2026-01-31T12:00:00.000Z",
  placement: RECORDING.placement,
  ended: false,
  hosts: [{
    host: "alpha",
    connected: true,
    record: {
      phase: "running" as const,
      doing: "running",
      epoch: 42,
      finished: false,
      vms: [{
        number: 1,
        name: "hub",
        icount: 5,
        rrLogBytes: 10,
        storedBytes: 2000,
        framesSent: 3,
        framesInternal: 4,
        framesExternal: 5,
        framesUnmatched: 6,
        checks: 1,
        ended: "no" as const,
      }],
    },
  }],
};

/** A coordinator that notes what it is asked for. */
function standIn(calls: Call[], changes: Partial<ClusterClient> = {}): ClusterClient {
  const note = (operation: string, options: unknown = undefined) =>
    void calls.push([operation, options]);
  return {
    hosts: () => Promise.resolve([HOST, AWAY]),
    invite: (
      role,
      name,
      validMs,
    ) => (note("invite", [role, name, validMs]), Promise.resolve("clrr1.T")),
    drain: (name, drained) => Promise.resolve(note("drain", [name, drained])),
    remove: (name) => Promise.resolve(note("remove", name)),
    revoke: (role, name) => Promise.resolve(note("revoke", [role, name])),
    status: () => Promise.resolve({ version: "9.9.9", upS: 5, hosts: [HOST, AWAY], runs: [RUN] }),
    stop: (run) => Promise.resolve(note("stop", run)),
    recordings: () => Promise.resolve([RECORDING]),
    removeRecording: (reference) => Promise.resolve(note("removeRecording", reference)),
    forgetRecording: (reference) => Promise.resolve(note("forgetRecording", reference)),
    record: (options) => (note("record", options), Promise.resolve(RECORDING)),
    replay(options) {
      note("replay", options);
      const vm = {
        name: "hub",
        framesRecorded: 8,
        framesMatched: 8,
        instructions: 123,
        consoleEqual: true,
        replayS: 5,
        endedBy: "end of log",
      };
      return Promise.resolve({ ok: true, vms: [vm], replayS: 5, recordS: 12.4, queueBytesMax: 9 });
    },
    verify(options) {
      note("verify", options);
      const run = { ok: false, replayS: 5, recordS: 12.4, vms: [verification("hub")] };
      return Promise.resolve({ ok: false, runs: 1, vms: run.vms, perRun: [run] });
    },
    async collect(reference, directory, partial) {
      note("collect", [reference, partial]);
      await makeRecording(directory);
      return {
        id: RECORDING.id,
        name: "trio",
        directory,
        bytes: 5000,
        hosts: [{ host: "alpha", vms: ["hub", "right"] }],
        missing: partial ? ["left"] : [],
      };
    },
    close: () => note("close"),
    ...changes,
  };
}

/** Runs a command line; `calls` begins with the address that was connected to. */
async function run(
  args: readonly string[],
  terminal = new MemoryTerminal(),
  changes: Partial<ClusterClient> = {},
) {
  const calls: Call[] = [];
  let outcome: { status: number; stdout: string; stderr: string } | undefined;
  await withDirectory(async (dir) => {
    const cluster = {
      connect(address: ClusterAddress) {
        calls.push(["connect", address]);
        return Promise.resolve(standIn(calls, changes));
      },
    };
    const operations = { cluster } as unknown as Parameters<typeof commandLine>[1];
    await Deno.mkdir(join(dir, "used/already"), { recursive: true });
    const placed = args.map((arg) =>
      arg === "OUT" || arg === "USED" ? join(dir, arg.toLowerCase()) : arg
    );
    const { status, stdout, stderr } = await commandLine(dir, operations)(placed, terminal);
    outcome = {
      status,
      stdout: stdout.replaceAll(dir, "DIR"),
      stderr: stderr.replaceAll(dir, "DIR"),
    };
  });
  return { ...outcome!, calls };
}

const AT = ["--coordinator", "c:7400", "--identity", "/id"];

Deno.test("the coordinator: the option, else the environment, else a usage error", () => {
  const env = (name: string) =>
    ({ CLUSTERRR_COORDINATOR: "e:1", CLUSTERRR_IDENTITY: "/e", HOME: "/h" })[name];
  const none = { coordinator: undefined, identity: undefined };
  assert.deepEqual(clusterAddress(none, env), { coordinator: "e:1", identity: "/e" });
  assert.deepEqual(clusterAddress({ coordinator: "o:2", identity: "/o" }, env), {
    coordinator: "o:2",
    identity: "/o",
  });
  assert.throws(() => clusterAddress(none, () => undefined), /Give --coordinator HOST:PORT/);
  const home = (name: string) => name === "HOME" ? "/h" : undefined;
  assert.equal(
    clusterAddress({ coordinator: "o:2", identity: undefined }, home).identity,
    "/h/.config/clusterrr/identity",
  );
});

Deno.test("hosts: a line each, with what is the matter with it", async () => {
  const { status, stdout, calls } = await run(["hosts", ...AT]);
  assert.equal(status, 0);
  assert.match(stdout, /^HOST +STATE +VMS/);
  assert.match(stdout, /^alpha +connected +3 +2 +4096 MiB +10\.0\.0\.2:7401 +7\.2\.22 +9\.9\.9/m);
  assert.match(stdout, /^beta +away, drained, revoked .* not since the coordinator started$/m);
  assert.deepEqual(calls, [["connect", { coordinator: "c:7400", identity: "/id" }], [
    "close",
    undefined,
  ]]);
  assert.deepEqual(JSON.parse((await run(["hosts", "--json", ...AT])).stdout), [HOST, AWAY]);
});

Deno.test("hosts: what can be done with one", async () => {
  const cases: [string[], string, Call][] = [
    [["invite", "alpha"], "clrr1.T\n", ["invite", ["agent", "alpha", 3_600_000]]],
    [["invite", "bob", "--operator", "--valid", "10m"], "clrr1.T\n", [
      "invite",
      ["operator", "bob", 600_000],
    ]],
    [["drain", "alpha"], "Host alpha is drained.\n", ["drain", ["alpha", true]]],
    [["undrain", "alpha"], "Host alpha takes VMs again.\n", ["drain", ["alpha", false]]],
    [["remove", "alpha"], "Host alpha is removed.\n", ["remove", "alpha"]],
    [["revoke", "alpha"], "Host alpha is revoked.\n", ["revoke", ["agent", "alpha"]]],
    [["revoke", "bob", "--operator"], "Operator bob is revoked.\n", ["revoke", [
      "operator",
      "bob",
    ]]],
  ];
  for (const [args, text, call] of cases) {
    const { status, stdout, calls } = await run(["hosts", ...args, ...AT]);
    assert.deepEqual([status, stdout], [0, text]);
    assert.deepEqual(calls[1], call);
  }
});

Deno.test("status: hosts, runs and their VMs", async () => {
  const { stdout } = await run(["status", ...AT]);
  assert.match(stdout, /^coordinator 9\.9\.9, up 5\.0 s, 1 of 2 hosts connected$/m);
  assert.match(stdout, /^trio record 00112233445566ff: running$/m);
  assert.match(stdout, /^alpha +hub +running +15 +2\.00 kB +epoch 42$/m);
  assert.equal(JSON.parse((await run(["status", "--json", ...AT])).stdout).runs[0].run, RUN.run);
});

Deno.test("stop: by name or id; what is not there is said", async () => {
  for (const reference of ["trio", "001122"]) {
    const { status, stdout, calls } = await run(["stop", reference, ...AT]);
    assert.deepEqual([status, stdout], [0, "trio is being stopped.\n"]);
    assert.deepEqual(calls[1], ["stop", RUN.run]);
  }
  const { status, stderr } = await run(["stop", "ff", ...AT]);
  assert.equal(status, 1);
  assert.match(stderr, /No run is "ff"\. There are: trio \(00112233445566ff\)/);
});

Deno.test("record: on the hosts, and collected where a directory is named", async () => {
  const left = await run(["record", "c.yaml", "--for", "3s", ...AT]);
  assert.equal(left.status, 0, left.stderr);
  assert.match(left.stdout, /^trio \(01234567\): recorded 12\.4 s on alpha, beta, until every VM/);
  assert.match(left.stdout, /clusterrr replay trio --coordinator c:7400\n$/);
  assert.deepEqual(left.calls[1], ["record", {
    spec: "c.yaml",
    digestEveryMs: 5000,
    epochMs: 250,
    forMs: 3000,
  }]);
  const here = await run(["record", "c.yaml", "--out", "OUT", ...AT]);
  assert.deepEqual(here.calls.map(([name]) => name), ["connect", "record", "collect", "close"]);
  assert.match(here.stdout, /clusterrr replay DIR\/out\n$/);
  for (const flags of [["--from", "ready"], ["--on-guest-failure"]]) {
    const refused = await run(["record", "c.yaml", "--out", "OUT", ...flags, ...AT]);
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /do not go with --coordinator/);
  }
  const nowhere = await run(["record", "c.yaml"]);
  assert.deepEqual([nowhere.status, nowhere.calls], [2, []]);
  assert.match(nowhere.stderr, /Say where: --out DIR/);
});

Deno.test("record: what cannot be collected is refused before it is recorded", async () => {
  const used = await run(["record", "c.yaml", "--out", "USED", ...AT]);
  assert.deepEqual([used.status, used.calls], [1, []]);
  assert.match(used.stderr, /DIR\/used exists and is not empty/);
  const untagged = await run(["record", "c.yaml", "--tag", "ci", ...AT]);
  assert.deepEqual([untagged.status, untagged.calls], [2, []]);
  assert.match(untagged.stderr, /--tag .* needs --out DIR/);
});

Deno.test("record: where the collecting fails, the recording is named, and how to get it later", async () => {
  const collect = () => Promise.reject(new ClusterrrError("no space left"));
  const args = ["record", "c.yaml", "--out", "OUT", ...AT];
  const { status, stdout, stderr } = await run(args, new MemoryTerminal(), { collect });
  assert.deepEqual([status, stdout], [1, ""]);
  assert.match(stderr, /^clusterrr: Recording trio \(0123456789abcdef\) .*: no space left$/m);
  assert.match(
    stderr,
    /^Later: clusterrr collect 0123456789abcdef --out DIR\/out --coordinator c:7400$/m,
  );
});

Deno.test("replay and verify: on the hosts that are wanted", async () => {
  const spread = await run(["replay", "trio", "--on", "alpha,beta", "--window", "3", ...AT]);
  assert.equal(spread.status, 0);
  assert.match(spread.stdout, /identical to the recording/);
  assert.deepEqual(spread.calls[1], ["replay", {
    recording: "trio",
    placement: [],
    hosts: ["alpha", "beta"],
    windowEpochs: 3,
  }]);
  const placed = await run(["verify", "trio", "--place", "2=beta", "--runs", "4", ...AT]);
  assert.equal(placed.status, 1, "a replay that differs");
  assert.deepEqual(placed.calls[1], ["verify", {
    recording: "trio",
    runs: 4,
    placement: [{ host: "beta", vms: [2] }],
  }]);
  for (
    const [args, words] of [
      [["replay", "trio", "--on", "alpha"], /go with --coordinator/],
      [["verify", "trio", "--place", "2=beta"], /go with --coordinator/],
      [["replay", "trio", "--to", "3", ...AT], /`clusterrr collect` brings it here/],
      [["verify", "trio", "--parallel", ...AT], /do not go with --coordinator/],
      [["replay", "trio", "--place", "hub=beta", ...AT], /such as 3=alpha, but got "hub=beta"/],
    ] as const
  ) {
    const { status, stderr } = await run(args);
    assert.equal(status, 2, args.join(" "));
    assert.match(stderr, words);
  }
});

Deno.test("collect: what came from where, and what is missing", async () => {
  const whole = await run(["collect", "trio", "--out", "OUT", ...AT]);
  assert.equal(whole.status, 0, whole.stderr);
  assert.match(whole.stdout, /^trio: 5\.00 kB from\n {2}alpha: hub, right\n\nReplay it: /);
  const part = await run(["collect", "trio", "--out", "OUT", "--partial", ...AT]);
  assert.match(part.stdout, /Missing: left\./);
});

Deno.test("ls and rm: the recordings on the hosts", async () => {
  const { stdout } = await run(["ls", ...AT]);
  assert.match(stdout, /^01234567 +trio +.* 3 +complete +alpha,beta$/m);
  for (const flags of [["DIR"], ["--rescan"], ["--tag", "ci"]]) {
    const refused = await run(["ls", ...flags, ...AT]);
    assert.deepEqual([refused.status, refused.calls], [2, []], flags.join(" "));
    assert.match(refused.stderr, /are for this host/);
  }
  const removed = await run(["rm", "trio", "--yes", ...AT]);
  assert.deepEqual(removed.calls[1], ["removeRecording", RECORDING.id]);
  assert.equal(removed.stdout, "Deleted trio (0123456789abcdef) on alpha, beta.\n");
  const forgotten = await run(["rm", "0123", "--keep-files", ...AT]);
  assert.deepEqual(forgotten.calls[1], ["forgetRecording", RECORDING.id]);
  assert.equal(
    forgotten.stdout,
    "Forgot trio (0123456789abcdef); its files stay on their hosts.\n",
  );
  const unasked = await run(["rm", "trio", ...AT]);
  assert.equal(unasked.status, 2);
  assert.match(unasked.stderr, /add --yes/);

  const newer = { ...RECORDING, id: "0123000000000000" };
  const two = { recordings: () => Promise.resolve([newer, RECORDING]) };
  for (const reference of ["trio", "0123", "none", "012"]) {
    const refused = await run(["rm", reference, "--yes", ...AT], undefined, two);
    assert.deepEqual([refused.status, refused.calls.slice(1)], [1, [["close", undefined]]]);
    assert.match(
      refused.stderr,
      ["none", "012"].includes(reference)
        ? /The hosts have no recording "(none|012)"/
        : /have 2 recordings "\w+": 0123000000000000, 0123456789abcdef\. Say which by its id\./,
    );
  }
  const one = await run(["rm", "01230", "--yes", ...AT], undefined, two);
  assert.deepEqual(one.calls[1], ["removeRecording", newer.id]);
});

Deno.test("replay: on hosts the window is a number", async () => {
  const refused = await run(["replay", "trio", "--window", "off", ...AT]);
  assert.deepEqual([refused.status, refused.calls], [2, []]);
  assert.match(refused.stderr, /--window off is for a replay on this host/);
});
