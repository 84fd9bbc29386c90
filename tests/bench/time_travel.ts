/**
 * What going back in time costs: checkpoints while recording, seeking with and without snapshots,
 * verification in parts, starting a recording from a saved cluster. The cluster is three guests of the
 * tests that ping each other in a ring and never end by themselves: a replay of it is not bound by CPU all
 * the time, as the trio's is.
 */
import { fileURLToPath } from "node:url";
import { buildImage } from "../../examples/images/build.ts";
import type { IndexReport, RecordReport, VerifyReport } from "../../lib/cli/ports.ts";
import { formatBytes } from "../../lib/cli/quantities.ts";
import { HybridLogReader } from "../../lib/recording/hybrid_log_reader.ts";
import { HybridLogWriter } from "../../lib/recording/hybrid_log_writer.ts";
import { readManifest, vmDirectory } from "../../lib/recording/manifest.ts";
import { lastEpoch } from "../../lib/roles/cluster_cut.ts";
import { vmState } from "../../operations/checkpoint_index.ts";
import { ReplaySession } from "../../operations/replay_session.ts";
import type { Commands } from "./commands.ts";
import type { Row } from "./report.ts";
import { median } from "./statistics.ts";

/** How much is measured. */
export interface TimeTravelPlan {
  /** Length of the recording, in s. */
  readonly seconds: number;
  /** Random checkpoints that are sought. */
  readonly seeks: number;
}

const GUESTS = fileURLToPath(new URL("../guests", import.meta.url));
const QUIET = { show() {}, note() {}, clear() {} };

type Say = (line: string) => void;

/** Measures `plan` with files below `scratch`. */
export async function measureTimeTravel(
  plan: TimeTravelPlan,
  commands: Commands,
  scratch: string,
  say: Say,
  signal: AbortSignal,
): Promise<Row[]> {
  const spec = await writeRing(scratch);
  const directory = `${scratch}/ring`;
  say(`time travel: a recording of ${plan.seconds} s`);
  const { report: recorded } = await commands.command<RecordReport>([
    ...["record", spec, "--out", directory, "--for", `${plan.seconds}s`, "--digest-every", "0"],
  ]);
  const rows = [checkpointRow(directory, recorded, scratch)];

  say("  replay, index, seeks");
  const replay = await commands.replay(directory);
  const random = await seekAll(directory, plan.seeks, signal); // without snapshots, going forward
  const { report: indexed } = await commands.command<IndexReport>(["index", directory]);
  rows.push(row(
    `index: ${indexed.checkpoints.length} snapshots, ${formatBytes(indexed.bytes)}`,
    indexed.indexS,
    replay.report.replayS,
  ));
  const seeks = await seekLastTenth(directory, signal);
  rows.push(row("seek to the last tenth / replay", median(seeks), replay.report.replayS, 0.25));
  const again = await seekAll(directory, plan.seeks, signal, random);
  rows.push({
    ...row("", 0, 1),
    name: "random checkpoints as from the start",
    ours: `${again.equal} of ${plan.seeks}`,
    other: "",
    ratio: "",
    target: "all",
    verdict: again.equal === plan.seeks ? "PASS" : "FAIL",
  });

  say("  verification, serial and in parts");
  rows.push(
    await verifyRow("verify / --parallel, 3 VMs that fill both cores", directory, commands),
  );
  const solo = `${scratch}/solo`;
  const soloSpec = await writeSolo(scratch);
  await commands.command([
    ...["record", soloSpec, "--out", solo, "--for", `${plan.seconds}s`, "--digest-every", "0"],
  ]);
  await commands.command(["index", solo]);
  rows.push(
    await verifyRow("verify / --parallel, a VM that leaves a core idle", solo, commands, -1.6),
  );

  say("  record --from");
  await commands.command(["boot", spec, "--save", "bench-ring", "--until", "PING", "--force"]);
  const starts: number[] = [];
  for (let i = 0; i < 3; i++) {
    const out = `${scratch}/from-${i}`;
    const timed = await commands.command<RecordReport>([
      ...["record", "--from", "bench-ring", "--out", out, "--for", "1s", "--digest-every", "0"],
    ]);
    starts.push(timed.wholeS - timed.report.recordS);
  }
  await commands.command(["snapshots", "rm", "bench-ring"]);
  rows.push({
    ...row("", 0, 1),
    name: "record --from: until it records, and to seal it",
    ours: `${median(starts).toFixed(2)} s`,
    other: "",
    ratio: "",
    target: "≤ 3 s",
    verdict: median(starts) <= 3 ? "PASS" : "FAIL",
  });
  return rows;
}

/** Verifies a recording in one go and in two parts at a time. */
async function verifyRow(
  name: string,
  directory: string,
  commands: Commands,
  limit?: number,
): Promise<Row> {
  const jobs = ["--parallel", "--jobs", "2"];
  const serial = await commands.command<VerifyReport>(["verify", directory]);
  const parallel = await commands.command<VerifyReport>(["verify", directory, ...jobs]);
  const [one, other] = [serial, parallel].map(({ report }) => report.perRun[0]!.replayS);
  return row(name, one!, other!, limit);
}

