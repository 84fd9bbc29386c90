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
});

Deno.test("agents that do not say what they have are found out", async () => {
  assert.notEqual(await firstProblem(40, new Map(), { forgetsRuns: true }), undefined);
});
