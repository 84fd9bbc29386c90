/**
 * Random schedules: hosts are lost and come back, agents and coordinators are killed, steps fail. Whatever happens, every run
 * ends, no host keeps anything running, and what was recorded is known.
 *
 * `CLUSTERRR_SCHEDULES` is how many; `CLUSTERRR_SEED` runs one alone.
 */
import assert from "node:assert/strict";
import { runSchedule, type Tally } from "./schedule_fixture.ts";

const SCHEDULES = Number(Deno.env.get("CLUSTERRR_SCHEDULES") ?? 40);
const SEED = Deno.env.get("CLUSTERRR_SEED");

/** What so many schedules come to: simulations in which nothing happens test nothing. */
const EXPECTED = [
  ...["record duration", "record failure", "record interrupt", "record poweroff"],
  ...["replay ended", "replay diverged"],
  ...["break", "hang", "isolate", "kill", "restart", "stop", "a step fails"],
];

/** Runs schedules until one does not hold. */
async function firstProblem(
  count: number,
  tally: Tally,
  options: { forgetsRuns?: boolean } = {},
): Promise<string | undefined> {
  const first = SEED === undefined ? 1 : Number(SEED);
  for (let seed = first; seed < first + (SEED === undefined ? count : 1); seed++) {
    const problems = await runSchedule(seed, tally, options)
      .catch((error) => [error instanceof Error ? error.stack ?? error.message : String(error)]);
    if (problems.length > 0) return `seed ${seed}:\n${problems.join("\n")}`;
  }
  return undefined;
}

Deno.test(`${SCHEDULES} schedules of a coordinator and its hosts`, async () => {
  const tally: Tally = new Map();
  const startedAt = performance.now();
  const problem = await firstProblem(SCHEDULES, tally);
  const counted = [...tally].sort().map(([what, count]) => `${what} ${count}`).join(", ");
  console.log(`${((performance.now() - startedAt) / 1000).toFixed(1)} s: ${counted}`);
  assert.equal(problem, undefined);
  if (SEED !== undefined || SCHEDULES < 40) return;
  for (const what of EXPECTED) assert.ok(tally.has(what), `${what}: never; ${counted}`);
});

Deno.test("agents that do not say what they have are found out", async () => {
  const problem = await firstProblem(40, new Map(), { forgetsRuns: true });
  assert.match(problem ?? "none", /still replays|in phase|has not ended|lacks/);
});
