/** The built file as a user has it: alone in a directory. How it is packed, and that it does all that the sources do. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import config from "../deno.json" with { type: "json" };
import { ClusterrrError } from "../lib/errors.ts";
import { build } from "./build.ts";
import { refuseSourceOnly } from "./bundle.ts";
import { findBase } from "./compiled.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const TIMEOUT_MS = 120_000;

const folder = Deno.makeTempDirSync({ prefix: "clusterrr-build-" });
addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

const program = `${folder}/alone/clusterrr`;
await build({ out: program, packing: "self-extracting" });
await Deno.mkdir(`${folder}/home`); // a home that is ours: else root unpacks into /var/cache

async function run(argv: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(argv[0]!, {
    args: argv.slice(1),
    env: { HOME: `${folder}/home`, PATH: "/usr/sbin:/usr/bin:/sbin:/bin", NO_COLOR: "1", ...env },
    clearEnv: true,
    cwd: `${folder}/alone`,
    stdin: "null",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: text(stdout), stderr: text(stderr) };
}

Deno.test("--version names what a bug report needs", async () => {
  const { code, stdout, stderr } = await run([program, "--version"]);
  assert.deepEqual([code, stderr], [0, ""]);
  const object = await Deno.readFile(`${ROOT}net/bpf/recorder.bpf.o`);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", object)).toHex();
  const [commit, ...rest] = stdout.split("\n").filter((line) => !line.startsWith("event logs"))
    .toSorted((a, b) => Number(b.startsWith("commit")) - Number(a.startsWith("commit")));
  assert.match(commit!, /^commit {6}([0-9a-f]{12}(-dirty)?|unknown)$/);
  assert.deepEqual(rest, [
    `clusterrr ${config.version}`,
    "packing     self-extracting",
    `Deno        ${Deno.version.deno}`,
    `recorder    ${digest.slice(0, 16)} (SHA-256 of the eBPF object)`,
    "",
  ]);
  assert.match(stdout, /^event logs {2}QEMU 7\.1, 7\.2, /m);
});

Deno.test("alone in a directory it has its schema, its help and its exit statuses", async () => {
  const schema = await run([program, "schema"]);
  assert.deepEqual(
    JSON.parse(schema.stdout),
    JSON.parse(await Deno.readTextFile(`${ROOT}lib/cluster/cluster.schema.json`)),
  );
  assert.match((await run([program, "record", "--help"])).stdout, /Usage: clusterrr record/);
  assert.equal((await run([program, "record", "--frob"])).code, 2);
  const none = await run([program, "show", "nix"]);
  assert.deepEqual([none.code, none.stdout], [1, ""]);
  assert.match(none.stderr, /^clusterrr: No recording "nix"/);
});

Deno.test("completions call the built file", async () => {
  const { code, stdout, stderr } = await run([
    "bash",
    "-c",
    `
    set -e
    PATH=${folder}/alone:$PATH
    clusterrr completions bash >${folder}/completions
    . ${folder}/completions
    set -- $(complete -p clusterrr)
    while [ "$1" != -F ]; do shift; done
    COMP_WORDS=(clusterrr rec) COMP_CWORD=1
    "$2"
    printf '%s\\n' "\${COMPREPLY[@]}"
  `,
  ]);
  assert.deepEqual([code, stderr], [0, ""]);
  assert.match(stdout, /^record\b/m);
});

Deno.test("what it starts has the user's environment", async () => {
  const bin = `${folder}/bin`;
  await Deno.mkdir(bin);
  const qemu = `#!/bin/sh\nenv >${folder}/environment\necho QEMU emulator version 7.2.0\n`;
  await Deno.writeTextFile(`${bin}/qemu-system-x86_64`, qemu, { mode: 0o755 });
  for (const theirs of [{}, { DENO_DIR: `${folder}/their deno` }]) {
    await run([program, "doctor"], { ...theirs, PATH: `${bin}:/usr/sbin:/usr/bin:/sbin:/bin` });
    const lines = (await Deno.readTextFile(`${folder}/environment`)).split("\n");
    const ours = lines.filter((line) => /^(DENO|CLUSTERRR)_/.test(line)).sort();
    const expected = Object.entries(theirs).map(([name, value]) => `${name}=${value}`);
    assert.deepEqual(ours, expected);
  }
});

Deno.test("the same sources give the same bytes, in another directory too", async () => {
  const copy = `${folder}/copy`;
  await Deno.mkdir(copy);
  const copied = await run([
    "sh",
    "-c",
    `
    tar -C "$1" --exclude=./dist --exclude=./.tools --exclude=./examples/.cache -cf - . | tar -C "$2" -xf -
  `,
    "sh",
    ROOT,
    copy,
  ]);
  assert.equal(copied.code, 0, copied.stderr);
  const args = ["--packing", "self-extracting", "--out", `${copy}/dist/clusterrr`];
  const built = await run([Deno.execPath(), "run", "-A", `${copy}/build/build.ts`, ...args]);
  assert.equal(built.code, 0, built.stderr);
  const digest = async (path: string) => {
    const bytes = await Deno.readFile(path);
    return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  };
  assert.equal(await digest(`${copy}/dist/clusterrr`), await digest(program));
});

Deno.test("without denort the reason is told and the file extracts itself", async () => {
  // A Deno that is no denort: deno compile takes it, and what comes out is not clusterrr.
  await withEnvironment("DENORT_BIN", Deno.execPath(), async () => {
    const said: string[] = [];
    const out = `${folder}/fallback/clusterrr`;
    await build({ out, say: (line) => said.push(line) });
    assert.equal(said[0], `compiled, with the base runtime from DENORT_BIN, ${Deno.execPath()}`);
    assert.match(said[1]!, /^self-extracting, since .* is not clusterrr; it says: deno \d/);
    assert.deepEqual((await Array.fromAsync(Deno.readDir(`${folder}/fallback`))).length, 1);
    assert.match((await run([out, "--version"])).stdout, /^packing +self-extracting$/m);
    await assert.rejects(
      build({ out: `${folder}/none`, packing: "compiled" }),
      (error) => error instanceof ClusterrrError && /^cannot compile: /.test(error.message),
    );
  });
});

Deno.test("denort is looked for in the environment and in Deno's cache, before it is downloaded", async () => {
  const directory = `${folder}/deno`;
  await withEnvironment("DENO_DIR", directory, async () => {
    const before = performance.now();
    const late = await findBase(1);
    assert.match("missing" in late ? late.missing : "", /Deno cannot download it$/);
    assert.ok(performance.now() - before < 20_000, "a slow network does not hold the build up");

    const zip = `${directory}/dl/release/v${Deno.version.deno}/denort-x86_64-unknown-linux-gnu.zip`;
    await Deno.mkdir(zip.slice(0, zip.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(zip, "");
    assert.deepEqual(await findBase(1), { from: zip });
  });
  await withEnvironment("DENORT_BIN", "/some/denort", async () => {
    assert.deepEqual(await findBase(1), { from: "DENORT_BIN, /some/denort" });
  });
});

async function withEnvironment(name: string, value: string, body: () => Promise<void>) {
  const before = Deno.env.get(name);
  Deno.env.set(name, value);
  try {
    await body();
  } finally {
    if (before === undefined) Deno.env.delete(name);
    else Deno.env.set(name, before);
  }
}

Deno.test("a source that needs its own file is refused with its place", async () => {
  const cases: [string, boolean][] = [
    [`const file = new URL("x", import.meta.url);`, false],
    [`new Deno.Command(Deno.execPath());`, false],
    [`new Worker(path);`, false],
    [`import x from "./x.o" with { type: "bytes" };`, true],
  ];
  for (const [text, allowed] of cases) {
    await Deno.writeTextFile(`${folder}/source.ts`, `// first\n${text}\n`);
    const checked = refuseSourceOnly(folder, ["source.ts"]);
    if (allowed) await checked;
    else {
      await assert.rejects(
        checked,
        (error) => error instanceof ClusterrrError && error.message.startsWith(`source.ts:2: "`),
      );
    }
  }
});
