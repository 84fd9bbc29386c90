import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { makeRecording } from "../catalog/recording_fixture.ts";
import {
  ClusterrrError,
  type Divergence,
  DivergenceError,
  InterruptedError,
  UsageError,
} from "../errors.ts";
import { commandLine, MemoryTerminal, withDirectory } from "./command_fixture.ts";
import { verification } from "./verification_fixture.ts";

const COMMANDS = [
  "boot",
  "record",
  "replay",
  "verify",
  "diff",
  "index",
  "show",
  "timeline",
  "dump",
  "ls",
  "tag",
  "add",
  "rm",
  "pack",
  "unpack",
  "snapshots",
  "state",
  "seek",
  "console",
  "x",
  "xp",
  "info",
  "pmemsave",
  "continue",
  "quit",
  "hosts",
  "status",
  "collect",
  "stop",
  "coordinator",
  "agent",
  "ca",
  "join",
  "doctor",
  "clean",
  "schema",
];

const DIVERGENCE: Divergence = {
  vm: "client",
  instructionCount: 1_234_567n,
  sendNumber: 17,
  what: "a frame differs",
  expected: "00 01",
  actual: "00 02",
  likelyCause: "a device",
};

Deno.test("flags become options", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const recording = await makeRecording(join(dir, "r"));
    const segment = join(recording, "vms/client/hybrid-000000.seg");
    const cases: [string[], unknown][] = [
      [["record", "c.yaml", "--out", recording], {
        spec: "c.yaml",
        out: recording,
        digestEveryMs: 5000,
        epochMs: 250,
      }],
      [
        [
          ...[
            "-v",
            "record",
            "--out",
            recording,
            "--for=1m30s",
            "--digest-every",
            "0",
            "--epoch=2s",
          ],
          ...["--name", "n", "--tag", "t", "c.yaml", "--tag", "u"],
        ],
        {
          spec: "c.yaml",
          out: recording,
          digestEveryMs: 0,
          epochMs: 2000,
          forMs: 90_000,
          name: "n",
        },
      ],
      [["record", "--from", "ready", "--out", recording], {
        from: "ready",
        out: recording,
        digestEveryMs: 5000,
        epochMs: 250,
      }],
      [["boot", "c.yaml", "--save", "ready", "--until", "login:", "--after", "2s"], {
        spec: "c.yaml",
        save: "ready",
        until: "login:",
        afterMs: 2000,
        timeoutMs: 600_000,
        force: false,
      }],
      [["snapshots", "rm", "ready"], "ready"],
      [["replay", recording, "-v"], { directory: recording }],
      [["verify", "trio"], { directory: recording, runs: 1 }],
      [["verify", "--runs", "10", "abcdef"], { directory: recording, runs: 10 }],
      [["replay", recording, "--window", "3"], { directory: recording, windowEpochs: 3 }],
      [["replay", recording, "--window", "off"], { directory: recording, windowEpochs: Infinity }],
      [["verify", recording, "--parallel", "--jobs", "3"], {
        directory: recording,
        runs: 1,
        parallel: { jobs: 3, every: 20, bytesMax: 2 ** 32 },
      }],
      [["index", "trio", "--every", "4", "--max-size", "1G"], {
        directory: recording,
        every: 4,
        bytesMax: 2 ** 30,
      }],
      [["state", "client", "--session", "abc123"], [["state", "client"], "abc123"]],
      [["x", "client", "/4xw", "0x10"], [["x", "client", "/4xw", "0x10"], undefined]],
      [["pmemsave", "client", "0", "9", "m.bin"], [
        ["pmemsave", "client", "0", "9", resolve("m.bin")],
        undefined,
      ]],
      [["pmemsave", "client", "0", "9", "/m"], [["pmemsave", "client", "0", "9", "/m"], undefined]],
      [["timeline", "trio"], { directory: recording, frames: false }],
      [["timeline", "trio", "--frames", "--vm", "client", "--from", "0", "--to", "2s"], {
        directory: recording,
        frames: true,
        vms: ["client"],
      }],
      [["dump", segment], { path: segment }],
      [["dump", "trio", "--vm", "client", "--from", "0", "--limit", "7"], {
        path: recording,
        vm: "client",
        fromIcount: 0,
        limit: 7,
      }],
    ];
    for (const [args, options] of cases) {
      const { status, calls, stderr } = await run(args);
      assert.equal(status, 0, `${args.join(" ")}: ${stderr}`);
      assert.deepEqual(calls.map(([, o]) => o), [options], args.join(" "));
    }
    assert.deepEqual(JSON.parse((await run(["ls", "--json"])).stdout)[0].tags, ["t", "u"]);
  });
});

