/** Clusters that are recorded and replayed over several hosts, each a namespace with an agent of its own. */
import assert from "node:assert/strict";
import { once, readConsole, sleep, testBed, type TestVm, type Tool } from "./end_to_end_fixture.ts";
import {
  AGENT_METRICS,
  type ClusterHosts,
  type HostName,
  METRICS,
  withClusterHosts,
} from "./hosts_fixture.ts";
import { Random } from "./simulation/random.ts";

const bed = testBed();

const NO_UPLINK = { network: {} };
/** Two guests on two hosts that ping each other and power off. */
const DUO: readonly TestVm[] = [
  { name: "one", role: "greet", host: 1, peers: [2], more: { host: "alpha" } },
  { name: "two", role: "greet", host: 2, peers: [1], more: { host: "beta" } },
];

const duoFile = once(() => bed.cluster("duo", DUO, NO_UPLINK));

interface ReportedVm {
  name: string;
  frames: { internal: number; external: number; stored: number };
}

// deno-lint-ignore no-explicit-any -- tests look at single fields of what scripts get
type Json = any;

/** Frames between the guests have all been identified. */
function expectInternal(vms: readonly ReportedVm[], atLeast: number): void {
  for (const { name, frames: { internal, external, stored } } of vms) {
    assert.deepEqual([external, stored], [0, 0], `${name}: stored whole`);
    assert.ok(internal >= atLeast, `${name}: ${internal} internal frames`);
  }
}

/** A verification has compared every frame, check and console, and found no difference. */
function expectVerified(report: Json, names: readonly string[], checksMin = 1): void {
  assert.equal(report.ok, true, JSON.stringify(report));
  assert.deepEqual(report.vms.map(({ name }: Json) => name), names);
  for (const { name, frames, console, checks } of report.vms) {
    assert.ok(frames.recorded > 0, `${name} sent nothing`);
    assert.equal(frames.matched, frames.recorded, `${name}: frames`);
    assert.equal(console, true, `${name}: console`);
    assert.ok(checks.length >= checksMin, `${name}: ${checks.length} checks`);
    for (const { icount, registers, ram } of checks) {
      assert.deepEqual([icount, registers, ram], [true, true, true], `${name}: a check`);
    }
  }
}

bed.test(
  "two hosts: recorded, verified there, elsewhere, and without a coordinator",
  420,
  async () => {
    await withClusterHosts(bed, { count: 2, folder: "duo" }, async (hosts) => {
      const directory = bed.path("duo.clusterrr");
      const spec = await duoFile();
      const recording = hosts.startThere([
        "record",
        spec,
        "--out",
        directory,
        "--digest-every",
        "1s",
      ]);
      const { status, stdout, stderr } = await recording.ended;
      assert.equal(status, 0, stderr);
      const recorded = JSON.parse(stdout);
      assert.deepEqual([recorded.endedBy, recorded.complete], ["poweroff", true]);
      assert.deepEqual(recorded.placement, [{ host: "alpha", vms: [1] }, {
        host: "beta",
        vms: [2],
      }]);
      expectInternal(recorded.vms, 6);
      for (const vm of ["one", "two"]) assert.match(readConsole(directory, vm), /^OK greet$/m);

      const names = ["one", "two"];
      expectVerified(await hosts.there(["verify", "duo"]), names);
      expectVerified(await hosts.there(["verify", "duo", "--on", "beta"]), names);
      const swapped = ["--place", "1=beta", "--place", "2=alpha"];
      expectVerified(await hosts.there(["verify", "duo", ...swapped]), names);
      expectVerified(await bed.json(["verify", directory]), names);
      const pack = bed.path("duo.tar");
      await bed.json(["pack", directory, pack]);
      await bed.json(["unpack", pack, "--out", bed.path("duo.unpacked")]);
      expectVerified(await bed.json(["verify", bed.path("duo.unpacked")]), names);
    });
  },
);

