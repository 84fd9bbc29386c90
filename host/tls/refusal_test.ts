/** Who is not let in, over real TLS on loopback: and gets no byte of ours. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { ClusterrrError } from "../../lib/errors.ts";
import { CertificateAuthority } from "../../lib/identity/authority.ts";
import type { Identity } from "../../lib/identity/files.ts";
import type { Channel } from "../../lib/protocol/channel.ts";
import { until } from "../../lib/until_fixture.ts";
import { makeInstallation, type TestServer, withServer } from "./channel_fixture.ts";
import { connectTls, openTls, withDeadline } from "./connector.ts";
import { listenTls } from "./listener.ts";

const installation = await makeInstallation();
const { authority, agent, coordinator } = installation;
const ca = authority.certificate;
const DAY_MS = 86_400_000;

/**
 * The bytes that a client gets after its handshake, until the connection is closed. A TLS 1.3 client is through
 * its handshake before the server has seen its certificate.
 */
async function bytesFor(
  server: TestServer,
  identity: Identity | undefined,
  protocol = "clusterrr/1",
) {
  let received = 0;
  try {
    await withDeadline(server.address, undefined, 5000, async (onSocket) => {
      const secure = { address: server.address, serverName: "coordinator.clusterrr", protocol, ca };
      const { tls, below } = await openTls(identity ? { ...secure, identity } : secure, onSocket);
      tls.on("data", (bytes) => received += bytes.length);
      below.socket.resume();
      await new Promise((resolve) => tls.once("close", resolve));
    });
  } catch (error) {
    assert.match((error as Error).message, /Cannot connect/);
  }
  return received;
}