Deno.test("what is wrong with the arguments is named, with status 2 and nothing on stdout", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const cases: [string[], RegExp, string][] = [
      [["recrod"], /"recrod"[^]*Did you mean `record`/, "--help"],
      [["--frob"], /"--frob"/, "--help"],
      [["record", "c.yaml"], /--out/, "record --help"],
      [["record", "--out", "d"], /SPEC.*--from/, "record --help"],
      [["record", "c.yaml", "--out", "d", "--until-failure"], /--on-failure/, "record --help"],
      [["record", "c.yaml", "--out", "d", "--max-runs", "2"], /--until-failure/, "record --help"],
      [["record", "c.yaml", "--out", "d", "--max-runs", "0"], /--max-runs/, "record --help"],
      [["boot", "c.yaml", "--save", "a"], /--until.*--after/, "boot --help"],
      [["boot", "c.yaml", "--save", "a/b", "--after", "1s"], /--save.*"a\/b"/, "boot --help"],
      [["record", "c.yaml", "--out"], /--out/, "record --help"],
      [["record", "c.yaml", "--out", "d", "--for", "3x"], /--for.*10s.*"3x"/, "record --help"],
      [["record", "c.yaml", "--out", "d", "--for", "597h"], /--for.*596h, .*"597h"/, "record"],
      [["record", "c.yaml", "--out", "d", "--for", "0"], /--for/, "record --help"],
      [["record", "c.yaml", "--out", "d", "--digest-every", "-1s"], /--digest-every/, "record"],
      [["record", "c.yaml", "--out", "d", "--name", "a b"], /--name.*"a b"/, "record --help"],
      [["record", "c.yaml", "--out", "d", "--tag", "/"], /--tag.*"\/"/, "record --help"],
      [["record", "c.yaml", "--out", "d", "--out", "e"], /--out/, "record --help"],
      [["replay"], /DIR\|NAME/, "replay --help"],
      [["replay", "a", "b"], /"b"/, "replay --help"],
      [["replay", ""], /DIR\|NAME/, "replay --help"],
      [["verify", "a", "--runs", "0"], /--runs.*1.*"0"/, "verify --help"],
      [["verify", "a", "--runs", "x"], /--runs.*"x"/, "verify --help"],
      [["timeline", "a", "--from", "x"], /--from/, "timeline --help"],
      [["dump", "a", "--from", "-1"], /--from/, "dump --help"],
      [["dump", "a", "--limit", "1.5"], /--limit/, "dump --help"],
      [["show", "a", "--jsn"], /"--jsn"[^]*--json/, "show --help"],
      [["ls", "somewhere"], /"somewhere".*--rescan/, ""],
      [["tag", "a", "--add"], /--add/, "tag --help"],
      [["add"], /DIR/, "add --help"],
      [["rm"], /DIR\|NAME/, "rm --help"],
      [["doctor", "--json=1"], /--json/, "doctor --help"],
      [["clean", "x"], /"x"/, "clean --help"],
      [["schema", "x"], /"x"/, "schema --help"],
      [["completions"], /shell/, "completions --help"],
      [["completions", "tcsh"], /"tcsh"[^]*bash/, "completions --help"],
    ];
    for (const [args, pattern, page] of cases) {
      const { status, stdout, stderr, calls } = await run(args);
      assert.deepEqual([status, stdout, calls], [2, "", []], args.join(" "));
      assert.match(stderr, /^clusterrr: /, args.join(" "));
      assert.match(stderr, pattern, args.join(" "));
      if (page !== "") assert.ok(stderr.includes(`See: clusterrr ${page}`), stderr);
    }
  });
});

