/**
 * Joining, the part of the host that joins: "Joining" in PROTOCOL.md.
 *
 * ```
 * 1st connection: look at the certificates; the CA's must have the token's fingerprint      nothing is sent
 * 2nd connection: to the coordinator of exactly that CA: secret, name, request ─▶ certificate
 * ```
 */
import { createHash } from "node:crypto";
import { ClusterrrError, ProtocolError } from "../../lib/errors.ts";
import {
  type CaCertificate,
  createRequest,
  encodeKey,
  generateKey,
  readCaCertificate,
  readCertificate,
  requireIdentityName,
} from "../../lib/identity/certificates.ts";
import {
  CA_FILE,
  CERTIFICATE_FILE,
  type Identity,
  KEY_FILE,
  makeIdentity,
  requireNone,
  storeIdentity,
} from "../../lib/identity/files.ts";
import { decodeToken } from "../../lib/identity/join_token.ts";
import { joinAnswer } from "../../lib/identity/joining.ts";
import { JSON_KIND } from "../../lib/protocol/framing.ts";
import { JOIN_PROTOCOL } from "../../lib/protocol/greeting.ts";
import { openTls, withDeadline } from "./connector.ts";
import type { RelayedSocket } from "./relayed_socket.ts";
import { TlsChannel } from "./tls_channel.ts";

const SERVER_NAME = "coordinator.clusterrr";

export interface JoinOptions {
  readonly address: string;
  readonly token: string;
  readonly name: string;
  /** Where key, certificate and CA certificate are stored; must have none yet. */
  readonly directory: string;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

/**
 * Makes a key, gets a certificate for it and stores both.
 * @throws {ClusterrrError} where the token is no good, somebody else answers, or the coordinator refuses
 */
export async function joinCoordinator(
  options: JoinOptions,
): Promise<{ identity: Identity; ca: CaCertificate }> {
  const { address, name, directory, signal, timeoutMs } = options;
  const token = decodeToken(options.token);
  if (token.expiresAt.getTime() <= Date.now()) {
    throw new ClusterrrError(`The join token expired on ${token.expiresAt.toISOString()}`);
  }
  requireIdentityName("agent", name);
  await requireNone(directory, [KEY_FILE, CERTIFICATE_FILE, CA_FILE]);
  const joined = await withDeadline(address, signal, timeoutMs, async (onSocket) => {
    const ca = await findCa(address, token.fingerprint, onSocket);
    return await requestCertificate(address, ca, token.secret, name, onSocket);
  });
  await storeIdentity(directory, joined.identity, joined.ca.pem);
  return joined;
}

/** The CA's certificate as the coordinator shows it, once it has the fingerprint. Sends nothing. */
async function findCa(
  address: string,
  fingerprint: string,
  onSocket: (below: RelayedSocket) => void,
): Promise<CaCertificate> {
  const unchecked = { address, serverName: SERVER_NAME, protocol: JOIN_PROTOCOL };
  const { tls, below } = await openTls(unchecked, onSocket);
  const raw = tls.getPeerCertificate(true).issuerCertificate?.raw;
  tls.destroy();
  below.socket.destroy();
  if (!raw || createHash("sha256").update(raw).digest("hex") !== fingerprint) {
    throw new ClusterrrError(
      `${address} is not the coordinator that made this join token; nothing was sent to it`,
    );
  }
  const pem = `-----BEGIN CERTIFICATE-----\n${
    raw.toString("base64").replace(/.{64}(?=.)/g, "$&\n")
  }\n-----END CERTIFICATE-----\n`;
  return await readCaCertificate(pem, "The coordinator's CA certificate");
}

async function requestCertificate(
  address: string,
  ca: CaCertificate,
  secret: string,
  name: string,
  onSocket: (below: RelayedSocket) => void,
): Promise<{ identity: Identity; ca: CaCertificate }> {
  const secure = { address, serverName: SERVER_NAME, protocol: JOIN_PROTOCOL, ca };
  const { tls, below } = await openTls(secure, onSocket);
  // TLS has checked name and chain; role and CA are checked here, as everywhere.
  const { raw } = tls.getPeerCertificate();
  const { peer } = await readCertificate(raw, ca, `The certificate of ${address}`);
  if (peer.role !== "coordinator") throw new ClusterrrError(`${address} is no coordinator`);
  const channel = new TlsChannel(tls, below, peer);
  try {
    const keys = await generateKey();
    const request = { secret, name, csr: await createRequest(keys) };
    await channel.send(JSON_KIND, new TextEncoder().encode(JSON.stringify(request)));
    const message = await channel.receive();
    if (!message) throw new ClusterrrError(`${address} closed the connection without an answer`);
    const certificate = certificateOf(message.body);
    const keyPem = await encodeKey(keys.privateKey);
    const identity = await makeIdentity(keyPem, certificate, ca, "The new certificate");
    if (identity.peer.name !== name) {
      throw new ProtocolError("The new certificate has another name");
    }
    return { identity, ca };
  } finally {
    channel.close();
  }
}

function certificateOf(body: Uint8Array): string {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(body));
  } catch (cause) {
    throw new ProtocolError("The coordinator's answer is no JSON", { cause });
  }
  const answer = joinAnswer.safeParse(value);
  if (!answer.success) throw new ProtocolError("The coordinator's answer is not understood");
  if ("error" in answer.data) throw new ClusterrrError(answer.data.error);
  return answer.data.certificate;
}
