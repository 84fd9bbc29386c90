/** Scripts of the host: run in the example's folder, and ended with all that they started. */
import assert from "node:assert/strict";
import { sleep } from "../../lib/sleep.ts";
import { findExamples } from "./examples.ts";
import { withHostScript } from "./host_script.ts";
import { parseOptions } from "./options.ts";

async function withScript(script: string, work: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync({ prefix: "clusterrr-test-" });
  try {
    Deno.writeTextFileSync(`${folder}/host.sh`, script);
    await withHostScript(
      { folder, hostScript: `${folder}/host.sh` },
      `${folder}/log`,
      () => work(folder),
    );
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

async function textOf(path: string): Promise<string> {
  for (let i = 0; i < 1000; i++) {
    const text = await Deno.readTextFile(path).catch(() => "");
    if (text.endsWith("\n")) return text.trim();
    await sleep(10);
  }
  throw new Error(`nothing in ${path}`);
}

function runs(pid: string): boolean {
  try {
    return !/\) Z /.test(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

Deno.test("a script runs beside the work and ends with its children, even with deaf ones", async () => {
  let child = "";
  await withScript(
    `sh -c 'trap "" TERM; while :; do sleep 1; done' & echo $! >child; pwd; wait`,
    async (folder) => {
      child = await textOf(`${folder}/child`);
      assert.equal(await textOf(`${folder}/log`), folder);
      assert.equal(runs(child), true);
    },
  );
  assert.equal(runs(child), false);
});

Deno.test("a script that has ended already, and work that fails, are no problem", async () => {
  await assert.rejects(
    withScript("exit 3", async () => {
      await sleep(50);
      throw new Error("the work");
    }),
    /the work/,
  );
});

Deno.test("examples are the folders with a cluster file; lab.json and host.sh are found", () => {
  const root = Deno.makeTempDirSync({ prefix: "clusterrr-test-" });
  try {
    for (const name of ["b", "a", "none"]) Deno.mkdirSync(`${root}/${name}`);
    for (const name of ["b", "a"]) Deno.writeTextFileSync(`${root}/${name}/cluster.yaml`, "");
    Deno.writeTextFileSync(`${root}/a/lab.json`, '{"mayFail": true}');
    Deno.writeTextFileSync(`${root}/b/host.sh`, "");
    const [a, b] = findExamples([], root);
    assert.deepEqual([a!.name, a!.mayFail, a!.hostScript], ["a", true, undefined]);
    assert.deepEqual([b!.name, b!.mayFail, b!.hostScript], ["b", false, `${root}/b/host.sh`]);
    assert.throws(() => findExamples(["none"], root), /No example none. There are: a, b\./);
    Deno.writeTextFileSync(`${root}/a/lab.json`, '{"mayfail": true}');
    assert.throws(() => findExamples(["a"], root), /lab\.json.*mayfail/s);
  } finally {
    Deno.removeSync(root, { recursive: true });
  }
});

Deno.test("options: the short form is short, wrong ones are named", () => {
  const parse = (...args: string[]) => parseOptions(args, { long: "/long", short: "/short" });
  const short = parse("--short");
  assert.deepEqual(
    [short.recordings, short.replays, short.stockRounds, short.loads, short.out],
    [1, 1, 0, ["idle"], "/short"],
  );
  assert.deepEqual(parse("trio", "--load", "full").loads, ["full"]);
  assert.equal(parse().out, "/long");
  assert.throws(() => parse("--load", "some"), /--load is idle, full/);
  assert.throws(() => parse("--recordings", "x"), /--recordings must be a whole number/);
  assert.throws(() => parse("--report", "x.json", "trio"), /--report runs nothing/);
});
