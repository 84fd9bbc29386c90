/**
 * Checks `window.pml` exhaustively with Spin: over every recording that a small cluster can make, the
 * replay under a window ends, its queue is bounded, and no frame is handed over before it was sent.
 * Variants of the model that leave a rule out have to fail.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

const MODEL = fileURLToPath(new URL("./window.pml", import.meta.url));
/** For each command; the longest takes about 10 s on a quiet machine. */
const TIMEOUT_MS = 300_000;

async function run(command: string, args: string[], cwd: string): Promise<string> {
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  try {
    const { code, stdout, stderr } = await new Deno.Command(command, { args, cwd, signal })
      .output();
    const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assert(!signal.aborted, `${command} took longer than ${TIMEOUT_MS / 1000} s`);
    assert.equal(code, 0, `${command} ${args.join(" ")}: exit code ${code}\n${text}`);
    return text;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Error(`${command} is missing: apt install spin gcc libc6-dev`, { cause: error });
  }
}

/**
 * Spin's report on the model with `defines`.
 * @param search `safety`: assertions and deadlocks; `progress`: the formula `finishes`
 */
async function check(defines: string[], search: "safety" | "progress"): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-spin-" });
  try {
    const flags = defines.map((define) => `-D${define}`);
    await run("spin", [...flags, "-a", MODEL], directory);
    const kind = search === "safety" ? ["-DSAFETY", "-DNOCLAIM"] : [];
    // COLLAPSE compresses states without loss.
    const compile = ["-w", "-O1", "-DCOLLAPSE", "-DMEMLIM=1500", ...kind, "-o", "pan", "pan.c"];
    await run("gcc", compile, directory);
    const mode = search === "safety" ? [] : ["-a"];
    return await run(`${directory}/pan`, [...mode, "-m10000"], directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function assertHolds(report: string, search: "safety" | "progress"): void {
  assert.match(report, /Full statespace search/);
  assert.match(report, /errors: 0\n/, report);
  assert.doesNotMatch(report, /not completed|max search depth|memory bound|MEMLIM/, report);
  assert.match(report, search === "safety" ? /invalid end states\t\+/ : /acceptance\s+cycles\s+\+/);
  assert.match(report, /assertion violations\t\+/);
  const stored = Number(/(\d+) states, stored/.exec(report)?.[1]);
  assert(stored > 100_000, `only ${stored} states: does the model still record anything?`);
  assert.match(
    report,
    /unreached in proctype replay\n\t\(0 of /,
    "some of the replay never happens",
  );
}

const THREE_VMS = ["VMS=3", "SENDS=2", "RECEIVES=2", "DEEDS=4"];
const TWO_VMS = ["VMS=2", "SENDS=3", "RECEIVES=3", "DEEDS=7"];

Deno.test("model: no deadlock, bounded queue, no frame before its send", async (t) => {
  for (const defines of [THREE_VMS, TWO_VMS, [...TWO_VMS, "JUMP"]]) {
    await t.step(defines.join(" "), async () => {
      assertHolds(await check(defines, "safety"), "safety");
    });
  }
});

Deno.test("model: every replay ends", async () => {
  assertHolds(await check(THREE_VMS, "progress"), "progress");
});

const DEADLOCK = /invalid end state/;
const BROKEN: [string[], RegExp][] = [
  [[...TWO_VMS, "WINDOW_ZERO"], DEADLOCK],
  [[...TWO_VMS, "NOT_FORCED"], DEADLOCK],
  [[...TWO_VMS, "EARLY_CUT"], DEADLOCK],
  [[...TWO_VMS, "JUMP", "HOLDS_BACK"], DEADLOCK],
  [[...TWO_VMS, "NO_WINDOW"], /assertion violated \(fresh/],
];

Deno.test("model: a rule left out is noticed", async (t) => {
  for (const [defines, expected] of BROKEN) {
    await t.step(defines.join(" "), async () => {
      const report = await check(defines, "safety");
      assert.match(report, /errors: 1\n/, report);
      assert.match(report, expected);
    });
  }
  await t.step("also by the formula", async () => {
    const report = await check([...TWO_VMS, "NOT_FORCED"], "progress");
    assert.match(report, /acceptance cycle/, report);
  });
});
