/** The coordinator's bookkeeping on real Deno KV files, also between two processes' connections. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { KvIdentityStore } from "./kv_store.ts";
import type { StoredToken } from "./store.ts";

const NOW = Date.now();
const HOUR_MS = 3_600_000;

const token = (secretHash: string, name: string | null = null): StoredToken => ({
  secretHash,
  role: "agent",
  name,
  expiresAt: NOW + HOUR_MS,
  usedBy: null,
});

/** Two stores on one file, as two coordinators that share it. */
async function withStores(
  work: (first: KvIdentityStore, second: KvIdentityStore) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-kv-" });
  const path = join(directory, "kv.sqlite3");
  const connections = [await Deno.openKv(path), await Deno.openKv(path)] as const;
  try {
    await work(new KvIdentityStore(connections[0]), new KvIdentityStore(connections[1]));
  } finally {
    for (const kv of connections) kv.close();
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("of many that redeem a token at once, exactly one succeeds", async () => {
  await withStores(async (first, second) => {
    for (let round = 0; round < 5; round++) {
      await first.addToken(token(`hash${round}`));
      const outcomes = await Promise.all(
        Array.from({ length: 6 }, (_, i) =>
          (i % 2 ? first : second).redeem(
            `hash${round}`,
            { name: `h${round}-${i}`, serial: `${round}${i}`, notAfter: NOW + HOUR_MS },
            NOW,
          )),
      );
      assert.equal(outcomes.filter((outcome) => "role" in outcome).length, 1);
      for (const outcome of outcomes) {
        if ("refused" in outcome) assert.equal(outcome.refused, "used");
      }
      assert.equal((await first.issued()).length, round + 1);
    }
  });
});

Deno.test("of two tokens redeemed at once for one name, one succeeds", async () => {
  await withStores(async (first, second) => {
    await first.addToken(token("a"));
    await first.addToken(token("b"));
    const certificate = (serial: string) => ({ name: "left", serial, notAfter: NOW + HOUR_MS });
    const outcomes = await Promise.all([
      first.redeem("a", certificate("1"), NOW),
      second.redeem("b", certificate("2"), NOW),
    ]);
    assert.equal(outcomes.filter((outcome) => "role" in outcome).length, 1);
    assert.equal(
      outcomes.filter((outcome) => "refused" in outcome && outcome.refused === "name taken").length,
      1,
    );
    const other = "role" in outcomes[0] ? "b" : "a";
    const right = { name: "right", serial: "3", notAfter: NOW + HOUR_MS };
    assert.deepEqual(await first.redeem(other, right, NOW), { role: "agent" }, "it is still good");
  });
});

Deno.test("tokens: expired, used, for one name", async () => {
  await withStores(async (store) => {
    const certificate = { name: "left", serial: "1", notAfter: NOW + HOUR_MS };
    await store.addToken(token("a", "right"));
    assert.deepEqual(await store.redeem("a", certificate, NOW), { refused: "other name" });
    assert.deepEqual(await store.redeem("a", certificate, NOW + HOUR_MS), { refused: "expired" });
    assert.deepEqual(await store.redeem("x", certificate, NOW), { refused: "unknown" });
    await store.addToken(token("b"));
    assert.deepEqual(await store.redeem("b", certificate, NOW), { role: "agent" });
    assert.deepEqual(await store.redeem("b", certificate, NOW), { refused: "used" });
  });
});

Deno.test("revoking a name revokes all its certificates, once, and no others", async () => {
  await withStores(async (first, second) => {
    const notAfter = NOW + HOUR_MS;
    for (const serial of ["1", "2"]) {
      await first.addIssued({ role: "agent", name: "left", serial, notAfter });
    }
    await first.addIssued({ role: "operator", name: "left", serial: "3", notAfter });
    await first.addIssued({ role: "agent", name: "left2", serial: "4", notAfter });
    const [one, two] = await Promise.all([
      first.revoke("agent", "left", "lost", NOW),
      second.revoke("agent", "left", "lost", NOW),
    ]);
    assert.equal(one.length + two.length, 2);
    assert.deepEqual((await second.revoked()).map(({ serial }) => serial), ["1", "2"]);
    assert.equal(await second.isRevoked("1"), true);
    assert.equal(await second.isRevoked("3"), false);
    assert.equal(await second.isRevoked("4"), false);
  });
});

Deno.test("a name has a bounded number of valid certificates, and can be revoked", async () => {
  await withStores(async (first) => {
    const record = (serial: string, notAfter = NOW + HOUR_MS) =>
      ({ role: "agent", name: "left", serial, notAfter }) as const;
    await first.addIssued(record("old", NOW - 1));
    for (let i = 0; i < 16; i++) await first.addIssued(record(`${i}`));
    await assert.rejects(first.addIssued(record("more")), /agent left has 16 valid certificates/);
    assert.equal((await first.revoke("agent", "left", "test", NOW)).length, 17);
    await first.addIssued(record("again"));
    assert.equal(await first.isRevoked("again"), false);
  });
});
