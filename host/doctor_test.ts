import assert from "node:assert/strict";
import type { HostCheck } from "../lib/cli/ports.ts";
import { run } from "./command.ts";
import { checkHost } from "./doctor.ts";

function named(checks: readonly HostCheck[], name: string): HostCheck {
  const check = checks.find((c) => c.name === name);
  assert.ok(check, `no check "${name}"`);
  return check;
}

async function links(): Promise<string> {
  const { stdout } = await new Deno.Command("ip", { args: ["-br", "link"] }).output();
  return new TextDecoder().decode(stdout);
}

Deno.test("every failed check says what to do, and nothing is left behind", async () => {
  const before = await links();
  const checks = await checkHost();
  assert.equal(new Set(checks.map((c) => c.name)).size, checks.length);
  for (const check of checks) {
    assert.ok(check.detail !== "", check.name);
    assert.equal(check.mend === "", check.ok, `${check.name}: ${check.mend}`);
  }
  assert.equal(await links(), before);
});

Deno.test("a QEMU that is missing, or that the caller objects to, fails", async () => {
  const missing = named(await checkHost({ qemuProgram: "/nonexistent/qemu" }), "QEMU");
  assert.deepEqual(missing, {
    name: "QEMU",
    ok: false,
    needed: true,
    detail: "/nonexistent/qemu is not installed",
    mend: "apt-get install qemu-system-x86",
  });
  const odd = named(await checkHost({ qemuProgram: "true" }), "QEMU");
  assert.equal(odd.detail, "true does not tell its version");
  let asked = "";
  const objected = named(
    await checkHost({
      objectionToQemu: (version) => {
        asked = version;
        return "its log is not known";
      },
    }),
    "QEMU",
  );
  assert.match(asked, /^\d+\.\d+/);
  assert.deepEqual([objected.ok, objected.detail], [false, `${asked}: its log is not known`]);
});

Deno.test("without programs in PATH, each is reported with its package", async () => {
  const path = Deno.env.get("PATH")!;
  let checks: HostCheck[];
  try {
    Deno.env.set("PATH", "/nonexistent");
    checks = await checkHost();
  } finally {
    Deno.env.set("PATH", path);
  }
  assert.equal(named(checks, "tc").mend, "apt-get install iproute2");
  assert.deepEqual([named(checks, "nft").ok, named(checks, "nft").needed], [false, false]);
  assert.equal(named(checks, "network: bridge").ok, false);
  assert.equal(named(checks, "QEMU").ok, false);
});

const needsRoot = Deno.uid() !== 0 && (console.warn("skipped: namespaces need root"), true);

Deno.test({
  name: "a namespace is tried without a trace, wherever the trial ends",
  ignore: needsRoot,
  fn: async () => {
    const directory = await Deno.makeTempDir({ prefix: "clrr-doctor-" });
    const path = Deno.env.get("PATH")!;
    let stuck: HostCheck[];
    try {
      const script = `#!/bin/sh\ncase $2 in delete) exit 7;; esac\nPATH=${path} exec ip "$@"\n`;
      await Deno.writeTextFile(`${directory}/ip`, script, { mode: 0o755 });
      Deno.env.set("PATH", `${directory}:${path}`);
      stuck = await checkHost();
    } finally {
      Deno.env.set("PATH", path);
      await Deno.remove(directory, { recursive: true });
    }
    assert.equal(named(stuck, "network: namespace").ok, false);
    assert.equal(named(await checkHost(), "network: namespace").ok, true);
    assert.doesNotMatch(await run(["ip", "netns", "list"]), /^n\b/m);
    assert.doesNotMatch(await Deno.readTextFile("/proc/self/mounts"), / \/run\/netns\/n /);
  },
});

/** The checks of a doctor in a mount and a network namespace of its own, in which `commands` were run before. */
async function checksAfter(commands: string): Promise<HostCheck[]> {
  const doctor = new URL("./doctor.ts", import.meta.url).href;
  const stdin = `import { checkHost } from "${doctor}";
    console.log(JSON.stringify(await checkHost()));`;
  const deno = [Deno.execPath(), "run", "-A", "--no-check", "--no-lock", "-"];
  const shell = ["sh", "-ec", `${commands}; exec "$@"`, "sh"];
  return JSON.parse(await run(["unshare", "--mount", "--net", ...shell, ...deno], { stdin }));
}

Deno.test({
  name: "a container that is not privileged is told so",
  ignore: needsRoot,
  fn: async () => {
    const checks = await checksAfter(
      "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys",
    );
    const { ok, needed, detail, mend } = named(checks, "network: settings");
    assert.deepEqual([ok, needed], [false, true]);
    assert.match(detail, /disable_ipv6: Read-only file system/);
    assert.match(mend, /docker run --privileged/);
    assert.equal(named(checks, "network: bridge").ok, true);
    assert.equal(named(await checkHost(), "network: settings").ok, true);
  },
});

Deno.test({
  name: "a firewall that drops what NAT lets out is named, with what lets it out",
  ignore: needsRoot,
  fn: async () => {
    const chain = (name: string, hook: string, policy: string) =>
      `nft 'add chain ${name} { type filter hook ${hook} priority 0; policy ${policy}; }'`;
    const firewall = [
      "nft 'add table ip filter; add table inet other; add table ip6 six'",
      chain("ip filter FORWARD", "forward", "drop"),
      chain("ip filter INPUT", "input", "drop"),
      chain("inet other forward", "forward", "accept"),
      chain("ip6 six forward", "forward", "drop"),
    ].join("; ");
    const found = named(await checksAfter(firewall), "network: NAT");
    assert.deepEqual([found.ok, found.needed], [false, false]);
    assert.match(found.detail, /the firewall's ip filter FORWARD drops/);
    const [, command] = /^as root: (nft .*)$/.exec(found.mend)!;
    const mended = named(await checksAfter(`${firewall}; ${command}`), "network: NAT");
    assert.deepEqual([mended.ok, mended.detail], [true, "works"]);
  },
});
