/**
 * Ctrl-C and SIGTERM at every stage, and a terminal that is closed: the work ends soon and says so, nothing stays on the host, and a
 * recording is kept exactly if its VMs have run.
 */
import assert from "node:assert/strict";
import { until } from "../lib/until_fixture.ts";
import {
  once,
  type Outcome,
  sleep,
  testBed,
  type TestVm,
  type Tool,
} from "./end_to_end_fixture.ts";

const bed = testBed();

const SIGNALS = ["SIGINT", "SIGTERM"] as const;
const CHATTER: readonly TestVm[] = [
  { name: "left", role: "chatter", host: 1, peers: [2] },
  { name: "right", role: "chatter", host: 2, peers: [1] },
];
/** From the signal to the end of the process, on a busy host. */
const END_MS_MAX = 10_000;

/** Sends `signal` and waits for the end, which has to come soon. */
async function interrupt(tool: Tool, signal: Deno.Signal): Promise<Outcome> {
  const from = performance.now();
  tool.signal(signal);
  const outcome = await tool.ended;
  const ms = performance.now() - from;
  assert.ok(ms < END_MS_MAX, `it took ${ms.toFixed(0)} ms to end: ${outcome.stderr}`);
  assert.doesNotMatch(outcome.stderr, /internal error|This is a bug|^\s+at /m);
  return outcome;
}

function startRecording(spec: string, directory: string): Tool {
  return bed.start(["record", spec, "--out", directory, "--digest-every", "0"]);
}

async function entriesOf(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
}

/** A QEMU that tells its version and else never comes up: the start takes as long as one likes. */
const silentQemu = once(async () => {
  const path = bed.path("silent-qemu");
  const script = '#!/bin/sh\n[ "$1" = --version ] && exec qemu-system-x86_64 "$1"\nexec sleep 60\n';
  await Deno.writeTextFile(path, script);
  await Deno.chmod(path, 0o755);
  return path;
});

for (const signal of SIGNALS) {
  for (const phase of ["preparing", "building the network", "starting the VMs"]) {
    bed.test(`record: ${signal} while ${phase}: no recording is left`, 60, async () => {
      const profile = { qemu: await silentQemu() };
      const spec = await bed.cluster("early", CHATTER, { profile });
      const folder = bed.path(`${signal} ${phase}`);
      await Deno.mkdir(folder);
      const recording = startRecording(spec, `${folder}/recording`);
      await recording.said(phase);
      const { status, stdout, stderr } = await interrupt(recording, signal);
      assert.equal(status, 1, stderr);
      assert.equal(stdout, "");
      assert.match(stderr, /^clusterrr: Interrupted before the recording began\.$/m);
      assert.deepEqual(await entriesOf(folder), []);
    });
  }

  bed.test(`record: ${signal} while booting: a short recording that replays`, 90, async () => {
    const directory = bed.path(`booting-${signal}`);
    const recording = startRecording(await bed.cluster("booting", CHATTER), directory);
    await recording.said("booting");
    await sleep(300);
    const { status, stderr } = await interrupt(recording, signal);
    assert.equal(status, 0, stderr);
    const shown = await bed.json(["show", directory]);
    assert.deepEqual([shown.endedBy, shown.complete], ["interrupt", true]);
    const frames = shown.vms.map((vm: { frames: { sent: number } }) => vm.frames.sent);
    assert.deepEqual(frames, [0, 0]);
    const replayed = await bed.json(["replay", directory]);
    assert.equal(replayed.ok, true);
  });
}

bed.test("record: Ctrl-C at a terminal ends the VMs in order, not each by itself", 90, async () => {
  const directory = bed.path("terminal");
  const spec = await bed.cluster("terminal", CHATTER);
  const recording = bed.start(["record", spec, "--out", directory], { group: true });
  await recording.said("recording");
  await sleep(2000);
  recording.signalGroup("SIGINT");
  const { status, stderr } = await recording.ended;
  assert.equal(status, 0, stderr);
  const shown = await bed.json(["show", directory]);
  assert.deepEqual([shown.endedBy, shown.complete], ["interrupt", true]);
  for (const { name } of CHATTER) {
    const { stdout } = await bed.run(["dump", directory, "--vm", name]);
    assert.match(stdout, /SHUTDOWN_HOST_QMP_QUIT/, `${name} ended by itself`);
  }
  assert.equal((await bed.json(["replay", directory])).ok, true);
});

