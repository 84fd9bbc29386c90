import assert from "node:assert/strict";
import type { HostCheck } from "../lib/cli/ports.ts";
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
