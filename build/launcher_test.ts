/** The launcher of the self-extracting file, with the real runtime and a program that tells how it was started. */
import assert from "node:assert/strict";
import { CACHE } from "./build.ts";
import { writeSelfExtracting } from "./self_extracting.ts";

const PROBE = new URL("launcher_probe.mjs", import.meta.url);
const NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];
const TIMEOUT_MS = 60_000;

const folder = Deno.makeTempDirSync({ prefix: "clusterrr-launcher-" });
Deno.chmodSync(folder, 0o755);
addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

const program = `${folder}/alone/clusterrr`;
await Deno.mkdir(`${folder}/alone`);
const code = await Deno.readFile(PROBE);
await writeSelfExtracting(program, { code, facts: { commit: "none" } }, CACHE);
const launcherBytes = new TextDecoder("latin1").decode(await Deno.readFile(program))
  .indexOf("exit 1; }\n") + "exit 1; }\n".length;
const isRoot = Deno.uid() === 0;

/** A new directory, empty and everybody's. */
async function emptyDirectory(): Promise<string> {
  const path = await Deno.makeTempDir({ dir: folder });
  await Deno.chmod(path, 0o777);
  return path;
}

/** How to start it; nothing of this process's environment reaches it. */
interface Start {
  readonly env: Readonly<Record<string, string>>;
  readonly argv?: readonly string[];
  readonly cwd?: string;
}

function start(args: readonly string[], { env, argv = [program], cwd = folder }: Start) {
  const [first, ...rest] = [...argv, ...args];
  return new Deno.Command(first!, {
    args: rest,
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...env },
    clearEnv: true,
    cwd,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).spawn();
}

async function run(args: readonly string[], how: Start) {
  const { code, signal, stdout, stderr } = await start(args, how).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, signal, stdout: text(stdout), stderr: text(stderr) };
}

/** Runs the probe, which has to succeed, and returns what it tells. */
async function told(args: readonly string[], how: Start) {
  const { code, stdout, stderr } = await run(args, how);
  assert.deepEqual([code, stderr], [0, ""]);
  return JSON.parse(stdout);
}

async function namesIn(directory: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(directory))).map(({ name }) => name).sort();
}

/** What a whole cache holds. */
const WHOLE = [/^clusterrr-[0-9a-f]{16}\.mjs$/, /^deno$/, /^deno-[0-9a-f]{16}$/];

async function expectWhole(cache: string): Promise<void> {
  const names = await namesIn(cache);
  assert.equal(names.length, WHOLE.length, names.join(" "));
  for (const [i, name] of names.entries()) assert.match(name, WHOLE[i]!);
}

Deno.test("first starts at the same time, from an empty home", async () => {
  const HOME = await emptyDirectory();
  const cwd = await emptyDirectory();
  const starts = Array.from({ length: 3 }, (_, i) => told([`start ${i}`], { env: { HOME }, cwd }));
  for (const [i, { args, directory }] of (await Promise.all(starts)).entries()) {
    assert.deepEqual([args, directory], [[`start ${i}`], cwd]);
  }
  await expectWhole(`${HOME}/.cache/clusterrr`);
  assert.deepEqual(await namesIn(cwd), []);
});

/** A cache that is filled, for the tests of later starts. */
const filled = `${folder}/filled`;
const env = { CLUSTERRR_CACHE: filled };

Deno.test("arguments arrive as they are", async () => {
  const args = ["a b", "", "-x", "--", "*", "$HOME", "`id`", '"', "'", "ä\n"];
  assert.deepEqual((await told(args, { env })).args, args);
  assert.deepEqual((await told([], { env })).args, []);
});

