/** `clusterrr coordinator`: the process around the coordinator's role. */
import { serveTelemetry } from "../host/telemetry_server.ts";
import { parseAddress } from "../host/tls/connector.ts";
import { listenTls } from "../host/tls/listener.ts";
import { openStore, type StoreKind } from "../lib/catalog/store.ts";
import type { AuthorityReport, CoordinatorRunOptions } from "../lib/cli/cluster_ports.ts";
import { processTerminal } from "../lib/cli/terminal.ts";
import { type Admissions, Coordinator } from "../lib/coordinator/coordinator.ts";
import { CoordinatorStore } from "../lib/coordinator/store.ts";
import { ClusterrrError, HostError } from "../lib/errors.ts";
import { CertificateAuthority, initializeAuthority } from "../lib/identity/authority.ts";
import { type Identity, loadIdentity } from "../lib/identity/files.ts";
import {
  answerJoin,
  createToken,
  needsRenewal,
  renewCertificate,
} from "../lib/identity/joining.ts";
import { IdentityKeeper } from "../lib/identity/renewal.ts";
import { KvIdentityStore } from "../lib/identity/kv_store.ts";
import type { IdentityStore } from "../lib/identity/store.ts";
import { Health } from "../lib/telemetry/health.ts";
import { conceal, logLevelFrom, logOf, startLogs } from "../lib/telemetry/log.ts";
import { createCoordinatorMetrics } from "../lib/telemetry/metrics.ts";
import { observeInto, showCoordinator } from "./coordinator_metrics.ts";
import config from "../deno.json" with { type: "json" };

const SHOW_EVERY_MS = 1_000;
const COORDINATOR = { role: "coordinator", name: "coordinator" } as const;

const directories = (state: string) => ({ ca: `${state}/ca`, coordinator: `${state}/identity` });
const DATABASE: StoreKind = {
  name: "the coordinator's database",
  advice:
    "Look at its owner and at the disk. Do not remove it: it has the hosts, the recordings and the " +
    "revoked certificates. Restore a copy if it is damaged.",
};
const openDatabase = (state: string) => openStore(`${state}/coordinator.sqlite3`, DATABASE);

/** `clusterrr ca init`: the CA, the coordinator's identity, the first operator's. */
export async function initAuthority(
  { state, operator, identity }: { state: string; operator: string; identity: string },
): Promise<AuthorityReport> {
  const { ca, coordinator } = directories(state);
  const made = await initializeAuthority({ ca, coordinator, operator: identity }, operator);
  const kv = await openDatabase(state);
  try {
    const identities = new KvIdentityStore(kv);
    for (const { peer, notAfter } of [made.coordinator, made.operator]) {
      await identities.addIssued({ ...peer, notAfter: notAfter.getTime() });
    }
  } finally {
    kv.close();
  }
  const { authority } = made;
  return { fingerprint: authority.certificate.fingerprint, ca, coordinator, operator: identity };
}

/** Runs until `signal`; what goes on on the hosts goes on without it. */
export async function runCoordinator(
  options: CoordinatorRunOptions,
  ready: (line: string) => void,
  signal: AbortSignal,
): Promise<void> {
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(startLogs(logLevelFrom(options.logLevel), processTerminal()));
  const log = logOf("coordinator");
  const { ca: caDirectory, coordinator: identityDirectory } = directories(options.state);
  const authority = await CertificateAuthority.load(caDirectory);
  const identity = await ownIdentity(authority, identityDirectory);
  const kv = await openDatabase(options.state);
  cleanup.defer(() => kv.close());
  const identities = new KvIdentityStore(kv);
  const health = new Health("coordinator", config.version);
  const metrics = createCoordinatorMetrics(config.version);
  let cutOff = (_serial: string): void => {}; // nobody is connected yet
  const coordinator = await Coordinator.open(
    new CoordinatorStore(kv),
    admissionsOf(authority, identities, (serial) => cutOff(serial)),
    {
      version: config.version,
      observer: observeInto(metrics),
      ...(options.lostAfterMs === undefined ? {} : { lostAfterMs: options.lostAfterMs }),
      ...(options.tunnelPort === undefined ? {} : { tunnelPort: options.tunnelPort }),
    },
  );
  cleanup.defer(() => coordinator.close());

  const listener = await listenTls({
    ...parseAddress(options.listen),
    identity,
    ca: authority.certificate,
    isRevoked: (serial) => identities.isRevoked(serial),
    onChannel: (channel) => {
      const { role, name } = channel.peer;
      log.debug("{role} {name} has connected", { role, name });
      coordinator.accept(channel);
    },
    onJoin: (request) => answerJoin(authority, identities, request),
    onRefused: ({ remote, reason }) => {
      metrics.connectionsRefused.add({});
      log.warning("refused {remote}: {reason}", { remote, reason });
    },
  });
  cutOff = (serial) => listener.cutOff(serial);
  cleanup.defer(() => listener.close());
  const keeper = new IdentityKeeper(identity, authority.certificate, {
    renew: () => authority.reissue(identityDirectory, COORDINATOR),
    onRenewed: (identity) => listener.useIdentity(identity),
    log,
  });
  keeper.start();
  cleanup.defer(() => keeper.close());
  if (options.metrics !== undefined) {
    const server = serveTelemetry(options.metrics, health, metrics);
    cleanup.defer(() => server.close());
    log.info("health and metrics on {url}", { url: server.url });
  }
  const shown = setInterval(() => showCoordinator(metrics, health, coordinator), SHOW_EVERY_MS);
  cleanup.defer(() => clearInterval(shown));
  const { host } = parseAddress(options.listen);
  ready(`listening on ${host.includes(":") ? `[${host}]` : host}:${listener.port}`);
  log.info("listening on port {port}", { port: listener.port });
  await aborted(signal);
  log.info("ending; runs go on without the coordinator");
}

/** The coordinator's identity. Its certificate is the CA's to renew, also where it has expired meanwhile. */
async function ownIdentity(authority: CertificateAuthority, directory: string): Promise<Identity> {
  try {
    const { identity } = await loadIdentity(directory);
    if (!needsRenewal(identity, authority.certificate)) return identity;
  } catch (error) {
    if (!(error instanceof ClusterrrError) || error instanceof HostError) throw error;
  }
  return await authority.reissue(directory, COORDINATOR);
}

/** @param cutOff closes the connections of a certificate, also those that are only being made */
function admissionsOf(
  authority: CertificateAuthority,
  store: IdentityStore,
  cutOff: (serial: string) => void,
): Admissions {
  return {
    invite: async (role, name, validMs) => {
      const { token } = await createToken(authority, store, {
        role,
        name,
        minutes: validMs / 60_000,
      });
      conceal(token);
      return token;
    },
    revoke: async (role, name) => {
      const revoked = await store.revoke(role, name, "revoked by an operator", Date.now());
      for (const { serial } of revoked) cutOff(serial);
    },
    renew: async (peer, csr) =>
      (await renewCertificate(authority, store, peer, csr)).certificatePem,
    isKnown: async (role, name) =>
      (await store.issued()).some((each) => each.role === role && each.name === name),
    revoked: async () => (await store.revoked()).map(({ serial }) => serial),
    revokedNames: async (role) => {
      const issued = (await store.issued()).filter((each) => each.role === role);
      const revoked = new Set((await store.revoked()).map(({ serial }) => serial));
      const valid = issued.filter(({ serial }) => !revoked.has(serial)).map(({ name }) => name);
      return new Set(issued.map(({ name }) => name)).difference(new Set(valid));
    },
  };
}

/** Resolves when `signal` fires. */
export function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
