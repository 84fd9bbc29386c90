/** A CA, identities and a listener for tests: real certificates, real TLS on loopback. */
import { CertificateAuthority } from "../../lib/identity/authority.ts";
import type { Identity } from "../../lib/identity/files.ts";
import { type Channel, serverNameOf } from "../../lib/protocol/channel.ts";
import { type ConnectOptions, connectTls } from "./connector.ts";
import { type ListenOptions, listenTls, type Refusal, type TlsListener } from "./listener.ts";

export interface Installation {
  readonly authority: CertificateAuthority;
  readonly coordinator: Identity;
  readonly agent: Identity;
  readonly operator: Identity;
}

export async function makeInstallation(): Promise<Installation> {
  const { authority } = await CertificateAuthority.create();
  return {
    authority,
    coordinator: await authority.issueIdentity("coordinator", "coordinator"),
    agent: await authority.issueIdentity("agent", "left"),
    operator: await authority.issueIdentity("operator", "ann"),
  };
}

/** A coordinator that listens, and keeps whom it let in and whom it refused. */
export interface TestServer {
  readonly listener: TlsListener;
  readonly address: string;
  readonly refusals: Refusal[];
  readonly revoked: Set<string>;
  /** The channel of the next peer that is let in. */
  nextChannel(): Promise<Channel>;
  connect(identity: Identity, options?: Partial<ConnectOptions>): Promise<Channel>;
  /** Both ends of one connection. */
  pair(identity: Identity): Promise<{ client: Channel; server: Channel }>;
}

/** Runs `work` against a listener; afterwards all is closed. */
export async function withServer(
  installation: Installation,
  work: (server: TestServer) => Promise<void>,
  options: Partial<ListenOptions> = {},
): Promise<void> {
  const { authority, coordinator } = installation;
  const ca = authority.certificate;
  const refusals: Refusal[] = [];
  const revoked = new Set<string>();
  const arrived: Channel[] = [];
  const waiting: ((channel: Channel) => void)[] = [];
  const listener = await listenTls({
    host: "127.0.0.1",
    port: 0,
    identity: coordinator,
    ca,
    isRevoked: (serial) => revoked.has(serial),
    onChannel: (channel) => {
      const next = waiting.shift();
      if (next) next(channel);
      else arrived.push(channel);
    },
    onRefused: (refusal) => refusals.push(refusal),
    ...options,
  });
  const address = `127.0.0.1:${listener.port}`;
  const opened: Channel[] = [];
  const server: TestServer = {
    listener,
    address,
    refusals,
    revoked,
    nextChannel: () => {
      const channel = arrived.shift();
      return channel ? Promise.resolve(channel) : new Promise((resolve) => waiting.push(resolve));
    },
    async connect(identity, options) {
      const serverName = serverNameOf(coordinator.peer);
      const channel = await connectTls({ address, identity, ca, serverName, ...options });
      opened.push(channel);
      return channel;
    },
    async pair(identity) {
      const [client, other] = await Promise.all([server.connect(identity), server.nextChannel()]);
      return { client, server: other };
    },
  };
  try {
    await work(server);
  } finally {
    for (const channel of opened) channel.close();
    await listener.close();
    await Promise.all(opened.map(({ closed }) => closed));
  }
}
