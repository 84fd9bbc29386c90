/** Certificates of a coordinator and an agent that are about to expire, over real connections. */
import assert from "node:assert/strict";
import { connectTls } from "../host/tls/connector.ts";
import { openStore } from "../lib/catalog/store.ts";
import { CertificateAuthority } from "../lib/identity/authority.ts";
import { loadIdentity, storeIdentity } from "../lib/identity/files.ts";
import { needsRenewal } from "../lib/identity/joining.ts";
import { KvIdentityStore } from "../lib/identity/kv_store.ts";
import { type Role, serverNameOf } from "../lib/protocol/channel.ts";
import { until } from "../lib/until_fixture.ts";
import { Agent } from "./agent/agent.ts";
import { initAuthority, runCoordinator } from "./coordinator.ts";

/** In the last third of a year. */
const DAYS_LEFT = 100;

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

Deno.test("coordinator and agent renew certificates that end soon, and go on with the new ones", async () => {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-renewal-" });
  const stop = new AbortController();
  let coordinator: Promise<void> | undefined;
  let agent: Agent | undefined;
  try {
    const state = `${directory}/coordinator`;
    await initAuthority({ state, operator: "admin", identity: `${directory}/admin` });
    const authority = await CertificateAuthority.load(`${state}/ca`);
    const places = { coordinator: `${state}/identity`, agent: `${directory}/agent/identity` };
    const now = new Date();
    await Deno.remove(places.coordinator, { recursive: true });
    const old = {
      coordinator: await authority.issueIdentity("coordinator", "coordinator", now, DAYS_LEFT),
      agent: await authority.issueIdentity("agent", "alpha", now, DAYS_LEFT),
    };
    await storeIdentity(places.coordinator, old.coordinator, authority.certificate.pem);
    await storeIdentity(places.agent, old.agent, authority.certificate.pem);
    const kv = await openStore(`${state}/coordinator.sqlite3`, { name: "the store", advice: "" });
    const { peer, notAfter } = old.agent;
    await new KvIdentityStore(kv).addIssued({ ...peer, notAfter: notAfter.getTime() });
    kv.close();

    const listening = Promise.withResolvers<string>();
    coordinator = runCoordinator(
      { state, listen: `127.0.0.1:${freePort()}`, logLevel: "error" },
      listening.resolve,
      stop.signal,
    );
    coordinator.catch(listening.reject);
    const address = /^listening on (\S+)$/.exec(await listening.promise)![1]!;
    const operator = await loadIdentity(`${directory}/admin`);
    const serialAt = async (address: string, role: Role, name: string) => {
      const serverName = serverNameOf({ role, name });
      const channel = await connectTls({ address, ...operator, serverName });
      channel.close();
      return channel.peer.serial;
    };
    const mended = (await loadIdentity(places.coordinator)).identity;
    assert.equal(needsRenewal(mended, authority.certificate), false);
    assert.equal(mended.keyPem, old.coordinator.keyPem);

    agent = await Agent.start({
      coordinator: address,
      state: `${directory}/agent`,
      link: { host: "127.0.0.1", port: 0 },
      lostAfterMs: 60_000,
      version: "0.1.0",
    });
    const states: boolean[] = [];
    await until(() => {
      if (states.at(-1) !== agent!.connected) states.push(agent!.connected);
      return states.join().endsWith("true,false,true");
    });
    const renewed = (await loadIdentity(places.agent)).identity;
    assert.equal(needsRenewal(renewed, authority.certificate), false);
    assert.equal(renewed.keyPem, old.agent.keyPem);
    assert.equal(await serialAt(address, "coordinator", "coordinator"), mended.peer.serial);
    const { host, port } = agent.link;
    assert.equal(await serialAt(`${host}:${port}`, "agent", "alpha"), renewed.peer.serial);
  } finally {
    await agent?.stop();
    stop.abort();
    await coordinator;
    await Deno.remove(directory, { recursive: true });
  }
});
