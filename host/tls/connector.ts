/**
 * Connects to a listener (`listener.ts`): TLS 1.3, the other side's certificate checked against our CA and
 * the name that is asked for, never against the address.
 */
import { connect as connectTcp } from "node:net";
import { connect as connectSecure, type TLSSocket } from "node:tls";
import { ClusterrrError, messageOf, ProtocolError } from "../../lib/errors.ts";
import { type CaCertificate, readCertificate } from "../../lib/identity/certificates.ts";
import type { Identity } from "../../lib/identity/files.ts";
import { type Channel, serverNameOf } from "../../lib/protocol/channel.ts";
import { CHANNEL_PROTOCOL, isWelcome } from "../../lib/protocol/greeting.ts";
import { type RelayedSocket, relaySocket } from "./relayed_socket.ts";
import { TlsChannel } from "./tls_channel.ts";

export const CONNECT_TIMEOUT_MS = 10_000;

export interface ConnectOptions {
  /** `host:port`, `[v6]:port`. */
  readonly address: string;
  readonly identity: Identity;
  readonly ca: CaCertificate;
  /** Who must be there: `serverNameOf({ role, name })`. */
  readonly serverName: string;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
  /** Whether the other side's certificate was revoked, for who has the list. */
  readonly isRevoked?: (serial: string) => boolean | Promise<boolean>;
}

/** What a connection needs below its certificates. */
export interface SecureOptions {
  readonly address: string;
  readonly serverName: string;
  readonly protocol: string;
  readonly identity?: Identity;
  /** Whom to trust; without it nobody is checked, for who only wants to look at the certificates. */
  readonly ca?: CaCertificate;
}

/**
 * Resolves once the other side has let us in.
 * @throws {ClusterrrError} where nobody answers, somebody else does, or we are refused
 * @throws the signal's reason when it is aborted
 */
export async function connectTls(options: ConnectOptions): Promise<Channel> {
  const { address, identity, ca, serverName, signal, isRevoked } = options;
  const secure = { address, serverName, protocol: CHANNEL_PROTOCOL, identity, ca };
  return await withDeadline(address, signal, options.timeoutMs, async (onSocket) => {
    const { tls, below } = await openTls(secure, onSocket);
    const raw = tls.getPeerCertificate().raw;
    const { peer } = await readCertificate(raw, ca, `The certificate of ${address}`);
    if (serverNameOf(peer) !== serverName) {
      throw new ClusterrrError(`${address} is ${serverNameOf(peer)}, not ${serverName}`);
    }
    if (await isRevoked?.(peer.serial)) {
      throw new ClusterrrError(`${address}: the certificate of ${serverName} was revoked`);
    }
    const channel = new TlsChannel(tls, below, peer);
    const welcome = await channel.receive();
    if (welcome === undefined) {
      throw new ClusterrrError(
        `${address} refused our certificate (${identity.peer.role} ${identity.peer.name}, serial ` +
          `${identity.peer.serial}): it is unknown there, expired or revoked` +
          (channel.closeReason ? ` (${channel.closeReason})` : ""),
      );
    }
    if (!isWelcome(welcome)) throw new ProtocolError(`${address} did not begin with a welcome`);
    return channel;
  });
}

/** Runs `work`; when it fails, is aborted or late, the sockets that it told of are destroyed. */
export async function withDeadline<T>(
  address: string,
  signal: AbortSignal | undefined,
  timeoutMs = CONNECT_TIMEOUT_MS,
  work: (onSocket: (below: RelayedSocket) => void) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const sockets: RelayedSocket[] = [];
  let giveUp!: (reason: unknown) => void;
  const givenUp = new Promise<never>((_, reject) => giveUp = reject);
  const onAbort = () => giveUp(signal!.reason);
  signal?.addEventListener("abort", onAbort);
  const timer = setTimeout(
    () => giveUp(new ClusterrrError(`${address} did not let us in within ${timeoutMs / 1000} s`)),
    timeoutMs,
  );
  try {
    return await Promise.race([work((below) => sockets.push(below)), givenUp]);
  } catch (error) {
    for (const { socket } of sockets) socket.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Connects and finishes the handshake; the socket is then paused. */
export function openTls(
  { address, serverName, protocol, identity, ca }: SecureOptions,
  onSocket: (below: RelayedSocket) => void,
): Promise<{ tls: TLSSocket; below: RelayedSocket }> {
  const { host, port } = parseAddress(address);
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) =>
      reject(new ClusterrrError(`Cannot connect to ${address}: ${reasonOf(cause)}`, { cause }));
    const socket = connectTcp({ host, port });
    const below = relaySocket(socket);
    onSocket(below);
    socket.once("error", fail);
    socket.once("connect", () => {
      const tls = connectSecure({
        socket: below.stream,
        servername: serverName,
        minVersion: "TLSv1.3",
        ALPNProtocols: [protocol],
        ...(identity ? { key: identity.keyPem, cert: identity.certificatePem } : {}),
        ...(ca ? { ca: [ca.pem] } : {}),
        rejectUnauthorized: ca !== undefined,
      });
      tls.once("secureConnect", () => {
        socket.pause(); // until there is a channel: TLS would keep all that comes
        if (tls.alpnProtocol === protocol) resolve({ tls, below });
        else fail(new Error(`it does not speak ${protocol}`));
      });
      tls.on("error", fail);
      tls.once("close", () => fail(new Error("the connection was closed in the handshake")));
    });
  });
}

/** Other than OpenSSL says it: whose certificate it is, and what that may mean. */
function reasonOf(cause: unknown): string {
  if ((cause as { code?: unknown }).code !== "SELF_SIGNED_CERT_IN_CHAIN") return messageOf(cause);
  return "it has a certificate of another authority (CA) than ours. " +
    "Is this the right address, and our identity that of its installation?";
}

/** @throws {ClusterrrError} where it is no `host:port` */
export function parseAddress(address: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^\s:[\]]+)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (!match || port < 1 || port > 65535) {
    throw new ClusterrrError(`"${address}" is no address; write HOST:PORT, or [IPv6]:PORT`);
  }
  return { host: match[1] ?? match[2]!, port };
}
