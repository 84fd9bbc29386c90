/** The policy of real processes; what others use is simulated, for whoever runs the tests is not alone. */
import assert from "node:assert/strict";
import { sleep } from "../lib/sleep.ts";
import { until } from "../lib/until_fixture.ts";
import { busyMs, CpuSharing, type CpuUse, foreignShare } from "./cpu_sharing.ts";
import { setSchedulingPolicy } from "./libc.ts";
import { statFields } from "./process_stat.ts";

const use = (atMs: number, all: number, ours: [number, number][] = []): CpuUse => ({
  atMs,
  all,
  ours: new Map(ours),
});

Deno.test("CPU sharing: what others used is all but ours, those that have just been started included", () => {
  const before = use(1000, 5000, [[1, 100], [2, 700]]);
  assert.equal(foreignShare(before, use(1500, 5600, [[1, 200], [2, 900]]), 2), 0.3);
  assert.equal(foreignShare(before, use(1500, 5600, [[1, 200], [2, 900], [3, 300]]), 2), 0);
  assert.equal(foreignShare(before, use(1500, 5600, [[1, 500], [2, 1000]]), 2), 0, "not below");
});

Deno.test("CPU sharing: busy time is user, nice and system", () => {
  assert.equal(busyMs("cpu  100 20 3 4000 50 6 7 8 9 10\ncpu0 1 2 3 4\n"), 1230);
  assert.ok(busyMs(Deno.readTextFileSync("/proc/stat")) > 0);
});

/** Field 41 of /proc/PID/stat, proc(5). */
const policyOf = (pid: number) => Number(statFields(pid)[38]);

const IN_TIME_MS = 5_000;
const SCHED_OTHER = 0;
const SCHED_BATCH = 3;

async function withSleeper(work: (pid: number) => void | Promise<void>): Promise<void> {
  const sleeper = new Deno.Command("sleep", { args: ["60"], stdin: "null" }).spawn();
  try {
    await work(sleeper.pid);
  } finally {
    sleeper.kill("SIGKILL");
    await sleeper.status;
  }
}

Deno.test("CPU sharing: the policy of a process, while there is one", async () => {
  let gone = 0;
  await withSleeper((pid) => {
    gone = pid;
    assert.ok(setSchedulingPolicy(pid, "batch"));
    assert.equal(policyOf(pid), SCHED_BATCH);
    assert.ok(setSchedulingPolicy(pid, "other"));
    assert.equal(policyOf(pid), SCHED_OTHER);
  });
  assert.equal(setSchedulingPolicy(gone, "batch"), false);
});

Deno.test("CPU sharing: batch while alone, not while others are busy, and left alone afterwards", async () => {
  let atMs = 0;
  let all = 0;
  let othersShare = 0;
  const sharing = new CpuSharing((pids) => {
    atMs += 500;
    all += 500 * navigator.hardwareConcurrency * othersShare;
    assert.ok(pids.includes(Deno.pid));
    return use(atMs, all, []);
  }, 5);
  await withSleeper(async (pid) => {
    const leave = sharing.join(pid);
    await until(() => policyOf(pid) === SCHED_BATCH, IN_TIME_MS);
    othersShare = 0.2; // neither quiet nor busy: as it was
    await sleep(50);
    assert.equal(policyOf(pid), SCHED_BATCH);
    othersShare = 0.5;
    await until(() => policyOf(pid) === SCHED_OTHER, IN_TIME_MS);
    othersShare = 0;
    await until(() => policyOf(pid) === SCHED_BATCH, IN_TIME_MS);
    leave();
    othersShare = 0.5;
    await sleep(50);
    assert.equal(policyOf(pid), SCHED_BATCH);
  });
});
