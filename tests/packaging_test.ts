/** What `packaging/` ships: units that systemd understands, rights that suffice, instructions whose files exist. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { testBed } from "./end_to_end_fixture.ts";

const PACKAGING = fileURLToPath(new URL("../packaging/", import.meta.url));
const UNITS = ["clusterrr-agent.service", "clusterrr-coordinator.service"];

const bed = testBed();

async function run(program: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(program, { args }).output();
  const said = new TextDecoder().decode(stderr);
  assert.equal(code, 0, said);
  return new TextDecoder().decode(stdout) + said;
}

async function hasSystemd(): Promise<boolean> {
  try {
    return (await new Deno.Command("systemd-analyze", { args: ["--version"] }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** The values of `key` in a unit, in order. */
function valuesOf(unit: string, key: string): string[] {
  return unit.split("\n").filter((line) => line.startsWith(`${key}=`))
    .map((line) => line.slice(key.length + 1));
}

const systemd = await hasSystemd();
if (!systemd) console.warn("The units are not verified: this host has no systemd-analyze.");

Deno.test({
  name: "systemd finds nothing wrong with the units",
  ignore: !systemd,
  fn: async () => {
    const root = await Deno.makeTempDir({ prefix: "clusterrr-root-" });
    try {
      const units = `${root}/etc/systemd/system`;
      await run("mkdir", "-p", units, `${root}/usr/lib/systemd`, `${root}/usr/local/bin`);
      await run("cp", "-r", "/usr/lib/systemd/system", `${root}/usr/lib/systemd/`);
      await run("install", "/bin/true", `${root}/usr/local/bin/clusterrr`);
      // What it finds goes to standard error; the status is 0 even for unknown keys.
      const verify = (unit: string) =>
        run("systemd-analyze", "verify", `--root=${root}`, "--man=no", unit);
      for (const unit of UNITS) {
        const text = await Deno.readTextFile(`${PACKAGING}systemd/${unit}`);
        await Deno.writeTextFile(`${units}/${unit}`, text);
        assert.equal(await verify(unit), "", unit);
        await Deno.writeTextFile(`${units}/broken-${unit}`, text.replace("KillMode", "KilMode"));
        assert.match(await verify(`broken-${unit}`), /Unknown key 'KilMode'/);
      }
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
});

Deno.test("what root executes, the coordinator's user cannot write", async () => {
  const cache = async (unit: string) => {
    const text = await Deno.readTextFile(`${PACKAGING}systemd/${unit}`);
    const [directory] = valuesOf(text, "CacheDirectory");
    assert.deepEqual(valuesOf(text, "Environment"), [`CLUSTERRR_CACHE=/var/cache/${directory}`]);
    return directory;
  };
  const [agent, coordinator] = await Promise.all(UNITS.map(cache));
  assert.notEqual(agent, coordinator);
});

Deno.test("the instructions name files that are there", async () => {
  const text = await Deno.readTextFile(`${PACKAGING}INSTALL.md`);
  const named = new Set([...text.matchAll(/\bpackaging\/([\w./-]+)/g)].map(([, path]) => path!));
  const systemd = await Array.fromAsync(Deno.readDir(`${PACKAGING}systemd`));
  const expected = ["INSTALL.md", ...systemd.map(({ name }) => `systemd/${name}`)];
  assert.deepEqual([...named].sort(), expected.sort());
});

bed.test("the agent's unit leaves the rights that recording and replaying need", 120, async () => {
  const unit = await Deno.readTextFile(`${PACKAGING}systemd/clusterrr-agent.service`);
  const names = valuesOf(unit, "CapabilityBoundingSet").flatMap((value) => value.split(" "));
  assert.ok(names.length > 5, names.join(" "));
  const rights = names.map((name) => `+${name.slice("CAP_".length).toLowerCase()}`);
  const prefix = ["setpriv", "--no-new-privs", `--bounding-set=-all,${rights.join(",")}`, "--"];
  const spec = await bed.cluster("limited", [
    { name: "solo", role: "greet", host: 1, peers: [254] },
  ]);
  const out = bed.path("limited");
  const recorded = await bed.run(["record", spec, "--out", out, "--for", "6s"], { prefix });
  assert.equal(recorded.status, 0, recorded.stderr);
  const verified = await bed.run(["verify", out], { prefix });
  assert.equal(verified.status, 0, verified.stderr);
  assert.match(verified.stdout, /^OK: /m);
  assert.equal((await bed.run(["clean"], { prefix })).status, 0);
});