/** A ratio of two times; a negative limit is one from below. */
function row(name: string, ours: number, other: number, limit?: number): Row {
  const ratio = ours / other;
  const good = limit === undefined ? undefined : limit < 0 ? ratio >= -limit : ratio <= limit;
  return {
    name,
    ours: `${ours.toFixed(2)} s`,
    other: `${other.toFixed(2)} s`,
    ratio: ratio.toFixed(2),
    rounds: "",
    target: limit === undefined ? "" : limit < 0 ? `≥ ${-limit}` : `≤ ${limit}`,
    verdict: good === undefined ? "" : good ? "PASS" : "FAIL",
  };
}

async function writeRing(scratch: string): Promise<string> {
  return await writeSpec(
    scratch,
    "ring",
    ["left", "mid", "right"].map((name, i) => ({
      name,
      args: `role=chatter ip=10.77.9.${i + 1}/24 peers=10.77.9.${(i + 1) % 3 + 1}`,
    })),
  );
}

/** One VM that counts, and rests now and then. */
async function writeSolo(scratch: string): Promise<string> {
  return await writeSpec(scratch, "solo", [{ name: "solo", args: "role=count" }]);
}

async function writeSpec(scratch: string, name: string, vms: readonly object[]): Promise<string> {
  const image = await Deno.realPath(await buildImage(GUESTS));
  const defaults = { memory: "128M", kernel: `${image}/vmlinux`, initrd: `${image}/initrd` };
  const path = `${scratch}/${name}.yaml`;
  await Deno.writeTextFile(path, JSON.stringify({ name, defaults, vms })); // JSON is YAML
  return path;
}

/** What the cuts take on disk: each log written again, with them and without. */
function checkpointRow(directory: string, { recordS }: RecordReport, scratch: string): Row {
  const { vms } = readManifest(directory);
  let epochs = 0;
  let extraBytes = 0;
  let extraMs = 0;
  for (const { name, number, qemu } of vms) {
    const write = (withEpochs: boolean) => {
      const target = `${scratch}/again-${name}-${withEpochs}`;
      const log = new HybridLogWriter(target, { vm: number, rrLogVersion: qemu.rrLogVersion });
      const reader = HybridLogReader.open(vmDirectory(directory, name), { vm: number });
      const startedAt = performance.now();
      while (
        reader.nextBlock({
          events: (bytes) => log.events(bytes, 0, bytes.length, 0),
          reference: (...args) => log.reference(...args),
          frame: (...args) => log.frame(...args),
          send: (_number, ...args) => log.send(...args),
          check: (check) => log.check(check),
          epoch: (epoch) => {
            if (withEpochs) log.epoch(epoch);
          },
          end: () => {},
        })
      ) log.flush();
      reader.close();
      const ms = performance.now() - startedAt;
      const totals = log.close(true);
      Deno.removeSync(target, { recursive: true });
      return { ms, totals };
    };
    write(true); // the first one warms up
    const without = write(false);
    const with_ = write(true);
    epochs += with_.totals.epochs;
    extraBytes += with_.totals.storedBytes - without.totals.storedBytes;
    extraMs += with_.ms - without.ms;
  }
  const bytes = extraBytes / epochs;
  const share = Math.max(0, extraMs) / 1000 / recordS;
  return {
    name: `checkpoints: bytes a VM and epoch (${epochs}); share of recording time`,
    ours: `${bytes.toFixed(1)} B`,
    other: "",
    ratio: `${(100 * share).toFixed(2)} %`,
    rounds: "",
    target: "≤ 100 B, ≤ 1 %",
    verdict: bytes <= 100 && share <= 0.01 ? "PASS" : "FAIL",
  };
}

/** Times of seeks into the last tenth, each from a checkpoint in the first half. */
async function seekLastTenth(directory: string, signal: AbortSignal): Promise<number[]> {
  const session = await ReplaySession.open({ directory }, QUIET, signal);
  const times: number[] = [];
  try {
    const last = lastEpoch(session.recording.censuses);
    for (const share of [0.92, 0.95, 0.98]) {
      await session.bringTo({ kind: "checkpoint", epoch: Math.floor(0.4 * last) });
      const startedAt = performance.now();
      await session.bringTo({ kind: "checkpoint", epoch: Math.floor(share * last) });
      times.push((performance.now() - startedAt) / 1000);
    }
  } finally {
    await session.close();
  }
  return times;
}

interface Sought {
  readonly states: ReadonlyMap<number, string>;
  readonly equal: number;
}

/**
 * Goes to random checkpoints and takes the cluster's state at each.
 * @param before states to compare with, which are then sought in an order of their own
 */
async function seekAll(
  directory: string,
  count: number,
  signal: AbortSignal,
  before?: Sought,
): Promise<Sought> {
  const session = await ReplaySession.open({ directory }, QUIET, signal);
  try {
    const last = lastEpoch(session.recording.censuses);
    const drawn = new Set<number>();
    while (drawn.size < count) drawn.add(1 + Math.floor(Math.random() * last));
    const epochs = before === undefined
      ? [...drawn].sort((a, b) => a - b)
      : [...before.states.keys()].sort(() => Math.random() - 0.5);
    const states = new Map<number, string>();
    let equal = 0;
    for (const epoch of epochs) {
      await session.bringTo({ kind: "checkpoint", epoch });
      const all = [];
      for (const { vm } of session.world.vms) all.push(vmState(await vm.state()));
      const { inFlight } = await session.state();
      const state = JSON.stringify({ all, inFlight });
      states.set(epoch, state);
      if (before?.states.get(epoch) === state) equal++;
    }
    return { states, equal };
  } finally {
    await session.close();
  }
}