/** Metrics and health of both roles while two guests are recorded. */
async function expectFigures(hosts: ClusterHosts): Promise<void> {
  await sleep(1_100); // figures are shown once a second
  for (
    const [name, address, role] of [
      ["alpha", METRICS, "coordinator"],
      ["beta", AGENT_METRICS, "agent"],
    ] as const
  ) {
    const health = await hosts.fetch(name, address, "healthz");
    assert.equal(health.status, 200, health.text);
    const { status, role: told, problems } = JSON.parse(health.text);
    assert.deepEqual([status, told, problems], ["ok", role, []]);
  }
  const coordinator = figures((await hosts.fetch("alpha", METRICS, "metrics")).text);
  assert.equal(coordinator.get("clusterrr_hosts_registered"), 2);
  assert.equal(coordinator.get("clusterrr_hosts_connected"), 2);
  assert.equal(coordinator.get('clusterrr_host_up{host="beta"}'), 1);
  assert.equal(coordinator.get('clusterrr_runs{phase="running"}'), 1);
  const ticked = [...coordinator].find(([name]) =>
    name.startsWith("clusterrr_epochs_ticked_total")
  );
  assert.ok(ticked !== undefined && ticked[1] >= 4, `epochs ticked: ${ticked}`);
  assert.ok(coordinator.get("clusterrr_tick_duration_seconds_count")! >= 4);
  const agent = figures((await hosts.fetch("beta", AGENT_METRICS, "metrics")).text);
  assert.equal(agent.get('clusterrr_runs{phase="running"}'), 1);
  const instructions = [...agent].find(([name]) =>
    name.startsWith("clusterrr_guest_instructions_total") && name.includes('vm="right"')
  );
  assert.ok(instructions !== undefined && instructions[1] > 1e6, `instructions: ${instructions}`);
  assert.ok(agent.get("process_resident_memory_bytes")! > 1e7);
}

