/** Certificates of a coordinator and an agent that are about to expire, over real connections. */
import assert from "node:assert/strict";
import { openStore } from "../lib/catalog/store.ts";
import { CertificateAuthority } from "../lib/identity/authority.ts";
import { loadIdentity, storeIdentity } from "../lib/identity/files.ts";
import { needsRenewal } from "../lib/identity/joining.ts";
import { KvIdentityStore } from "../lib/identity/kv_store.ts";
import { sleep } from "../lib/sleep.ts";
import { Agent } from "./agent/agent.ts";
import { initAuthority, runCoordinator } from "./coordinator.ts";

/** In the last third of a year. */
const DAYS_LEFT = 100;

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 20_000; !await holds();) {
    assert.ok(performance.now() < deadline, `not within 20 s: ${what}`);
    await sleep(50);
  }
}

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
    const serial = async () => (await loadIdentity(places.agent)).identity.peer.serial;
    await until("the agent has a new certificate", async () => await serial() !== peer.serial);
    await until("it is connected again", () => agent!.connected);
    const renewed = (await loadIdentity(places.agent)).identity;
    assert.equal(needsRenewal(renewed, authority.certificate), false);
    assert.equal(renewed.keyPem, old.agent.keyPem);
  } finally {
    await agent?.stop();
    stop.abort();
    await coordinator;
    await Deno.remove(directory, { recursive: true });
  }
});