Deno.test("help: every command is listed, with an example of its own; no command is an error", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    const root = await run(["--help"]);
    assert.equal(root.status, 0);
    assert.equal((await run(["-h"])).stdout, root.stdout);
    assert.match(root.stdout, /Examples:\n {2}clusterrr doctor\n/);
    const listed = [...root.stdout.matchAll(/^ {2}([a-z]+) {2,}/gm)].map((m) => m[1]);
    assert.deepEqual(listed, [...COMMANDS, "completions"]);
    for (const command of COMMANDS) {
      const { status, stdout, stderr } = await run([command, "--help"]);
      assert.deepEqual([status, stderr], [0, ""]);
      assert.match(stdout, new RegExp(`^Usage: clusterrr ${command}\\b`, "m"));
      assert.match(stdout, new RegExp(`Examples:\n( {2}clusterrr ${command}.*\n)+$`));
      assert.match(stdout, /-v, --verbose/);
      assert.doesNotMatch(stdout, / $/m);
      const unknown = await run([command, "--no-such-flag"]);
      assert.ok(unknown.stderr.includes(`See: clusterrr ${command} --help`), unknown.stderr);
    }
    const lost = await run([]);
    assert.deepEqual([lost.status, lost.stdout, lost.stderr], [2, "", root.stdout]);
    assert.deepEqual((await run(["--version"])).stdout, "9.9.9\n");
  });
});

Deno.test("completions: scripts that shells accept, and words that fit", async () => {
  await withDirectory(async (dir) => {
    const run = commandLine(dir);
    for (const shell of ["bash", "zsh", "fish"]) {
      const { status, stdout } = await run(["completions", shell]);
      assert.equal(status, 0);
      assert.ok(stdout.length > 500 && stdout.includes("clusterrr"), shell);
      const path = join(dir, `completions.${shell}`);
      await Deno.writeTextFile(path, stdout);
      const found = await new Deno.Command("sh", { args: ["-c", `command -v ${shell}`] }).output();
      if (!found.success && shell !== "bash") continue; // Debian has bash; the others are optional
      const check = await new Deno.Command(shell, { args: ["-n", path] }).output();
      assert.ok(check.success, new TextDecoder().decode(check.stderr));
    }
    const words = async (...args: string[]) => {
      const { stdout } = await run(["completions", "bash", ...args]);
      return stdout.split("\n").map((line) => line.trim()).filter((line) => line !== "");
    };
    assert.deepEqual(await words("re"), ["record", "replay"]);
    assert.deepEqual(await words("verify", "--r"), ["--runs"]);
    await run(["add", await makeRecording(join(dir, "r"), { name: "known-name" })]);
    const catalog = Deno.env.get("CLUSTERRR_CATALOG");
    try {
      Deno.env.set("CLUSTERRR_CATALOG", join(dir, "catalog.sqlite3"));
      assert.equal((await words("replay", "kn"))[0], "known-name");
      Deno.env.set("CLUSTERRR_CATALOG", join(dir, "none.sqlite3"));
      assert.ok(!(await words("replay", "kn")).includes("known-name"));
    } finally {
      if (catalog === undefined) Deno.env.delete("CLUSTERRR_CATALOG");
      else Deno.env.set("CLUSTERRR_CATALOG", catalog);
    }
    assert.ok(!(await Array.fromAsync(Deno.readDir(dir))).some((f) => f.name.startsWith("none")));
  });
});

