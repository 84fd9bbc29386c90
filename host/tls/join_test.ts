/** Joining over real TLS, with the coordinator's bookkeeping in a real Deno KV. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { CertificateAuthority } from "../../lib/identity/authority.ts";
import { loadIdentity } from "../../lib/identity/files.ts";
import { decodeToken, encodeToken, randomSecret } from "../../lib/identity/join_token.ts";
import { answerJoin, createToken, renewCertificate } from "../../lib/identity/joining.ts";
import { IDENTITY_METHODS } from "../../lib/identity/identity_methods.ts";
import { KvIdentityStore } from "../../lib/identity/kv_store.ts";
import { renewIdentity } from "../../lib/identity/renewal.ts";
import { startRpc } from "../../lib/protocol/rpc.ts";
import { makeInstallation, type TestServer, withServer } from "./channel_fixture.ts";
import { joinCoordinator } from "./join.ts";

const installation = await makeInstallation();
const { authority } = installation;

interface Joining extends TestServer {
  readonly store: KvIdentityStore;
  readonly directory: string;
  /** How many requests have come. */
  requests: number;
}

async function withJoining(work: (joining: Joining) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-join-" });
  const kv = await Deno.openKv(join(directory, "kv.sqlite3"));
  const store = new KvIdentityStore(kv);
  let joining: Joining | undefined;
  try {
    await withServer(installation, async (server) => {
      joining = { ...server, store, directory, requests: 0 };
      await work(joining);
    }, {
      isRevoked: (serial) => store.isRevoked(serial),
      onJoin: (request) => {
        joining!.requests++;
        return answerJoin(authority, store, request);
      },
    });
  } finally {
    kv.close();
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("a host joins with a token, connects, renews, is revoked", async () => {
  await withJoining(async (server) => {
    const { address, store } = server;
    const directory = join(server.directory, "agent");
    const { token } = await createToken(authority, store, { role: "agent" });
    const { identity } = await joinCoordinator({ address, token, name: "right", directory });
    assert.deepEqual({ ...identity.peer, serial: "" }, {
      role: "agent",
      name: "right",
      serial: "",
    });
    assert.equal((await Deno.stat(join(directory, "key.pem"))).mode! & 0o777, 0o600);
    assert.deepEqual((await loadIdentity(directory)).identity, identity);

    const { client, server: other } = await server.pair(identity);
    assert.deepEqual(other.peer, identity.peer);
    startRpc(other, {
      serves: IDENTITY_METHODS,
      handlers: {
        "identity.renew": async ({ csr }, { peer }) => ({
          certificate: (await renewCertificate(authority, store, peer, csr)).certificatePem,
        }),
      },
      calls: {},
    });
    const rpc = startRpc(client, { serves: {}, handlers: {}, calls: IDENTITY_METHODS });
    const renewed = await renewIdentity(directory, (params) => rpc.call("identity.renew", params));
    assert.equal(renewed.keyPem, identity.keyPem, "the key stays");
    assert.notEqual(renewed.peer.serial, identity.peer.serial);
    assert.deepEqual((await loadIdentity(directory)).identity, renewed);
    await server.pair(renewed);

    const revoked = await store.revoke("agent", "right", "removed", Date.now());
    assert.deepEqual(
      revoked.map(({ serial }) => serial).sort(),
      [identity.peer.serial, renewed.peer.serial].sort(),
    );
    for (const { serial } of revoked) server.listener.cutOff(serial);
    await Promise.all([client.closed, other.closed]);
    await assert.rejects(server.connect(identity), /refused our certificate/);
    await assert.rejects(server.connect(renewed), /refused our certificate/);
  });
});

Deno.test("a token works once, also for two hosts at the same moment", async () => {
  await withJoining(async ({ address, store, directory }) => {
    const { token } = await createToken(authority, store, { role: "agent" });
    const attempts = await Promise.allSettled(
      ["a", "b", "c"].map((name) =>
        joinCoordinator({ address, token, name, directory: join(directory, name) })
      ),
    );
    const failures = attempts.filter((attempt) => attempt.status === "rejected");
    assert.equal(failures.length, 2);
    for (const { reason } of failures) assert.match(reason.message, /used already/);
    await assert.rejects(
      joinCoordinator({ address, token, name: "d", directory: join(directory, "d") }),
      /used already/,
    );
    await assert.rejects(Deno.stat(join(directory, "d")), Deno.errors.NotFound);
    assert.equal((await store.issued()).length, 1);
  });
});

Deno.test("tokens for other names, unknown, taken back or expired ones are refused", async () => {
  await withJoining(async (server) => {
    const { address, store } = server;
    const attempt = (token: string, name: string) =>
      joinCoordinator({ address, token, name, directory: join(server.directory, "x") });
    const named = await createToken(authority, store, { role: "agent", name: "right" });
    await assert.rejects(attempt(named.token, "left"), /for another name than left/);

    const { fingerprint } = authority.certificate;
    const expiresAt = new Date(Date.now() + 60_000);
    const unknown = encodeToken({ fingerprint, secret: randomSecret(), expiresAt });
    await assert.rejects(attempt(unknown, "left"), /does not know this join token/);

    const requestsBefore = server.requests;
    const late = encodeToken({
      ...decodeToken(named.token),
      expiresAt: new Date(Date.now() - 1000),
    });
    await assert.rejects(attempt(late, "right"), /expired on/);
    assert.equal(server.requests, requestsBefore, "not even asked");
    // An expiry that was tampered with does not help: the coordinator keeps its own.
    const past = await createToken(
      authority,
      store,
      { role: "agent", minutes: 1 },
      Date.now() - 120_000,
    );
    const stretched = encodeToken({ ...decodeToken(past.token), expiresAt });
    await assert.rejects(attempt(stretched, "left"), /has expired; make a new one/);

    for (const name of ["coordinator", "-x", "a.b", "", "ä"]) {
      await assert.rejects(
        attempt(named.token, name),
        /cannot be the name|belongs to the coordinator/,
      );
    }
    await attempt(named.token, "right");
    await assert.rejects(attempt(named.token, "right"), /exists and is not overwritten/);
  });
});

Deno.test("a name in use is only given again by a token for this very name, or after a revocation", async () => {
  await withJoining(async ({ address, store, directory }) => {
    let n = 0;
    const attempt = async (fixed: string | undefined) => {
      const { token } = await createToken(authority, store, { role: "agent", name: fixed });
      const { identity } = await joinCoordinator({
        address,
        token,
        name: "right",
        directory: join(directory, `${n++}`),
      });
      return identity.peer.serial;
    };
    await attempt(undefined);
    await assert.rejects(attempt(undefined), /The name right is in use/);
    await attempt("right");
    await store.revoke("agent", "right", "lost", Date.now());
    await attempt(undefined);
  });
});

Deno.test("a coordinator with another fingerprint is sent nothing", async () => {
  const other = await makeInstallation();
  await withJoining(async (server) => {
    const token = encodeToken({
      fingerprint: other.authority.certificate.fingerprint,
      secret: randomSecret(),
      expiresAt: new Date(Date.now() + 60_000),
    });
    const directory = join(server.directory, "x");
    await assert.rejects(
      joinCoordinator({ address: server.address, token, name: "right", directory }),
      /is not the coordinator that made this join token; nothing was sent/,
    );
    assert.equal(server.requests, 0);
  });
});

Deno.test("an agent that shows the right CA is not the coordinator", async () => {
  const posing = { ...installation, coordinator: installation.agent };
  let requests = 0;
  await withServer(posing, async ({ address }) => {
    const token = encodeToken({
      fingerprint: authority.certificate.fingerprint,
      secret: randomSecret(),
      expiresAt: new Date(Date.now() + 60_000),
    });
    await assert.rejects(
      joinCoordinator({ address, token, name: "right", directory: "/nonexistent/clusterrr" }),
      /does not match certificate's altnames/,
    );
  }, {
    onJoin: () => {
      requests++;
      return Promise.resolve(new Uint8Array());
    },
  });
  assert.equal(requests, 0);
});

Deno.test("where no one may join, the handshake ends it", async () => {
  const { authority: other } = await CertificateAuthority.create();
  await withServer(installation, async ({ address }) => {
    const token = encodeToken({
      fingerprint: other.certificate.fingerprint,
      secret: randomSecret(),
      expiresAt: new Date(Date.now() + 60_000),
    });
    await assert.rejects(
      joinCoordinator({ address, token, name: "right", directory: "/nonexistent/clusterrr" }),
      /Cannot connect/,
    );
  });
});