Deno.test("the umask is the user's, at the first start and later", async () => {
  const cache = await emptyDirectory();
  for (const umask of ["0077", "0002"]) {
    const argv = ["sh", "-c", `umask ${umask}; exec "$0" "$@"`, program];
    for (const CLUSTERRR_CACHE of [cache, filled]) {
      const { umask: found } = await told([], { env: { CLUSTERRR_CACHE }, argv });
      assert.equal(found, parseInt(umask, 8));
    }
  }
  await expectWhole(cache);
  for (const name of await namesIn(cache)) {
    if (name === "deno") continue;
    assert.equal((await Deno.stat(`${cache}/${name}`)).mode! & 0o444, 0o444, "others may read it");
  }
});

Deno.test("exit statuses and signals are the program's own", async () => {
  for (const status of [0, 1, 2, 77]) {
    assert.equal((await run(["exit", `${status}`], { env })).code, status);
  }
  for (const [what, expected] of [["wait", [43, null]], ["sleep", [143, "SIGTERM"]]] as const) {
    const child = start([what], { env });
    const reader = child.stdout.getReader();
    const { value } = await reader.read();
    assert.equal(JSON.parse(new TextDecoder().decode(value)).pid, child.pid, "it is that process");
    child.kill("SIGTERM");
    const { code, signal } = await child.status;
    assert.deepEqual([code, signal], expected);
    await reader.cancel();
    await child.stderr.cancel();
  }
});

Deno.test("it knows its file, by whatever name it is called", async () => {
  const link = `${folder}/link`;
  await Deno.symlink(program, link);
  const cwd = `${folder}/alone`;
  const ways: (Partial<Start>)[] = [
    { argv: [link] },
    { argv: ["sh", "-c", `./clusterrr "$@"`, "sh"], cwd },
    { argv: ["sh", "-c", `clusterrr "$@"`, "sh"], env: { PATH: `${cwd}:/usr/bin:/bin` } },
  ];
  for (const { env: more = {}, ...way } of ways) {
    const XDG_CACHE_HOME = await emptyDirectory(); // it has to unpack itself
    assert.deepEqual((await told(["there"], { ...way, env: { ...more, XDG_CACHE_HOME } })).args, [
      "there",
    ]);
    await expectWhole(`${XDG_CACHE_HOME}/clusterrr`);
  }
});

Deno.test("settings of Deno and npm where it is started are not its own", async () => {
  const cwd = await emptyDirectory();
  for (const name of ["deno.json", "package.json", "deno.lock", ".env", "tsconfig.json"]) {
    await Deno.writeTextFile(`${cwd}/${name}`, "{broken");
  }
  await told([], { env, cwd });
  await told([], { env: { ...env, HOME: cwd }, cwd });
});

Deno.test("a file cut short or changed says that it is damaged", async () => {
  const whole = await Deno.readFile(program);
  const damaged = `${folder}/damaged`;
  const cache = await emptyDirectory();
  const flipped = whole.slice();
  flipped[whole.length - 1000]! ^= 1;
  // The line that says so ends after some 140 bytes; from there on it is said.
  const cuts = [whole.length - 1, whole.length >> 1, launcherBytes + 5, launcherBytes];
  for (let cut = 150; cut < launcherBytes; cut += 250) cuts.push(cut);
  for (let before = 2; before < 12; before++) cuts.push(launcherBytes - before);
  for (const bytes of [flipped, ...cuts.map((cut) => whole.subarray(0, cut))]) {
    await Deno.writeFile(damaged, bytes, { mode: 0o755 });
    const { code, stdout, stderr } = await run([], {
      env: { CLUSTERRR_CACHE: cache },
      argv: [damaged],
    });
    const what = `${bytes.length} of ${whole.length} bytes`;
    assert.notEqual(code, 0, what);
    assert.equal(stdout, "", what);
    assert.match(stderr, /^clusterrr: .*\/damaged is damaged: copy it again, whole$/m, what);
  }
  assert.deepEqual(await namesIn(cache), []);
});

Deno.test("without a place to unpack it says what to do", async () => {
  const file = `${folder}/file`;
  await Deno.writeTextFile(file, "");
  const { code, stdout, stderr } = await run([], { env: { CLUSTERRR_CACHE: `${file}/cache` } });
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /finds no place to unpack itself \(about \d+ MB\):\n.*file/);
  assert.match(stderr, /\nSet CLUSTERRR_CACHE to a directory/);
});

