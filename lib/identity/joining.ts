/**
 * Joining, the coordinator's part, and renewals: "Joining" in PROTOCOL.md.
 *
 * ```
 * createToken ─▶ token, carried over by a person ─▶ {secret, name, csr} ─▶ answerJoin ─▶ {certificate}
 * ```
 */
import { z } from "zod";
import { ClusterrrError, messageOf } from "../errors.ts";
import type { PeerIdentity } from "../protocol/channel.ts";
import { JOIN_REQUEST_BYTES_MAX } from "../protocol/greeting.ts";
import type { CertificateAuthority, IssuedCertificate } from "./authority.ts";
import {
  type CaCertificate,
  CERTIFICATE_DAYS,
  isIdentityName,
  randomSerial,
  readRequest,
  requireIdentityName,
} from "./certificates.ts";
import type { Identity } from "./files.ts";
import { encodeToken, hashSecret, JOIN_TOKEN_MINUTES, randomSecret } from "./join_token.ts";
import type { IdentityStore, Redemption, StoredToken } from "./store.ts";

const DAY_MS = 86_400_000;

export const joinRequest = z.strictObject({
  secret: z.string().regex(/^[0-9a-f]{32}$/),
  name: z.string().refine(isIdentityName, "is no name"),
  csr: z.string().max(8 << 10),
});
export const joinAnswer = z.union([
  z.strictObject({ certificate: z.string().max(16 << 10) }),
  z.strictObject({ error: z.string().max(4096) }),
]);
export type JoinRequest = z.infer<typeof joinRequest>;
export type JoinAnswer = z.infer<typeof joinAnswer>;

export interface TokenOptions {
  readonly role: StoredToken["role"];
  /** The only name that it is for; whoever joins chooses when there is none. */
  readonly name?: string | undefined;
  readonly minutes?: number;
}

/** Makes a token; only who holds its text can use it. */
export async function createToken(
  authority: CertificateAuthority,
  store: IdentityStore,
  { role, name, minutes = JOIN_TOKEN_MINUTES }: TokenOptions,
  now = Date.now(),
): Promise<{ token: string; expiresAt: Date }> {
  if (name !== undefined) requireIdentityName(role, name);
  if (!(minutes > 0 && minutes <= 7 * 24 * 60)) {
    throw new ClusterrrError("A join token is valid for up to 7 days");
  }
  const secret = randomSecret();
  const expiresAt = new Date(Math.floor((now + minutes * 60_000) / 1000) * 1000);
  await store.addToken({
    secretHash: hashSecret(secret),
    role,
    name: name ?? null,
    expiresAt: expiresAt.getTime(),
    usedBy: null,
  });
  const { fingerprint } = authority.certificate;
  return { token: encodeToken({ fingerprint, secret, expiresAt }), expiresAt };
}

/**
 * Answers the bytes of a request with the bytes of an answer: `onJoin` of `listenTls`. The token is used up only by
 * a request that gets a certificate.
 */
export async function answerJoin(
  authority: CertificateAuthority,
  store: IdentityStore,
  request: Uint8Array,
  now = new Date(),
): Promise<Uint8Array> {
  let answer: JoinAnswer;
  try {
    answer = { certificate: (await join(authority, store, request, now)).certificatePem };
  } catch (error) {
    if (!(error instanceof ClusterrrError)) throw error;
    answer = { error: messageOf(error).slice(0, 4096) };
  }
  return new TextEncoder().encode(JSON.stringify(answer));
}

async function join(
  authority: CertificateAuthority,
  store: IdentityStore,
  bytes: Uint8Array,
  now: Date,
): Promise<IssuedCertificate> {
  const { secret, name, csr } = parseRequest(bytes);
  await readRequest(csr); // before the token is used up
  if (name === "coordinator") throw new ClusterrrError(`The name "coordinator" is taken`);
  const serial = randomSerial();
  const notAfter = now.getTime() + CERTIFICATE_DAYS * DAY_MS;
  const outcome = await store.redeem(hashSecret(secret), { name, serial, notAfter }, now.getTime());
  if ("refused" in outcome) throw new ClusterrrError(refusalText(outcome.refused, name));
  return await authority.issue(csr, { role: outcome.role, name }, { now, serial });
}

function parseRequest(bytes: Uint8Array): JoinRequest {
  try {
    if (bytes.length > JOIN_REQUEST_BYTES_MAX) throw new Error("too long");
    return joinRequest.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
  } catch (cause) {
    throw new ClusterrrError("The coordinator does not understand this request to join", { cause });
  }
}

function refusalText(
  refused: Extract<Redemption, { refused: string }>["refused"],
  name: string,
): string {
  switch (refused) {
    case "unknown":
      return "The coordinator does not know this join token; make a new one there";
    case "used":
      return "This join token was used already; make a new one";
    case "expired":
      return "This join token has expired; make a new one";
    case "other name":
      return `This join token is for another name than ${name}`;
    case "name taken":
      return `The name ${name} is in use; choose another one, or make a token for this very name`;
  }
}

/**
 * Renews a peer's certificate, whose connection proves that it has the old one. Role and name stay.
 * @throws {ClusterrrError} where it was revoked meanwhile, or the request is wrong
 */
export async function renewCertificate(
  authority: CertificateAuthority,
  store: IdentityStore,
  peer: PeerIdentity,
  csr: string,
  now = new Date(),
): Promise<IssuedCertificate> {
  const issued = await authority.issue(csr, peer, { now });
  await store.addIssued({
    role: issued.role,
    name: issued.name,
    serial: issued.serial,
    notAfter: issued.notAfter.getTime(),
  });
  // Afterwards: a revocation either finds the new certificate among the issued, or is seen here.
  if (await store.isRevoked(peer.serial) || await store.isRevoked(issued.serial)) {
    await store.revoke(peer.role, peer.name, "renewed while it was revoked", now.getTime());
    throw new ClusterrrError(`The certificate of ${peer.role} ${peer.name} was revoked`);
  }
  return issued;
}

/**
 * Whether an identity should be renewed now: in the last third of its time, unless it is valid for as long as the
 * CA that would sign the new one.
 */
export function needsRenewal(
  { notAfter }: Pick<Identity, "notAfter">,
  ca: Pick<CaCertificate, "notAfter">,
  now = new Date(),
): boolean {
  return notAfter < ca.notAfter &&
    notAfter.getTime() - now.getTime() < CERTIFICATE_DAYS * DAY_MS / 3;
}
