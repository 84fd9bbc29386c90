/**
 * What users get wrong and what breaks on the way: each is told in words that name the thing and what
 * to do, with the exit status 1, or 2 for the command line, before anything is made on the host.
 */
import assert from "node:assert/strict";
import { copyDirectory, once, type Outcome, testBed, type TestVm } from "./end_to_end_fixture.ts";

const bed = testBed();

const SOLO: TestVm = { name: "solo", role: "greet", host: 1, peers: [254] };

/** Another user, who may read everything (Deno's cache, the sources) and write nothing. */
const NOBODY = [
  ...["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"],
  ...["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search", "--"],
];

function expectFailure(outcome: Outcome, status: 1 | 2, ...words: (string | RegExp)[]): void {
  assert.equal(outcome.status, status, outcome.stderr);
  assert.equal(outcome.stdout, "");
  for (const word of words) {
    if (typeof word === "string") assert.ok(outcome.stderr.includes(word), outcome.stderr);
    else assert.match(outcome.stderr, word);
  }
  assert.doesNotMatch(outcome.stderr, /internal error|This is a bug|^\s+at /m);
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Records `spec`, which has to be refused without a trace of the recording's directory. */
async function expectRefused(
  spec: string,
  options: Parameters<typeof bed.run>[1],
  ...words: (string | RegExp)[]
): Promise<void> {
  const out = bed.path("refused");
  expectFailure(await bed.run(["record", spec, "--out", out], options), 1, ...words);
  assert.equal(exists(out), false, "no directory is made");
}

/** A cluster file with `text` in it, beside the images of a good one. */
async function brokenSpec(change: (text: string) => string): Promise<string> {
  const good = await Deno.readTextFile(await bed.cluster("good", [SOLO]));
  const text = change(good);
  assert.notEqual(text, good, "the change changes something");
  const path = bed.path("broken.yaml");
  await Deno.writeTextFile(path, text);
  return path;
}

bed.test("the command line is wrong: status 2 and where to read on", 60, async () => {
  const cases: [string[], RegExp][] = [
    [[], /Usage: clusterrr/],
    [["recrod"], /recrod/],
    [["record"], /See: clusterrr record --help/],
    [["record", "x.yaml"], /--out[^]*See: clusterrr record --help/],
    [["record", "x.yaml", "--out", "y", "--for", "soon"], /duration such as[^]*"?soon/],
    [["verify", "x", "--runs", "0"], /--runs[^]*See: clusterrr verify --help/],
    [["replay", "x", "--fast"], /--fast[^]*See: clusterrr replay --help/],
  ];
  const outcomes = await Promise.all(cases.map(([args]) => bed.run(args)));
  for (const [i, [, words]] of cases.entries()) expectFailure(outcomes[i]!, 2, words);
});

bed.test("not root: says what needs it", 60, async () => {
  const spec = await bed.cluster("unprivileged", [SOLO]);
  const asNobody = { prefix: NOBODY };
  await expectRefused(spec, asNobody, "Recording needs root", "Run it with sudo");
  expectFailure(await bed.run(["clean"], asNobody), 1, "Cleaning needs root", "sudo");
});

bed.test("QEMU is missing, is something else, or is too old", 60, async () => {
  const spec = await bed.cluster("host", [SOLO]);
  const empty = bed.path("empty");
  await Deno.mkdir(empty);
  await expectRefused(
    spec,
    { env: { PATH: empty } },
    "QEMU is missing: no program qemu-system-x86_64",
    "apt-get install qemu-system-x86",
  );
  const absent = await bed.cluster("absent", [SOLO], { profile: { qemu: "/nonexistent/qemu" } });
  await expectRefused(absent, {}, /absent\.yaml:\d+:\d+: profile\.qemu: .*\/nonexistent\/qemu/);

  const fake = bed.path("fake-qemu");
  const faked = await Deno.writeTextFile(fake, "#!/bin/sh\necho QEMU emulator version 6.0.0\n")
    .then(() => Deno.chmod(fake, 0o755))
    .then(() => bed.cluster("faked", [SOLO], { profile: { qemu: fake } }));
  await expectRefused(faked, {}, /QEMU "6\.0\.0" is not known; use one of QEMU \d/);
  await Deno.writeTextFile(fake, "#!/bin/sh\necho hello\n");
  await expectRefused(faked, {}, `${fake} is not a QEMU system emulator`);
});

bed.test("the cluster file is wrong: file, line and what would be right", 60, async () => {
  const at = /broken\.yaml:\d+:\d+: /;
  await expectRefused(bed.path("none.yaml"), {}, "none.yaml", "no such cluster file");
  const typo = await brokenSpec((text) => text.replace('"memory"', '"memroy"'));
  await expectRefused(typo, {}, at, "memroy", "memory");
  const image = await brokenSpec((text) => text.replace("/vmlinux", "/vmlinux-none"));
  await expectRefused(image, {}, at, /kernel: no such file: .*vmlinux-none/);
  const mac = await brokenSpec((text) => text.replace('"args"', '"mac": "52:54:xx", "args"'));
  await expectRefused(mac, {}, at, /mac: expected a unicast MAC address.*52:54:xx/);
  const two = await bed.cluster("two", [SOLO, { ...SOLO, host: 2 }]);
  await expectRefused(two, {}, /two\.yaml:\d+:\d+: vms\[1\]\.name: solo is taken by vms\[0\]/);
  const syntax = await brokenSpec((text) => text.replace('"vms": [', '"vms": [['));
  await expectRefused(syntax, {}, at);
});

bed.test("the output directory exists: nothing in it is touched", 60, async () => {
  const spec = await bed.cluster("occupied", [SOLO]);
  const out = bed.path("occupied");
  await Deno.mkdir(out);
  await Deno.writeTextFile(`${out}/precious`, "data");
  const record = (to: string) => bed.run(["record", spec, "--out", to]);
  expectFailure(await record(out), 1, out, "never overwritten", "--out");
  assert.deepEqual([...Deno.readDirSync(out)].map(({ name }) => name), ["precious"]);
  expectFailure(await record(`${out}/precious`), 1, `${out}/precious`, "--out");
  assert.equal(await Deno.readTextFile(`${out}/precious`), "data");
});

/** Two guests recorded while they boot; their initrd is a file of the tests' own. */
const recorded = once(async () => {
  const spec = await bed.cluster("damaged", [SOLO, { ...SOLO, name: "other", host: 2 }]);
  const text = await Deno.readTextFile(spec);
  const initrd = JSON.parse(text).defaults.initrd;
  const own = bed.path("own-initrd");
  await Deno.copyFile(initrd, own);
  await Deno.writeTextFile(spec, text.replace(initrd, own));
  const directory = bed.path("damaged");
  await bed.json(["record", spec, "--out", directory, "--for", "2s", "--digest-every", "0"]);
  return { directory, initrd: own };
});

/** A copy of the recording, changed. */
async function damaged(
  name: string,
  change: (directory: string) => Promise<void>,
): Promise<string> {
  const copy = await copyDirectory((await recorded()).directory, bed.path(name));
  await change(copy);
  return copy;
}

/** Neither replays nor verifies; both say why. */
async function expectUnreplayable(directory: string, ...words: (string | RegExp)[]): Promise<void> {
  const outcomes = await Promise.all(
    ["replay", "verify"].map((command) => bed.run([command, directory])),
  );
  for (const outcome of outcomes) expectFailure(outcome, 1, ...words);
}

const SEGMENT = "vms/solo/hybrid-000000.seg";

async function changeFile(
  path: string,
  change: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>,
): Promise<void> {
  await Deno.writeFile(path, change(await Deno.readFile(path)));
}

async function changeText(path: string, from: string | RegExp, to: string): Promise<void> {
  const text = await Deno.readTextFile(path);
  assert.notEqual(text.replace(from, to), text, `${from} is in ${path}`);
  await Deno.writeTextFile(path, text.replace(from, to));
}

bed.test("a damaged segment: named, with the place", 120, async () => {
  const flipped = await damaged("flipped", (dir) =>
    changeFile(`${dir}/${SEGMENT}`, (bytes) => {
      bytes[bytes.length >> 1]! ^= 0x10;
      return bytes;
    }));
  await expectUnreplayable(
    flipped,
    /flipped\/vms\/solo\/hybrid-000000\.seg at byte \d+: .*checksum/,
  );

  const cut = await damaged(
    "cut",
    (dir) => changeFile(`${dir}/${SEGMENT}`, (bytes) => bytes.slice(0, bytes.length - 100)),
  );
  await expectUnreplayable(cut, `${cut}/${SEGMENT}`, /has \d+ bytes, \d+ were recorded/);

  const gone = await damaged("gone", (dir) => Deno.remove(`${dir}/${SEGMENT}`));
  await expectUnreplayable(gone, `${gone}/${SEGMENT}`, "the segment is missing");

  const without = await damaged(
    "without",
    (dir) => Deno.remove(`${dir}/vms/other`, { recursive: true }),
  );
  await expectUnreplayable(
    without,
    "lacks the directory vms/other",
    "Copy the whole recording again",
  );
});

bed.test("a recording of another version: refused with both versions", 120, async () => {
  const manifest = await damaged(
    "newer",
    (dir) => changeText(`${dir}/manifest.json`, '"formatVersion": 3,', '"formatVersion": 99,'),
  );
  await expectUnreplayable(
    manifest,
    "recording format 99; this build knows format 3",
    "Use the clusterrr that recorded it",
  );
  expectFailure(await bed.run(["show", manifest]), 1, "recording format 99");

  const segment = await damaged(
    "newer-segment",
    (dir) =>
      changeFile(`${dir}/${SEGMENT}`, (bytes) => {
        bytes.fill(7, 8, 10); // behind the magic
        return bytes;
      }),
  );
  await expectUnreplayable(
    segment,
    /newer-segment\/vms\/solo\/hybrid-000000\.seg at byte 8: hybrid log version 1799; this build knows versions 2 to 4/,
  );
  await Deno.writeTextFile(`${segment}/manifest.json`, '{"format": "clusterrr-recording"');
  await expectUnreplayable(segment, "manifest.json", "not JSON");
});

bed.test("another machine than the recorded one: every difference is named", 120, async () => {
  const sha = await damaged(
    "other-qemu",
    (dir) =>
      changeText(
        `${dir}/manifest.json`,
        /("version": "[\d.]+",\s+"sha256": ")[0-9a-f]{8}/g,
        "$100000000",
      ),
  );
  await expectUnreplayable(
    sha,
    "cannot replay the recording exactly",
    /another build of QEMU [\d.]+: \//,
    "Replay it where these are as recorded",
  );
  const version = await damaged(
    "older-qemu",
    (dir) => changeText(`${dir}/manifest.json`, /"version": "[\d.]+"/g, '"version": "7.2.1"'),
  );
  await expectUnreplayable(version, /QEMU [\d.]+, recorded with 7\.2\.1$/m);

  const { directory, initrd } = await recorded();
  const original = await Deno.readFile(initrd);
  await Deno.writeFile(initrd, new Uint8Array(4), { append: true });
  await expectUnreplayable(directory, `another initrd of VM solo: ${initrd} has changed`);
  await Deno.remove(initrd);
  await expectUnreplayable(directory, `The initrd of VM solo is missing: ${initrd}`, "SHA-256");
  await Deno.writeFile(initrd, original);
  const replayed = await bed.json(["replay", directory]);
  assert.equal(replayed.ok, true);
});

bed.test("going back in time: what a recording does not have is named", 120, async () => {
  const spec = await bed.cluster("epochless", [SOLO]);
  const without = bed.path("epochless");
  await bed.json([
    ...["record", spec, "--out", without, "--for", "1s", "--digest-every", "0", "--epoch", "0"],
  ]);
  expectFailure(await bed.run(["index", without]), 1, "has no checkpoints", "--epoch 0");
  for (const point of ["3", "1s"]) {
    expectFailure(
      await bed.run(["replay", without, "--to", point]),
      1,
      "has no checkpoints",
      "INSTRUCTION@VM",
    );
  }
  const { directory } = await recorded();
  expectFailure(await bed.run(["replay", directory, "--to", "999"]), 1, "there is no 999");
  expectFailure(await bed.run(["replay", directory, "--to", "7@hub"]), 1, "no VM hub");
  expectFailure(await bed.run(["replay", directory, "--gdb", "hub"]), 1, "no VM hub");
  expectFailure(await bed.run(["state"]), 1, "No replay stands on this host", "--hold");
  expectFailure(await bed.run(["verify", directory, "--jobs", "2"]), 2, "--parallel");
  expectFailure(await bed.run(["replay", directory, "--to", "soon"]), 2, "12.5s");
});

bed.test("no recording there: says so", 60, async () => {
  const empty = bed.path("no-recording");
  await Deno.mkdir(empty);
  await expectUnreplayable(empty, empty, "not a recording");
  await expectUnreplayable(bed.path("nowhere"), "nowhere");
});