for (const joining of [false, true]) {
  const options = joining ? { onJoin: () => Promise.resolve(new Uint8Array()) } : {};
  const where = joining ? " (where hosts may join)" : "";

  Deno.test(`no certificate: no byte${where}`, async () => {
    await withServer(installation, async (server) => {
      assert.equal(await bytesFor(server, undefined), 0);
      await until(() => server.refusals.length === 1);
    }, options);
  });

  Deno.test(`a certificate of another CA: no byte${where}`, async () => {
    const other = await makeInstallation();
    await withServer(installation, async (server) => {
      assert.equal(await bytesFor(server, other.agent), 0);
      await until(() => server.refusals.length === 1);
      await assert.rejects(server.connect(other.agent), ClusterrrError);
    }, options);
  });

  Deno.test(`an expired certificate: no byte${where}`, async () => {
    // A CA that is a month old, and a certificate of its first day that was valid for one.
    const then = new Date(Date.now() - 30 * DAY_MS);
    const made = await CertificateAuthority.create(then);
    const old = {
      authority: made.authority,
      coordinator: await made.authority.issueIdentity("coordinator", "coordinator", then),
      agent: await made.authority.issueIdentity("agent", "left", then),
      operator: await made.authority.issueIdentity("operator", "ann", then),
    };
    const expired = await made.authority.issueIdentity("agent", "old", then, 1);
    await withServer(old, async (server) => {
      await assert.rejects(server.connect(expired), /expired or revoked|Cannot connect/);
      await until(() => server.refusals.length === 1);
      const { client } = await server.pair(old.agent);
      assert.equal(client.peer.role, "coordinator", "one that is valid gets in");
    }, options);
  });

  Deno.test(`a revoked certificate: no byte${where}`, async () => {
    await withServer(installation, async (server) => {
      server.revoked.add(agent.peer.serial);
      assert.equal(await bytesFor(server, agent), 0);
      await assert.rejects(server.connect(agent), /refused our certificate \(agent left, serial/);
      await until(() => server.refusals.length === 2);
      assert.match(server.refusals[0]!.reason, /agent left was revoked/);
      server.revoked.clear();
      await server.pair(agent);
    }, options);
  });
}

Deno.test("revoking closes the connections that there are, and no others", async () => {
  await withServer(installation, async (server) => {
    const revoked = await server.pair(agent);
    const other = await server.pair(installation.operator);
    const pending = revoked.client.receive();
    server.revoked.add(agent.peer.serial);
    server.listener.cutOff(agent.peer.serial);
    assert.equal(await pending, undefined);
    await Promise.all([revoked.client.closed, revoked.server.closed]);
    assert.equal(revoked.server.closeReason, "its certificate was revoked");
    await other.client.send(1, Uint8Array.of(5));
    assert.deepEqual((await other.server.receive())?.body, Uint8Array.of(5));
  });
});

Deno.test("a certificate that expires while it is connected ends the connection", async () => {
  const seconds = 3;
  const short = await authority.issueIdentity("agent", "short", new Date(), seconds / 86_400);
  await withServer(installation, async (server) => {
    const { client, server: other } = await server.pair(short);
    await client.closed;
    await other.closed;
    assert.equal(other.closeReason, "its certificate has expired");
    assert.ok(new Date() >= short.notAfter);
    await assert.rejects(server.connect(short), ClusterrrError);
  }, { expiryCheckMs: 50 });
});

Deno.test("a host that is revoked in the moment in which it connects is not let in", async () => {
  let check!: () => void;
  const checking = new Promise<void>((resolve) => check = resolve);
  let answer!: (revoked: boolean) => void;
  const letIn: Channel[] = [];
  await withServer(installation, async (server) => {
    const connecting = assert.rejects(server.connect(agent), /refused our certificate/);
    await checking;
    server.listener.cutOff(agent.peer.serial);
    answer(false); // what was read before the revocation
    await connecting;
    assert.deepEqual(letIn, []);
    assert.deepEqual(server.refusals.map(({ reason }) => reason), [
      "The channel is closed: its certificate was revoked",
    ]);
  }, {
    isRevoked: () => {
      check();
      return new Promise((resolve) => answer = resolve);
    },
    onChannel: (channel) => letIn.push(channel),
  });
});

Deno.test("somebody else in the place of the coordinator is found out", async () => {
  const letIn: Channel[] = [];
  const onChannel = (channel: Channel) => letIn.push(channel);
  const listen = (identity: Identity, issuer = ca) =>
    listenTls({
      host: "127.0.0.1",
      port: 0,
      identity,
      ca: issuer,
      isRevoked: () => false,
      onChannel,
    });
  const other = await makeInstallation();
  const cases: [Identity, RegExp][] = [
    [agent, /does not match certificate's altnames/],
    [other.coordinator, /unable to (verify|get local issuer)/],
  ];
  for (const [identity, expected] of cases) {
    const listener = await listen(identity);
    const address = `127.0.0.1:${listener.port}`;
    await assert.rejects(
      connectTls({ address, identity: agent, ca, serverName: "coordinator.clusterrr" }),
      expected,
    );
    await listener.close();
    assert.deepEqual(letIn, []);
  }
  const revoked = await listen(coordinator);
  await assert.rejects(
    connectTls({
      address: `127.0.0.1:${revoked.port}`,
      identity: agent,
      ca,
      serverName: "coordinator.clusterrr",
      isRevoked: (serial) => serial === coordinator.peer.serial,
    }),
    /was revoked/,
  );
  await revoked.close();
});

/** A plain TCP client: what it gets, and how long it is kept. */
async function plainClient(
  address: string,
  bytes: Uint8Array,
): Promise<{ received: number; ms: number }> {
  const start = performance.now();
  const socket: Socket = connect(Number(address.split(":")[1]), "127.0.0.1");
  let received = 0;
  socket.on("error", () => {});
  socket.on("data", (data) => received += data.length);
  socket.write(bytes);
  await new Promise((resolve) => socket.once("close", resolve));
  return { received, ms: performance.now() - start };
}

Deno.test("garbage is closed at once, a slow handshake after its time", async () => {
  await withServer(installation, async (server) => {
    const garbage = await plainClient(
      server.address,
      new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"),
    );
    assert.ok(garbage.received <= 7, "no more than a TLS alert");
    const slow = await plainClient(server.address, Uint8Array.of(0x16, 0x03, 0x01));
    assert.equal(slow.received, 0);
    assert.ok(slow.ms >= 1_990, `${slow.ms} ms`);
    await until(() => server.refusals.length === 2);
    assert.match(server.refusals[1]!.reason, /did not finish its handshake in time/);
    await server.pair(agent);
  }, { handshakeTimeoutMs: 2_000 });
});

Deno.test("a peer that speaks another version of the protocol, or only TLS 1.2, does not get in", async () => {
  await withServer(installation, async (server) => {
    assert.equal(await bytesFor(server, agent, "clusterrr/2"), 0);
    const { connect: connectSecure } = await import("node:tls");
    const failure = await new Promise<string>((resolve) => {
      const socket = connectSecure({
        host: "127.0.0.1",
        port: server.listener.port,
        servername: "coordinator.clusterrr",
        ca: [ca.pem],
        key: agent.keyPem,
        cert: agent.certificatePem,
        ALPNProtocols: ["clusterrr/1"],
        minVersion: "TLSv1.2",
        maxVersion: "TLSv1.2",
      }, () => resolve("connected"));
      socket.on("error", (error) => resolve(error.message));
    });
    assert.match(failure, /ProtocolVersion|disconnected before secure/);
    await until(() => server.refusals.length === 2);
  });
});

Deno.test("connecting ends with the signal, the timeout, or nobody there", async () => {
  const silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = `127.0.0.1:${silent.addr.port}`;
  const options = { address, identity: agent, ca, serverName: "coordinator.clusterrr" };
  await assert.rejects(
    connectTls({ ...options, timeoutMs: 50 }),
    /did not let us in within 0.05 s/,
  );
  const controller = new AbortController();
  const connecting = connectTls({ ...options, signal: controller.signal });
  controller.abort(new Error("never mind"));
  await assert.rejects(connecting, /never mind/);
  silent.close();
  await assert.rejects(connectTls(options), /Cannot connect to 127.0.0.1:\d+: .*ECONNREFUSED/);
});
