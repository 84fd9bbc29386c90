/** Runs that live and runs that are left over, told apart by the process that owns them. */
import assert from "node:assert/strict";
import { isAlive, listRuns, removeDeadRun, RunDirectory, startTicks } from "./run_directory.ts";

interface Owner {
  pid: number;
  startTicks: string;
  command: string;
  children: { pid: number; startTicks: string }[];
}

function readOwner(run: RunDirectory): Owner {
  return JSON.parse(Deno.readTextFileSync(run.file("owner.json")));
}

function changeOwner(run: RunDirectory, change: Partial<Owner>): void {
  Deno.writeTextFileSync(run.file("owner.json"), JSON.stringify({ ...readOwner(run), ...change }));
}

/** Gives `work` a run of this process and removes it whatever happens. */
async function withRun(work: (run: RunDirectory) => Promise<void> | void): Promise<void> {
  const run = RunDirectory.create("a test");
  try {
    await work(run);
  } finally {
    run.remove();
  }
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

const sleeper = () => new Deno.Command("sleep", { args: ["60"], stdin: "null" }).spawn();

/** A process that has ended and been reaped. */
async function deadProcess(): Promise<{ pid: number; startTicks: string }> {
  const child = sleeper();
  const ticks = startTicks(child.pid)!;
  child.kill("SIGKILL");
  await child.status;
  return { pid: child.pid, startTicks: ticks };
}

Deno.test("start times: of what runs, none of what does not", async () => {
  assert.match(startTicks(Deno.pid)!, /^\d+$/);
  assert.equal(startTicks(Deno.pid), startTicks(Deno.pid));
  assert.equal(startTicks((await deadProcess()).pid), undefined);
});

Deno.test("start times: the command's name may hold spaces and brackets", async () => {
  const directory = await Deno.makeTempDir({ prefix: "clrr-run-" });
  const path = `${directory}/a) R 1 (b`;
  await Deno.copyFile("/bin/sleep", path);
  const child = new Deno.Command(path, { args: ["60"] }).spawn();
  try {
    const now = BigInt(startTicks(Deno.pid)!);
    const ticks = BigInt(startTicks(child.pid)!);
    assert.ok(ticks >= now && ticks < now + 100n * 3600n * 24n, `${ticks}, ours ${now}`);
  } finally {
    child.kill("SIGKILL");
    await child.status;
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a zombie counts as gone", async () => {
  // The shell becomes `cat`, which waits for no child.
  const shell = new Deno.Command("sh", {
    args: ["-c", "sleep 0.05 & echo $!; exec cat"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = shell.stdout.getReader();
  const pid = Number(new TextDecoder().decode((await reader.read()).value));
  try {
    const deadline = performance.now() + 5_000;
    while (startTicks(pid) !== undefined) {
      assert.ok(performance.now() < deadline, "it still runs");
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    assert.match(Deno.readTextFileSync(`/proc/${pid}/stat`), /\) Z /);
  } finally {
    await shell.stdin.close();
    await reader.cancel();
    await shell.status;
  }
});

Deno.test("a new run is ours, only ours, and goes without a trace", async () => {
  let path = "";
  await withRun((run) => {
    ({ path } = run);
    assert.match(run.run, /^[a-z0-9]{6}$/);
    assert.equal(Deno.statSync(path).mode! & 0o777, 0o700);
    assert.deepEqual(readOwner(run), {
      pid: Deno.pid,
      startTicks: startTicks(Deno.pid),
      command: "a test",
      scratch: `/var/tmp/clusterrr-${run.run}`,
      children: [],
    });
    assert.equal(run.file("qmp"), `${path}/qmp`);
    assert.ok(
      run.file("a-vm-with-a-name-of-31-characters.capture").length < 108,
      "a socket's path",
    );
    assert.equal(isAlive(run.run), true);
    assert.deepEqual(listRuns().find((r) => r.run === run.run), { run: run.run, alive: true });
    assert.ok(!exists(run.file("owner.json.tmp")));
    Deno.writeTextFileSync(run.file("overlay"), "");
    run.remove();
    assert.ok(!exists(path));
  }); // removes it again: that is no error
});

Deno.test("scratch is on a disk, and goes with the run or, when it is dead, with its directory", async () => {
  const root = await Deno.makeTempDir({ prefix: "clrr-scratch-" });
  const before = Deno.env.get("CLUSTERRR_SCRATCH");
  Deno.env.set("CLUSTERRR_SCRATCH", root);
  try {
    const made = () => Array.from(Deno.readDirSync(root), ({ name }) => name);
    await withRun((run) => {
      assert.deepEqual(made(), []);
      Deno.writeTextFileSync(run.scratch("disk"), "x");
      assert.deepEqual(made(), [`clusterrr-${run.run}`]);
    });
    assert.deepEqual(made(), []);

    await withRun((run) => {
      Deno.writeTextFileSync(run.scratch("disk"), "x");
      Deno.removeSync(run.path, { recursive: true }); // as after a restart of the host
      assert.deepEqual(listRuns().find((each) => each.run === run.run), {
        run: run.run,
        alive: false,
      });
      assert.deepEqual(removeDeadRun(run.run), [`directory ${root}/clusterrr-${run.run}`]);
      assert.deepEqual(made(), []);
    });

    Deno.env.set("CLUSTERRR_SCRATCH", `${root}/none`);
    await withRun((run) => {
      assert.throws(() => run.scratch("disk"), /for what the VMs write.*\nCLUSTERRR_SCRATCH names/);
    });
  } finally {
    if (before === undefined) Deno.env.delete("CLUSTERRR_SCRATCH");
    else Deno.env.set("CLUSTERRR_SCRATCH", before);
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("a run is left over once its owner has gone", () =>
  withRun(async (run) => {
    changeOwner(run, await deadProcess());
    assert.equal(isAlive(run.run), false);
    assert.deepEqual(removeDeadRun(run.run), [`directory ${run.path}`]);
    assert.ok(!exists(run.path));
    assert.deepEqual(removeDeadRun(run.run), [], "nothing is left to do");
  }));

Deno.test("another process with the owner's number is not the owner", () =>
  withRun((run) => {
    changeOwner(run, { startTicks: `${Number(startTicks(Deno.pid)) - 1}` });
    assert.equal(isAlive(run.run), false);
  }));

Deno.test("the children of a dead run are ended, but no process that got a child's number", () =>
  withRun(async (run) => {
    const [child, stranger] = [sleeper(), sleeper()];
    try {
      run.ownChild(child.pid);
      run.ownChild((await deadProcess()).pid);
      const ticks = startTicks(child.pid)!;
      assert.deepEqual(readOwner(run).children, [{ pid: child.pid, startTicks: ticks }]);
      const children = [
        { pid: child.pid, startTicks: ticks },
        { pid: stranger.pid, startTicks: `${Number(startTicks(stranger.pid)) - 1}` },
        await deadProcess(),
      ];
      changeOwner(run, { ...await deadProcess(), children });
      assert.deepEqual(removeDeadRun(run.run), [
        `process ${child.pid}`,
        `directory ${run.path}`,
      ]);
      assert.equal((await child.status).signal, "SIGKILL");
      assert.notEqual(startTicks(stranger.pid), undefined);
    } finally {
      for (const process of [child, stranger]) {
        if (startTicks(process.pid) !== undefined) process.kill("SIGKILL");
        await process.status;
      }
    }
  }));

Deno.test("a run whose owner is not written yet is left alone, for a while", () =>
  withRun((run) => {
    Deno.removeSync(run.file("owner.json"));
    assert.equal(isAlive(run.run), true);
    const long = new Date(Date.now() - 60_000);
    Deno.utimeSync(run.path, long, long);
    assert.equal(isAlive(run.run), false);
  }));

Deno.test("an owner that cannot be read is none", () =>
  withRun((run) => {
    for (const text of ["", "{", '{"pid": "1"}', "[]"]) {
      Deno.writeTextFileSync(run.file("owner.json"), text);
      const long = new Date(Date.now() - 60_000);
      Deno.utimeSync(run.path, long, long);
      assert.equal(isAlive(run.run), false, text);
    }
  }));