Deno.test("errors become messages and statuses", async () => {
  await withDirectory(async (dir) => {
    const cause = new Error("the cause");
    const cases: [Error, number, string][] = [
      [new ClusterrrError("do this", { cause }), 1, "clusterrr: do this\n"],
      [new UsageError("not so"), 2, "clusterrr: not so\n"],
      [new InterruptedError("interrupted"), 1, "clusterrr: interrupted\n"],
    ];
    for (const [error, status, stderr] of cases) {
      const run = commandLine(dir, { clean: () => Promise.reject(error) });
      const outcome = await run(["clean"]);
      assert.deepEqual([outcome.status, outcome.stdout, outcome.stderr], [status, "", stderr]);
    }
    const first = commandLine(dir, { clean: () => Promise.reject(cases[0]![0]) });
    assert.match(
      (await first(["-v", "clean"])).stderr,
      /do this\ncaused by Error: the cause\n +at /,
    );

    const broken = commandLine(dir, { clean: () => Promise.reject(new TypeError("oops")) });
    const short = await broken(["clean"]);
    assert.equal(short.status, 1);
    assert.match(short.stderr, /^clusterrr: internal error: oops\nThis is a bug.*-v/);
    assert.match((await broken(["clean", "-v"])).stderr, /TypeError: oops\n +at /);
    const refused = commandLine(dir, {
      clean: () => Promise.reject(new Deno.errors.PermissionDenied("Permission denied: open 'x'")),
    });
    assert.deepEqual(await refused(["clean"]), {
      status: 1,
      stdout: "",
      stderr: "clusterrr: Permission denied: open 'x'\nDoes it need root?\n",
      calls: [],
    });
    const full = commandLine(dir, { clean: () => Deno.writeTextFile("/dev/full", "x") as never });
    assert.deepEqual(await full(["clean"]), {
      status: 1,
      stdout: "",
      stderr: "clusterrr: No space left on device (os error 28): writefile '/dev/full'\n",
      calls: [],
    });
    const fullToNode = commandLine(dir, { clean: () => writeFileSync("/dev/full", "x") as never });
    assert.equal(
      (await fullToNode(["clean"])).stderr,
      "clusterrr: ENOSPC: no space left on device, write\n",
    );
    // Whatever aborted work throws, the user only ended it.
    const aborted = await broken(["clean"], new MemoryTerminal(), AbortSignal.abort());
    assert.deepEqual([aborted.status, aborted.stderr], [1, "clusterrr: interrupted\n"]);
  });
});

Deno.test("a divergence: status 1, told on stderr, and an object with --json", async () => {
  await withDirectory(async (dir) => {
    const recording = await makeRecording(join(dir, "r"));
    const thrown = () => Promise.reject(new DivergenceError(DIVERGENCE));
    const reported = {
      ok: false,
      replayS: 1,
      recordS: 2,
      queueBytesMax: 0,
      vms: [verification("client", { console: false })],
      divergence: DIVERGENCE,
    };
    for (
      const run of [
        commandLine(dir, { replay: thrown, verify: thrown }),
        commandLine(dir, {
          replay: () => Promise.resolve({ ...reported, vms: [] }),
          verify: () =>
            Promise.resolve({ ok: false, runs: 1, vms: reported.vms, perRun: [reported] }),
        }),
      ]
    ) {
      for (const command of ["replay", "verify"]) {
        const human = await run([command, recording]);
        assert.equal(human.status, 1);
        assert.match(human.stderr, /VM client, instruction 1234567, frame 17: a frame differs/);
        const json = await run([command, recording, "--json"]);
        assert.equal(json.status, 1);
        assert.match(json.stderr, /frame 17/);
        const report = JSON.parse(json.stdout);
        assert.equal(report.ok, false);
        const divergence = report.divergence ?? report.perRun[0].divergence;
        assert.equal(divergence.instructionCount, 1_234_567);
      }
    }
  });
});

Deno.test("progress goes to stderr; with --json only if -v", async () => {
  await withDirectory(async (dir) => {
    const recording = await makeRecording(join(dir, "r"));
    const run = commandLine(dir, {
      replay(_options, progress) {
        progress.show({ phase: "replaying", vms: [] });
        return Promise.resolve({ ok: true, vms: [], replayS: 1, recordS: 2, queueBytesMax: 0 });
      },
    });
    assert.equal((await run(["replay", recording])).stderr, "replaying\n");
    assert.equal((await run(["replay", recording, "--json"])).stderr, "");
    const verbose = await run(["replay", recording, "--json", "-v"]);
    assert.equal(verbose.stderr, "replaying\n");
    assert.equal(JSON.parse(verbose.stdout).ok, true);
  });
});
