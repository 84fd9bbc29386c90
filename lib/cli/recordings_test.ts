/** The commands that deal with recordings on disk, as a user sees them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { makeRecording } from "../catalog/recording_fixture.ts";
import {
  commandLine,
  MemoryTerminal,
  standInOperations,
  withDirectory,
} from "./command_fixture.ts";
import { unreached } from "./verification.ts";

Deno.test("show: for people, and for scripts", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const path = await makeRecording(join(dir, "r"));
    const { status, stdout, stderr } = await run(["show", path]);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.match(stdout, /^trio \(abcdef0123456789\)\n/);
    assert.match(stdout, /recorded {3}12\.4 s, until every VM powered off\n/);
    const table = stdout.slice(stdout.indexOf("\nVM ") + 1);
    assert.equal(
      table,
      "VM      INSTRUCTIONS   SENT  INTERNAL  EXTERNAL  STORED WHOLE  CHECKS  QEMU'S LOG  STORED\n" +
        "client     1,234,567  1,364     1,300        60            64       3     2.94 MB  200 kB\n" +
        "server     1,234,567  1,364     1,300        60            64       3     2.94 MB  200 kB\n" +
        "all        2,469,134  2,728     2,600       120           128       6     5.88 MB  400 kB\n",
    );
    await run(["tag", path, "--name", "mine", "--add", "t"]);
    const shown = JSON.parse((await run(["show", "mine", "--json"])).stdout);
    assert.deepEqual([shown.name, shown.tags, shown.directory], ["mine", ["t"], path]);
    assert.deepEqual(shown.vms[0], {
      name: "client",
      instructions: 1_234_567,
      bytes: { rrLog: 2_940_000, hybrid: 900_000, stored: 200_000 },
      frames: { internal: 1300, external: 60, stored: 64, sent: 1364 },
      checks: 3,
      qemu: "7.2.22",
      complete: true,
      endReason: "guest-shutdown",
    });
  });
});

Deno.test("show: a recording that was cut off", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const whole = await makeRecording(join(dir, "whole"));
    const manifest = JSON.parse(await Deno.readTextFile(join(whole, "manifest.json")));
    const vms = manifest.vms.map((vm: object, i: number) =>
      i === 0 ? { ...vm, totals: null, end: null, logClosed: false, logComplete: false } : vm
    );
    const path = await makeRecording(join(dir, "cut"), {
      state: "recording",
      endedBy: undefined,
      complete: false,
      vms,
    });
    const { stdout } = await run(["show", path]);
    assert.match(stdout, /cut off, or still being recorded/);
    assert.match(stdout, /^client +\? +\? /m);
    assert.match(stdout, /^all +\? /m);
    const shown = JSON.parse((await run(["show", path, "--json"])).stdout);
    assert.deepEqual(shown.vms[0].bytes, { rrLog: null, hybrid: null, stored: null });
    assert.deepEqual([shown.complete, shown.endedBy], [false, null]);
    await run(["add", path]);
    assert.match((await run(["ls"])).stdout, / cut off /);
  });
});

Deno.test("ls, add, tag: a table of what there is", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    assert.match((await run(["ls"])).stdout, /^No recordings yet.*clusterrr record/);
    const a = await makeRecording(join(dir, "a"), { id: "aaaaaaaa11", name: "first" });
    const b = await makeRecording(join(dir, "b"), {
      id: "bbbbbbbb22",
      name: "second",
      createdAt: "2026-02-01T00:00:00Z",
    });
    assert.equal((await run(["add", a])).stdout, `first (aaaaaaaa): ${a}\n`);
    await run(["add", b]);
    assert.equal(
      (await run(["tag", "bbbb", "--add", "ci", "--add", "x", "--remove", "x", "--name", "two"]))
        .stdout,
      "two (bbbbbbbb): tags ci, x\n",
    );
    assert.equal((await run(["tag", b, "--remove", "x"])).stdout, "two (bbbbbbbb): tags ci\n");
    assert.equal((await run(["tag", "aaaa"])).stdout, "first (aaaaaaaa): no tags\n");
    const lines = (await run(["ls"])).stdout.split("\n");
    assert.match(lines[0]!, /^ID +NAME +CREATED +VMS +SIZE +STATE +TAGS +DIRECTORY$/);
    assert.match(lines[1]!, /^bbbbbbbb {2}two +2026-0\d-\d\d \d\d:\d\d +2 +[\d.]+ kB {2}complete/);
    assert.ok(lines[1]!.endsWith(`  ci    ${b}`), lines[1]);
    assert.match(lines[2]!, /^aaaaaaaa {2}first /);
    assert.match(lines[3]!, /^2 recordings, [\d.]+ kB$/);
    assert.equal((await run(["ls", "--tag", "none"])).stdout, "No recordings with the tag none.\n");
    const json = JSON.parse((await run(["ls", "--tag", "ci", "--json"])).stdout);
    assert.deepEqual(json.map((e: { name: string }) => e.name), ["two"]);
    assert.deepEqual(Object.keys(json[0]).sort(), [
      ...["complete", "createdAt", "host", "id", "name", "path", "storedBytes", "tags", "vms"],
    ]);
  });
});

Deno.test("ls --rescan says what it found, forgot and could not read", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const a = await makeRecording(join(dir, "x/a"), { id: "aaaaaaaa11", name: "first" });
    await Deno.mkdir(join(dir, "x/broken"));
    await Deno.writeTextFile(join(dir, "x/broken/manifest.json"), "{}");
    const first = await run(["ls", "--rescan", join(dir, "x")]);
    assert.match(first.stderr, new RegExp(`^clusterrr: skipped ${join(dir, "x/broken")}: .+\n`));
    assert.ok(first.stderr.endsWith(`\nfound first: ${a}\n`), first.stderr);
    assert.match(first.stdout, /1 recording,/);
    await Deno.remove(a, { recursive: true });
    const gone = await run(["replay", "first"]);
    assert.equal(gone.status, 1);
    assert.match(gone.stderr, /directory of "first" is gone/);
    const second = await run(["ls", "--rescan", join(dir, "x"), "--json"]);
    assert.ok(second.stderr.includes(`forgot first: ${a} is gone\n`), second.stderr);
    assert.deepEqual(JSON.parse(second.stdout), []);
  });
});

Deno.test("rm asks, and deletes only after a yes", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const exists = (path: string) => Deno.stat(path).then(() => true, () => false);
    const path = await makeRecording(join(dir, "r"));
    const nobody = await run(["rm", path]);
    assert.deepEqual([nobody.status, await exists(path)], [2, true]);
    assert.match(nobody.stderr, /--yes/);

    for (const input of [["n"], [""], ["yesterday"], []]) {
      const no = Object.assign(new MemoryTerminal(), { interactive: true, input });
      assert.equal((await run(["rm", path], no)).status, 1);
      const question =
        `^Delete ${path} \\(trio, [\\d.]+ kB\\)\\? \\[y/N\\] Nothing was deleted\\.\n$`;
      assert.match(no.stderr, new RegExp(question));
      assert.ok(await exists(path));
    }

    const forgotten = await run(["rm", "trio", "--keep-files"]);
    assert.equal(forgotten.stdout, `Forgot trio; ${path} stays.\n`);
    assert.ok(await exists(path));
    assert.match((await run(["rm", "trio"])).stderr, /No recording "trio"/);

    const yes = Object.assign(new MemoryTerminal(), { interactive: true, input: ["Yes"] });
    assert.equal((await run(["rm", path], yes)).stdout, `Deleted ${path}.\n`);
    assert.ok(!(await exists(path)));
  });
});

Deno.test("rm of a copy leaves the other directory, its name and its tags", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const [kept, copy] = [await makeRecording(join(dir, "r")), await makeRecording(join(dir, "s"))];
    await run(["tag", kept, "--name", "mine", "--add", "t"]);
    const forgotten = await run(["rm", copy, "--keep-files"]);
    assert.equal(forgotten.status, 1);
    assert.match(forgotten.stderr, new RegExp(`knows mine as ${kept}`));
    assert.equal((await run(["rm", copy, "--yes"])).stdout, `Deleted ${copy}.\n`);
    const [entry, ...more] = JSON.parse((await run(["ls", "--json"])).stdout);
    assert.deepEqual([entry.path, entry.name, entry.tags, more], [kept, "mine", ["t"], []]);
    assert.ok((await Deno.stat(kept)).isDirectory);
    await assert.rejects(Deno.stat(copy), Deno.errors.NotFound);

    // One that has moved is no copy, and a damaged one is found by its entry.
    await Deno.rename(kept, copy);
    assert.equal((await run(["rm", copy, "--yes"])).stdout, `Deleted ${copy}.\n`);
    assert.deepEqual(JSON.parse((await run(["ls", "--json"])).stdout), []);
    await run(["add", await makeRecording(kept)]);
    await Deno.writeTextFile(join(kept, "manifest.json"), "{");
    assert.match((await run(["rm", kept, "--keep-files"])).stdout, /^Forgot trio; /);
  });
});

Deno.test("rm --yes deletes nothing but recordings", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    await Deno.mkdir(join(dir, "precious"));
    await Deno.writeTextFile(join(dir, "precious/manifest.json"), `{"name":"a web app"}`);
    for (const target of [join(dir, "precious"), dir, join(dir, "nothing")]) {
      assert.equal((await run(["rm", target, "--yes"])).status, 1, target);
    }
    assert.ok((await Deno.stat(join(dir, "precious/manifest.json"))).isFile);
  });
});

Deno.test("a name that is no recording, and a directory that is none", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const unknown = await run(["replay", "nix"]);
    assert.equal(unknown.status, 1);
    assert.match(unknown.stderr, /No recording "nix".*clusterrr ls/);
    assert.match((await run(["verify", dir])).stderr, /is a directory, but not a recording/);
    const a = await makeRecording(join(dir, "a"), { id: "aaaaaaaa11", name: "twin" });
    const b = await makeRecording(join(dir, "b"), { id: "aaaaaaaa22", name: "twin" });
    await run(["add", a]);
    await run(["add", b]);
    const twin = await run(["replay", "twin"]);
    assert.deepEqual([twin.status, twin.calls], [1, []]);
    assert.match(twin.stderr, /means 2 recordings[^]*aaaaaaaa11 {2}twin[^]*aaaaaaaa22 {2}twin/);
  });
});

Deno.test("record: puts it into the catalog, and says how it ended", async () => {
  await withDirectory(async (dir) => {
    const path = await makeRecording(join(dir, "r"));
    const done = await commandLine(dir)(["record", "c.yaml", "--out", path, "--tag", "ci"]);
    assert.equal(done.status, 0);
    assert.match(done.stdout, /^trio \(abcdef01\): recorded 12\.4 s, until every VM powered off\./);
    assert.ok(done.stdout.endsWith(`\nReplay it:  clusterrr replay ${path}\n`));
    const report = await standInOperations([]).record(
      { spec: "c.yaml", out: path, digestEveryMs: 0, epochMs: 250 },
      { show() {}, note() {}, clear() {} },
      new AbortController().signal,
    );

    const failing = commandLine(dir, {
      record: () =>
        Promise.resolve({
          ...report,
          endedBy: "failure",
          message: "VM client died",
          complete: false,
        }),
    });
    const failed = await failing(["record", "c.yaml", "--out", path, "--json"]);
    assert.equal(failed.status, 1);
    assert.equal(failed.stderr, "clusterrr: the recording failed: VM client died\n");
    assert.equal(JSON.parse(failed.stdout).endedBy, "failure");

    // The catalog cannot take it: the recording is still good.
    const lost = commandLine(dir, {
      record: () => Promise.resolve({ ...report, directory: join(dir, "elsewhere") }),
    });
    const uncatalogued = await lost(["record", "c.yaml", "--out", path]);
    assert.equal(uncatalogued.status, 0);
    assert.match(uncatalogued.stderr, /not in the catalog: .*\nLater: clusterrr add /);
  });
});

Deno.test("replay and verify: tables", async () => {
  await withDirectory(async (dir) => {
    const path = await makeRecording(join(dir, "r"));
    const run = commandLine(dir);
    assert.equal(
      (await run(["replay", path])).stdout,
      "Replayed in 5.0 s what took 12.4 s to record: identical to the recording.\n\n" +
        "VM      INSTRUCTIONS    FRAMES EQUAL  CONSOLE   TIME  ENDED BY\n" +
        "client     1,234,567  1,364 of 1,364  equal    5.0 s  end of log\n" +
        "Held for VMs that were behind: at most 4.10 kB.\n",
    );
    assert.equal(
      (await run(["verify", path])).stdout,
      "VM      FRAMES         MATCHED        CHECKS  CONSOLE  RECORDED  REPLAYED\n" +
        "client  equal   1,364 of 1,364  2 of 2 equal  equal      12.4 s     5.0 s\n\n" +
        "OK: 1 replay, all identical to the recording.\n",
    );
    const json = JSON.parse((await run(["verify", path, "--json"])).stdout);
    assert.deepEqual(Object.keys(json), ["ok", "runs", "vms", "perRun"]);
    assert.deepEqual(json.vms[0].frames, { recorded: 1364, matched: 1364 });
    assert.deepEqual(json.vms[0].checks[0], {
      at: 1_000_000,
      icount: true,
      registers: true,
      ram: true,
    });
  });
});

Deno.test("verify --parallel says into how many parts the recording was cut", async () => {
  await withDirectory(async (dir) => {
    const path = await makeRecording(join(dir, "r"));
    for (
      const [ok, parts, verdict] of [
        [true, 4, "OK: 1 replay in 4 parts, all identical to the recording."],
        [true, 1, "OK: 1 replay in 1 part, all identical to the recording."],
        [false, 4, "FAILED: 0 of 1 replay in 4 parts identical to the recording."],
      ] as const
    ) {
      const one = { ok, replayS: 1, recordS: 2, vms: [], parts };
      const run = commandLine(dir, {
        verify: () => Promise.resolve({ ok, runs: 1, vms: [], perRun: [one] }),
      });
      const { stdout } = await run(["verify", path, "--parallel"]);
      assert.equal(stdout.trimEnd().split("\n").at(-1), verdict);
    }
  });
});

Deno.test("verify names every check that failed", async () => {
  await withDirectory(async (dir) => {
    const path = await makeRecording(join(dir, "r"));
    const run = commandLine(dir, {
      verify: () => {
        const vm = {
          name: "client",
          frames: { recorded: 10, matched: 9 },
          checks: [
            { at: 1_000, icount: true, registers: true, ram: true },
            { at: 2_000, icount: true, registers: false, ram: false },
            unreached(3_000),
          ],
          console: false,
          replayS: 1,
          recordS: 2,
        };
        const bad = { ok: false, replayS: 1, recordS: 2, vms: [vm] };
        return Promise.resolve({ ok: false, runs: 2, vms: [vm], perRun: [bad, bad] });
      },
    });
    const { status, stdout } = await run(["verify", path, "--runs", "2"]);
    assert.equal(status, 1);
    assert.ok(
      stdout.endsWith(
        "client  DIFFERENT  9 of 10  1 of 3 equal  DIFFERENT     2.0 s     1.0 s\n\n" +
          "client at instruction 2,000: registers, RAM differ\n" +
          "client at instruction 3,000: not reached\n" +
          "FAILED: 0 of 2 replays identical to the recording.\n",
      ),
      stdout,
    );
  });
});

Deno.test("timeline: lines and frames, each with where to stop; a part of it", async () => {
  await withDirectory(async (dir) => {
    const path = await makeRecording(join(dir, "r"));
    const run = commandLine(dir);
    const [line, frame, outside] = [
      "   1.250  123456789@client    ready\n",
      "   2.500  -@client            ◀ server 7  ARP\n",
      "   3.000  9@server            ◀ outside  ARP\n",
    ];
    const parts: [string[], string][] = [
      [[], `${line}${frame}${outside}`],
      [["--grep", "server 7"], frame!],
      [["--from", "1251ms", "--to", "2500ms"], frame!],
      [["--grep", "nothing"], ""],
    ];
    for (const [options, expected] of parts) {
      const { status, stdout } = await run(["timeline", path, ...options]);
      assert.deepEqual([status, stdout], [0, expected], options.join(" "));
    }
    const json = (await run(["timeline", path, "--json", "--grep", "server 7"])).stdout;
    assert.deepEqual(JSON.parse(json), {
      kind: "frame",
      text: "ARP",
      from: "server",
      sendNumber: 7,
      vm: "client",
      seconds: 2.5,
      icount: null,
    });
    const aborted = await run(["timeline", path], new MemoryTerminal(), AbortSignal.abort());
    assert.deepEqual([aborted.status, aborted.stderr], [1, "clusterrr: interrupted\n"]);
  });
});

Deno.test("dump, clean, doctor, schema", async () => {
  await withDirectory(async (dir) => {
    const path = await makeRecording(join(dir, "r"));
    const run = commandLine(dir);
    assert.equal(
      (await run(["dump", path])).stdout,
      "client             7  INSTRUCTION       +7\nclient             7  CLOCK             host 5\n",
    );
    const lines = (await run(["dump", path, "--json"])).stdout.trim().split("\n");
    assert.deepEqual(lines.map((line) => JSON.parse(line)), [
      { vm: "client", icount: 7, kind: "INSTRUCTION", count: 7 },
      { vm: "client", icount: 7, kind: "CLOCK", value: 5 },
    ]);
    const aborted = await run(["dump", path], new MemoryTerminal(), AbortSignal.abort());
    assert.deepEqual([aborted.status, aborted.stderr], [1, "clusterrr: interrupted\n"]);

    assert.equal((await run(["clean"])).stdout, "removed netns clrr-ab12cd\n");
    assert.deepEqual(JSON.parse((await run(["clean", "--json"])).stdout), ["netns clrr-ab12cd"]);
    const nothing = commandLine(dir, { clean: () => Promise.resolve([]) });
    assert.equal((await nothing(["clean"])).stdout, "Nothing to clean.\n");

    assert.deepEqual(await run(["doctor"]), {
      status: 0,
      stderr: "",
      stdout: "CHECK   STATUS  DETAIL\nrights  ok      root\ndisk    advice  1 B free\n\n" +
        "To mend:\n  disk: make room\n\nThis host is ready.\n",
      calls: [["checkHost", undefined]],
    });
    const missing = { name: "QEMU", ok: false, needed: true, detail: "none", mend: "apt" };
    const unfit = commandLine(dir, { checkHost: () => Promise.resolve([missing]) });
    const bad = await unfit(["doctor"]);
    assert.equal(bad.status, 1);
    assert.match(bad.stdout, /QEMU {3}MISSING {2}none\n\nTo mend:\n {2}QEMU: apt\n\n.*1 check/);
    const json = await unfit(["doctor", "--json"]);
    assert.deepEqual([json.status, JSON.parse(json.stdout)], [1, { ok: false, checks: [missing] }]);

    assert.equal(typeof JSON.parse((await run(["schema"])).stdout), "object");
  });
});