bed.test("record: a terminal that is closed ends the recording in order", 90, async () => {
  const directory = bed.path("hung-up");
  const spec = await bed.cluster("hung-up", CHATTER);
  const terminal = bed.start(["record", spec, "--out", directory, "--for", "30s"], {
    prefix: ["sh", "-c", 'exec script -qec "exec $*" /dev/null', "sh"],
  });
  await bed.consolesShow(terminal, directory, CHATTER.map(({ name }) => name), "bytes from");
  terminal.signal("SIGKILL");
  await until(async () => {
    const { stdout } = await bed.run(["show", directory, "--json"]);
    return stdout !== "" && JSON.parse(stdout).endedBy === "interrupt";
  });
  assert.equal((await bed.json(["replay", directory])).ok, true);
});

bed.test("what was started to outlive its terminal does", 60, async () => {
  const spec = await bed.cluster("nohup", CHATTER, { profile: { qemu: await silentQemu() } });
  const prefix = ["sh", "-c", `trap "" HUP; exec "$0" "$@"`];
  const recording = bed.start(["record", spec, "--out", bed.path("nohup")], { prefix });
  await recording.said("starting the VMs");
  recording.signal("SIGHUP");
  await sleep(500);
  assert.equal(recording.hasRun, true, recording.stderr);
  await interrupt(recording, "SIGINT");
});

/** A recording that takes a while to replay. */
const recorded = once(async () => {
  const directory = bed.path("recorded");
  const spec = await bed.cluster("recorded", CHATTER);
  await bed.json(["record", spec, "--out", directory, "--for", "5s", "--digest-every", "0"]);
  return directory;
});

for (const signal of SIGNALS) {
  for (const phase of ["reading the recording", "starting the VMs", "replaying"]) {
    bed.test(`replay: ${signal} while ${phase}: status 1`, 60, async () => {
      const replay = bed.start(["replay", await recorded()]);
      await replay.said(phase);
      const { status, stdout, stderr } = await interrupt(replay, signal);
      assert.equal(status, 1, stderr);
      assert.equal(stdout, "", "no verdict on half a replay");
      assert.match(stderr, /^clusterrr: .*interrupted/im);
    });
  }

  bed.test(`verify: ${signal} in the second run: status 1 and no verdict`, 90, async () => {
    const verify = bed.start(["verify", await recorded(), "--runs", "3"]);
    await verify.said("run 1 of 3: identical");
    await sleep(500);
    const { status, stdout, stderr } = await interrupt(verify, signal);
    assert.equal(status, 1, stderr);
    assert.equal(stdout, "");
    assert.match(stderr, /^clusterrr: .*interrupted/im);
  });
}

bed.test(
  "verify --parallel: interrupted while it indexes and between parts; then it passes",
  180,
  async () => {
    const directory = bed.path("in-parts");
    const recording = startRecording(await bed.cluster("in-parts", CHATTER), directory);
    // A boot has few checkpoints: parts begin where the guests talk.
    await bed.consolesShow(recording, directory, CHATTER.map(({ name }) => name), "bytes from", 40);
    assert.equal((await interrupt(recording, "SIGINT")).status, 0, recording.stderr);
    const verdictless = async (tool: Tool, signal: Deno.Signal) => {
      const { status, stdout, stderr } = await interrupt(tool, signal);
      assert.deepEqual([status, stdout], [1, ""], stderr);
      assert.match(stderr, /^clusterrr: .*interrupted/im);
      const left = await entriesOf(`${directory}/index`).catch(() => []);
      assert.deepEqual(left.filter((name) => name.startsWith("partial-")), []);
    };
    const indexing = bed.start(["index", directory, "--every", "2"]);
    await indexing.said("indexing");
    await verdictless(indexing, "SIGINT");
    await bed.json(["index", directory, "--every", "2"]);
    for (const [signal, phase] of [["SIGTERM", "part 1 of"], ["SIGINT", "part 2 of"]] as const) {
      const verify = bed.start(["verify", directory, "--parallel"]);
      await verify.said(phase);
      await verdictless(verify, signal);
    }
    const verified = await bed.json(["verify", directory, "--parallel"]);
    assert.ok(verified.ok && verified.perRun[0].parts > 1, JSON.stringify(verified.perRun));
  },
);

bed.test("the recording is what it was after all these", 60, async () => {
  const replayed = await bed.json(["replay", await recorded()]);
  assert.equal(replayed.ok, true);
});