/** The samples of a metrics page. */
function figures(page: string): Map<string, number> {
  return new Map(
    page.split("\n").filter((line) => line !== "" && !line.startsWith("#")).map((line) => {
      const at = line.lastIndexOf(" ");
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
}

/** Three guests on three hosts that fetch files from each other by TCP. */
const TRIO: readonly TestVm[] = [
  { name: "one", role: "swap", host: 1, peers: [2, 3], more: { host: "alpha" } },
  { name: "two", role: "swap", host: 2, peers: [1, 3], more: { host: "beta" } },
  { name: "three", role: "swap", host: 3, peers: [1, 2], more: { host: "gamma" } },
];
const TRIO_NAMES = TRIO.map(({ name }) => name);

bed.test("three hosts: 5 % loss, delay and reordering, 10 s of partition", 420, async () => {
  await withClusterHosts(bed, { count: 3, folder: "trio" }, async (hosts) => {
    const spec = await bed.cluster("trio", TRIO, NO_UPLINK);
    await hosts.lose(5);
    const recorded = await hosts.there(["record", spec, "--digest-every", "2s"]);
    const lostFrames = await hosts.loseNothing();
    assert.ok(lostFrames >= 10, `${lostFrames} packets lost`);
    assert.deepEqual([recorded.endedBy, recorded.complete], ["poweroff", true]);
    expectInternal(recorded.vms, 200);

    const directory = bed.path("trio.clusterrr");
    await hosts.json(["collect", "trio", "--out", directory]);
    for (const vm of TRIO_NAMES) assert.match(readConsole(directory, vm), /^OK swap$/m);

    await hosts.lose(5);
    const slow = await hosts.delay(20, 0x510);
    expectVerified(await hosts.there(["verify", "trio"]), TRIO_NAMES);
    const lost = await hosts.loseNothing();
    assert.ok(lost >= 10, `${lost} packets lost`);
    assert.ok(slow.overtaken >= 10, `${slow.overtaken} of ${slow.frames} frames were overtaken`);
    await hosts.delayNothing();

    const verify = hosts.startThere(["verify", "trio"]);
    await hosts.until(
      "a third is replayed",
      (now) => percentsOf(now).length === 3 && Math.min(...percentsOf(now)) > 20,
    );
    await hosts.cable("gamma", "down");
    await sleep(0.7 * PARTITION_MS); // they may be some seconds of the recording ahead of it
    const waiting = await ratiosOf(hosts, "alpha", "beta");
    await sleep(0.3 * PARTITION_MS);
    const ratios = await ratiosOf(hosts, "alpha", "beta");
    assert.deepEqual(ratios, waiting, "the replay waits");
    assert.ok(ratios.length === 2 && Math.min(...ratios) < 1, `${ratios}`);
    await hosts.cable("gamma", "up");
    const { status, stdout, stderr } = await verify.ended;
    assert.equal(status, 0, stderr);
    expectVerified(JSON.parse(stdout), TRIO_NAMES);
  });
});

const PARTITION_MS = 10_000;

/** How far the VMs of these hosts are, 0 to 1, as their agents say: the coordinator's word is that of all hosts together. */
async function ratiosOf(hosts: ClusterHosts, ...names: HostName[]): Promise<number[]> {
  const ratios: number[] = [];
  for (const name of names) {
    const { text } = await hosts.fetch(name, AGENT_METRICS, "metrics");
    for (const [figure, value] of figures(text)) {
      if (figure.startsWith("clusterrr_replay_progress_ratio")) ratios.push(value);
    }
  }
  return ratios;
}

/** How far the VMs of a replay are, in percent. */
function percentsOf({ runs }: Json): number[] {
  const vms = (runs[0]?.hosts ?? []).flatMap(({ replay }: Json) => replay?.vms ?? []);
  return vms.map(({ percent }: Json) => percent);
}

/** The recording of `DUO`, in the folder "duo", made by whichever test comes first. */
async function needDuo(hosts: ClusterHosts): Promise<void> {
  const listed: readonly Json[] = await hosts.there(["ls"]);
  if (listed.some(({ name, complete }) => name === "duo" && complete)) return;
  await hosts.there(["record", await duoFile(), "--digest-every", "1s"]);
}

const DUO_NAMES = ["one", "two"];

bed.test("an agent killed while it replays, and started again: verify passes", 420, async () => {
  const random = new Random(0xa6e7);
  await withClusterHosts(bed, { count: 2, folder: "duo" }, async (hosts) => {
    await needDuo(hosts);
    for (const victim of ["alpha", "beta"] as const) {
      const [afterMs, awayMs] = [random.between(0, 2_000), random.between(0, 1_000)];
      const verify = hosts.startThere(["verify", "duo"]);
      await hosts.until("it replays", ({ runs }) => runs[0]?.phase === "replaying");
      await sleep(afterMs);
      assert.equal((await hosts.status()).runs[0]?.phase, "replaying");
      await hosts.killAgent(victim);
      await sleep(awayMs);
      await hosts.startAgent(victim);
      const { status, stdout, stderr } = await verify.ended;
      const when = `${victim} killed ${afterMs} ms after the start, away for ${awayMs} ms`;
      assert.equal(status, 0, `${when}: ${stderr}`);
      expectVerified(JSON.parse(stdout), DUO_NAMES);
    }
  });
});

bed.test("the coordinator killed during a replay: it goes on", 420, async () => {
  const random = new Random(0xc003);
  await withClusterHosts(bed, { count: 2, folder: "duo" }, async (hosts) => {
    await needDuo(hosts);
    for (const phase of ["preparing", "replaying"]) {
      const afterMs = random.between(0, 1_500);
      const verify = hosts.startThere(["verify", "duo"]);
      await hosts.until("there is a run", ({ runs }) => runs.length === 1);
      if (phase === "replaying") {
        await hosts.until("it replays", ({ runs }) => runs[0]?.phase === phase);
        await sleep(afterMs);
      }
      const [before] = (await hosts.status()).runs;
      assert.equal(before.phase, phase);
      await hosts.restartCoordinator();
      assert.equal((await hosts.status()).runs[0]?.run, before.run, "the same run");
      const { status, stdout, stderr } = await verify.ended;
      assert.equal(status, 0, `killed while ${phase}, after ${afterMs} ms: ${stderr}`);
      expectVerified(JSON.parse(stdout), DUO_NAMES);
    }
  });
});

/** Two guests that never end. */
const CHATTER: readonly TestVm[] = [
  { name: "left", role: "chatter", host: 1, peers: [2], more: { host: "alpha" } },
  { name: "right", role: "chatter", host: 2, peers: [1], more: { host: "beta" } },
];

/** Starts to record `CHATTER` as `name` and waits until the guests hear each other. */
async function recordChatter(
  hosts: ClusterHosts,
  name: string,
  more: readonly string[] = [],
): Promise<Tool> {
  const spec = await bed.cluster(name, CHATTER, NO_UPLINK);
  const recording = hosts.startThere(["record", spec, "--digest-every", "0", ...more]);
  await hosts.until("the guests talk", (now) => heard(now) >= 10);
  return recording;
}

/** A QEMU that tells its version and else never comes up. */
const silentQemu = once(async () => {
  const path = bed.path("silent-qemu");
  const script = '#!/bin/sh\n[ "$1" = --version ] && exec qemu-system-x86_64 "$1"\nexec sleep 60\n';
  await Deno.writeTextFile(path, script);
  await Deno.chmod(path, 0o755);
  return path;
});

bed.test("the coordinator killed before the VMs run: said, and nothing is left", 420, async () => {
  await withClusterHosts(bed, { count: 2 }, async (hosts) => {
    const profile = { qemu: await silentQemu() };
    const spec = await bed.cluster("early", CHATTER, { ...NO_UPLINK, profile });
    const recording = hosts.startThere(["record", spec]);
    await hosts.until("there is a run", ({ runs }) => runs.length === 1);
    await sleep(1_000);
    await hosts.restartCoordinator();
    const { status, stdout, stderr } = await recording.ended;
    assert.deepEqual([status, stdout], [1, ""], stderr);
    assert.match(
      stderr,
      /^clusterrr: The coordinator was started again while the recording was preparing\.$/m,
    );
    await hosts.untilIdle();
    assert.deepEqual(await hosts.there(["ls"]), []);
    for (const name of hosts.names) {
      assert.deepEqual([...Deno.readDirSync(`${hosts.state(name)}/recordings`)], []);
    }
  });
});

bed.test("the coordinator killed while VMs run, and while they are sealed", 420, async () => {
  await withClusterHosts(bed, { count: 2, folder: "chatter" }, async (hosts) => {
    const recording = await recordChatter(hosts, "running");
    await hosts.restartCoordinator(1_000);
    await hosts.untilConnected();
    assert.equal((await hosts.status()).runs[0].phase, "running");
    hosts.agent("beta").signal("SIGSTOP"); // it is slow to end its part
    recording.signal("SIGINT");
    const ending = ["quiescing", "sealing"];
    await hosts.until("it ends", ({ runs }) => ending.includes(runs[0]?.phase));
    await hosts.restartCoordinator();
    hosts.agent("beta").signal("SIGCONT");
    const { status, stdout, stderr } = await recording.ended;
    assert.equal(status, 0, stderr);
    const recorded = JSON.parse(stdout);
    assert.deepEqual([recorded.endedBy, recorded.complete], ["interrupt", true]);
    expectInternal(recorded.vms, 10);
    expectVerified(await hosts.there(["verify", "running"]), ["left", "right"], 0);
  });
});

/** Replays a recording that was cut off, up to there. */
async function replayCut(
  directory: string,
  names: readonly string[],
  framesMin = 2,
): Promise<Json> {
  const replayed = await bed.json(["replay", directory]);
  assert.equal(replayed.ok, true, JSON.stringify(replayed));
  assert.deepEqual(replayed.vms.map(({ name }: Json) => name), names);
  for (const { name, framesMatched, consoleEqual } of replayed.vms) {
    assert.ok(framesMatched >= framesMin, `${name}: ${framesMatched} frames`);
    assert.equal(consoleEqual, true, `${name}: console`);
  }
  return replayed;
}

/** How the recording of a lost host is told and collected, before it is back and after. */
async function expectLost(
  hosts: ClusterHosts,
  name: string,
  recording: Tool,
  comeBack: () => Promise<void>,
): Promise<void> {
  const { status, stderr } = await recording.ended;
  assert.equal(status, 1, stderr);
  assert.match(
    stderr,
    /the recording failed: Host beta was lost while recording, with the VMs right/,
  );
  const parts = bed.path(`${name}-parts`);
  const refused = await hosts.run(["collect", name, "--out", parts]);
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /cannot be had:\n {2}- host beta with VM 2: .*\n.*--partial/);
  assert.equal(refused.stdout, "");
  const { missing } = await hosts.json(["collect", name, "--out", parts, "--partial"]);
  assert.deepEqual(missing, ["right"]);
  const partial = await replayCut(parts, ["left"], 0); // it hears the other from its start
  assert.match(partial.incomplete ?? "", /the log of right is missing/);

  await comeBack();
  await hosts.untilConnected();
  await hosts.untilIdle();
  const whole = bed.path(`${name}-whole`);
  const collected = await hosts.json(["collect", name, "--out", whole]);
  assert.deepEqual(collected.missing, []);
  await replayCut(whole, ["left", "right"]);
}

bed.test(
  "a host's agent killed while it records: named, the rest kept, later all",
  420,
  async () => {
    const setup = { count: 2, folder: "chatter", lostAfter: "3s" };
    await withClusterHosts(bed, setup, async (hosts) => {
      const recording = await recordChatter(hosts, "killed");
      await sleep(1_500); // until what they said is on the disk
      await hosts.killAgent("beta");
      await expectLost(hosts, "killed", recording, () => hosts.startAgent("beta"));
    });
  },
);

bed.test("a host's link cut while it records: named, the rest kept, later all", 420, async () => {
  const setup = { count: 2, folder: "chatter", lostAfter: "3s" };
  await withClusterHosts(bed, setup, async (hosts) => {
    const recording = await recordChatter(hosts, "cut");
    await hosts.cable("beta", "down");
    await expectLost(hosts, "cut", recording, () => hosts.cable("beta", "up"));
  });
});

bed.test("figures; Ctrl-C of the operator; SIGTERM of an agent while it records", 420, async () => {
  await withClusterHosts(bed, { count: 2, folder: "chatter" }, async (hosts) => {
    const kept = bed.path("interrupted.clusterrr");
    const interrupted = await recordChatter(hosts, "interrupted", ["--out", kept]);
    const { hosts: listed, runs: [run] } = await hosts.json(["status"]);
    assert.deepEqual(listed.map(({ name, vms }: Json) => [name, vms]), [["alpha", 1], ["beta", 1]]);
    assert.deepEqual([run.kind, run.name, run.phase], ["record", "interrupted", "running"]);
    await expectFigures(hosts);
    interrupted.signal("SIGINT");
    const { status, stdout, stderr } = await interrupted.ended;
    assert.equal(status, 0, stderr);
    const { endedBy, complete } = JSON.parse(stdout);
    assert.deepEqual([endedBy, complete], ["interrupt", true]);
    const shown = await bed.json(["show", kept]);
    assert.deepEqual([shown.endedBy, shown.complete, shown.state], ["interrupt", true, "sealed"]);

    const stopped = await recordChatter(hosts, "stopped");
    await hosts.stopAgent("beta");
    const outcome = await stopped.ended;
    assert.equal(outcome.status, 1, outcome.stderr);
    assert.match(outcome.stderr, /the recording failed: .*beta/);
    await hosts.startAgent("beta");
    await hosts.untilConnected();
    const directory = bed.path("stopped.clusterrr");
    assert.deepEqual((await hosts.json(["collect", "stopped", "--out", directory])).missing, []);
    await replayCut(directory, ["left", "right"]);
  });
});

bed.test("hosts: drained, revoked, removed; a token works once", 420, async () => {
  await withClusterHosts(bed, { count: 2 }, async (hosts) => {
    const free = CHATTER.map(({ more: _, ...vm }) => vm);
    const profile = { qemu: await silentQemu() };
    const spec = await bed.cluster("free", free, { ...NO_UPLINK, profile });
    assert.deepEqual(await hosts.json(["hosts", "drain", "beta"]), { drain: "beta" });
    const recording = hosts.startThere(["record", spec]);
    const { runs: [run] } = await hosts.until("there is a run", ({ runs }) => runs.length === 1);
    assert.deepEqual(run.placement, [{ host: "alpha", vms: [1, 2] }], "nothing on the drained one");
    const busy = await hosts.run(["hosts", "remove", "alpha"]);
    assert.equal(busy.status, 1);
    assert.match(busy.stderr, /Host alpha has a part in run .*free/);
    recording.signal("SIGINT");
    const { status, stderr } = await recording.ended;
    assert.equal(status, 1);
    assert.match(stderr, /^clusterrr: Interrupted before the recording began\.$/m);
    await hosts.untilIdle();
    await hosts.must(["hosts", "undrain", "beta"]);

    await hosts.must(["hosts", "revoke", "beta"]);
    const state = ({ hosts }: Json) => hosts.find(({ name }: Json) => name === "beta");
    const revoked = state(await hosts.until("cut off", (now) => !state(now).connected, 2_000));
    assert.equal(revoked.revoked, true);
    await hosts.coordinator.until(
      "it refuses the revoked one",
      () => /refused 192\.0\.2\.2.*revoked/.test(hosts.coordinator.stderr),
    );
    assert.match(hosts.agent("beta").stderr, /lost the coordinator/);
    await sleep(1_100); // figures are shown once a second
    const health = await hosts.fetch("beta", AGENT_METRICS, "healthz");
    assert.equal(health.status, 503, health.text);
    await hosts.must(["hosts", "remove", "beta"]);
    assert.deepEqual((await hosts.json(["hosts"])).map(({ name }: Json) => name), ["alpha"]);

    const { token } = await hosts.json(["hosts", "invite", "bob", "--operator"]);
    const join = (identity: string) =>
      hosts.run(["join", token, "--name", "bob", "--identity", bed.path(identity)]);
    const joined = await join("bob");
    assert.equal(joined.status, 0, joined.stderr);
    await hosts.must(["hosts", "--identity", bed.path("bob")]);
    const again = await join("bob2");
    assert.equal(again.status, 1);
    assert.match(again.stderr, /This join token was used already; make a new one/);
    assert.equal((await hosts.run(["hosts", "--identity", bed.path("bob2")])).status, 1);
  });
});

bed.test("bad input over several hosts: a clear message, and nothing is left", 420, async () => {
  await withClusterHosts(bed, { count: 2 }, async (hosts) => {
    const refuse = async (args: readonly string[], status: number, message: RegExp) => {
      const outcome = await hosts.run(args);
      const said = `${args.join(" ")}: ${outcome.stderr}`;
      assert.deepEqual([outcome.status, outcome.stdout], [status, ""], said);
      assert.match(outcome.stderr, message);
      assert.doesNotMatch(outcome.stderr, /internal error|This is a bug|^\s+at /m);
    };
    const there = ["--coordinator", hosts.address];
    const elsewhere = CHATTER.map((vm) => ({ ...vm, more: { host: "gama" } }));
    const unknown = await bed.cluster("unknown", elsewhere, NO_UPLINK);
    await refuse(["record", unknown, ...there], 1, /VM left: .*gama/);
    const profile = { qemu: "/nowhere/qemu-system-x86_64" };
    const without = await bed.cluster("without", CHATTER, { ...NO_UPLINK, profile });
    await refuse(["record", without, ...there], 1, /nowhere\/qemu-system-x86_64/);
    await hosts.untilIdle();
    assert.deepEqual(await hosts.there(["ls"]), []);

    await refuse(["hosts", "--coordinator", "192.0.2.1:9"], 1, /192\.0\.2\.1:9/);
    await refuse(["hosts", "--coordinator", "192.0.2.1"], 1, /192\.0\.2\.1/);
    await refuse(["hosts", "--identity", bed.path("nobody")], 1, /nobody/);
    const other = bed.path("other-operator");
    await hosts.must(["ca", "init", "--state", bed.path("other-ca"), "--identity", other]);
    await refuse(["hosts", "--identity", other], 1, /certificate of another authority/);
    await refuse(["verify", "nothing", ...there], 1, /knows no recording "nothing"/);
    await refuse(
      ["collect", "nothing", "--out", bed.path("nothing")],
      1,
      /knows no recording "nothing"/,
    );
  });
});

/** How many frames of other VMs the VM of a recording has got that has got the fewest. */
function heard({ runs }: Json): number {
  const vms = (runs[0]?.hosts ?? []).flatMap(({ record }: Json) => record?.vms ?? []);
  return vms.length === 0 ? 0 : Math.min(...vms.map((vm: Json) => vm.framesInternal));
}