Deno.test({
  name: "another user, with a home that is not theirs",
  ignore: !isRoot,
  fn: async () => {
    const argv = [...NOBODY, program];
    const HOME = await emptyDirectory(); // root's
    const TMPDIR = await emptyDirectory();
    await told([], { env: { HOME, TMPDIR }, argv });
    assert.deepEqual(await namesIn(HOME), []);
    await expectWhole(`${TMPDIR}/clusterrr-65534`);
    await told([], { env: { HOME, TMPDIR }, argv });
    // What root has unpacked serves everybody.
    await told([], { env: { CLUSTERRR_CACHE: filled }, argv });
  },
});

Deno.test({
  name: "nothing is executed that somebody else could have put there",
  ignore: !isRoot,
  fn: async () => {
    const TMPDIR = await emptyDirectory();
    await Deno.mkdir(`${TMPDIR}/clusterrr-65534`);
    await Deno.chmod(`${TMPDIR}/clusterrr-65534`, 0o777);
    const theirs = await run([], { env: { TMPDIR }, argv: [...NOBODY, program] });
    assert.equal(theirs.code, 1);
    assert.match(theirs.stderr, /clusterrr-65534: cannot be made, or is not user 65534's/);
    assert.deepEqual(await namesIn(`${TMPDIR}/clusterrr-65534`), []);

    // A third user's home, with something in the place of the runtime.
    await told([], { env });
    const HOME = await emptyDirectory();
    const cache = `${HOME}/.cache/clusterrr`;
    await Deno.mkdir(cache, { recursive: true });
    for (const name of (await namesIn(filled)).filter((name) => name !== "deno")) {
      await Deno.writeTextFile(`${cache}/${name}`, "#!/bin/sh\necho theirs\n", { mode: 0o755 });
    }
    for (const path of [HOME, `${HOME}/.cache`, cache]) {
      await Deno.chown(path, 65533, 65533);
      await Deno.chmod(path, 0o777);
    }
    for (const home of [{ HOME }, { XDG_CACHE_HOME: `${HOME}/.cache` }]) {
      const TMPDIR = await emptyDirectory();
      await told([], { env: { ...home, TMPDIR }, argv: [...NOBODY, program] });
      await expectWhole(`${TMPDIR}/clusterrr-65534`);
    }
  },
});

Deno.test({
  name: "a file system that executes nothing is said to be one",
  ignore: !isRoot,
  fn: async () => {
    const mounted = await emptyDirectory();
    const mount = async (...argv: string[]) => {
      const { success } = await new Deno.Command(argv[0]!, { args: argv.slice(1) }).output();
      assert.ok(success, argv.join(" "));
    };
    await mount("mount", "-t", "tmpfs", "-o", "noexec,size=200m", "tmpfs", mounted);
    try {
      const { code, stderr } = await run([], { env: { CLUSTERRR_CACHE: mounted } });
      assert.equal(code, 1);
      assert.match(stderr, /files there cannot be executed/);
    } finally {
      await mount("umount", mounted);
    }
  },
});

Deno.test({
  name: "a full disk leaves nothing half-written",
  ignore: !isRoot,
  fn: async () => {
    const mounted = await emptyDirectory();
    await new Deno.Command("mount", {
      args: ["-t", "tmpfs", "-o", "size=20m", "tmpfs", mounted],
    }).output();
    try {
      const { code, stderr } = await run([], { env: { CLUSTERRR_CACHE: mounted } });
      assert.equal(code, 1);
      assert.match(stderr, /No space left on device/);
      assert.deepEqual((await namesIn(mounted)).filter((name) => !name.endsWith(".mjs")), []);
    } finally {
      await new Deno.Command("umount", { args: [mounted] }).output();
    }
  },
});
