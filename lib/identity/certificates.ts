/**
 * Certificates: what ours contain, making them, and reading who a certificate speaks for.
 *
 * Subject `CN=<name>, OU=<role>`, one DNS name (`serverNameOf`), an EC P-256 key, signed by the one CA. TLS proves
 * that the peer has the key; {@link readCertificate} checks everything else once more itself, signature and dates
 * included: role and name must be read with care anyway, whom the TLS library trusts besides ours has changed between
 * its versions, and where hosts may join the listener cannot leave the refusal to it.
 */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";
import { ClusterrrError, messageOf } from "../errors.ts";
import { type PeerIdentity, type Role, ROLES, serverNameOf } from "../protocol/channel.ts";

export const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
export const CA_DAYS = 3650;
export const CERTIFICATE_DAYS = 365;
const DAY_MS = 86_400_000;
/** Certificates are valid from a little earlier, for hosts whose clocks differ. */
const BACKDATE_MS = 5 * 60_000;
const SERIAL_BYTES = 16;
const CSR_CHARACTERS_MAX = 8 << 10;
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

/** The CA's certificate: what everything else is checked against. */
export interface CaCertificate {
  readonly pem: string;
  /** SHA-256 of the certificate, lower-case hexadecimal. */
  readonly fingerprint: string;
  readonly subject: string;
  readonly notAfter: Date;
  readonly publicKey: CryptoKey;
}

/** A certificate that is ours, and until when. */
export interface ReadCertificate {
  readonly peer: PeerIdentity;
  readonly notAfter: Date;
}

/** Names of hosts and operators are DNS labels: they stand in certificates and in DNS names. */
export function isIdentityName(name: string): boolean {
  return /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name);
}

/** @throws {ClusterrrError} where there can be no such identity */
export function requireIdentityName(role: Role, name: string): void {
  if (!isIdentityName(name)) {
    throw new ClusterrrError(
      `"${name}" cannot be the name of an ${role}: use 1 to 63 of a-z, 0-9 and -, no - first or last`,
    );
  }
  if ((role === "coordinator") !== (name === "coordinator")) {
    throw new ClusterrrError(
      `The name "coordinator" belongs to the coordinator, and it has no other`,
    );
  }
}

export function generateKey(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]) as Promise<
    CryptoKeyPair
  >;
}

export async function encodeKey(key: CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY") +
    "\n";
}

/** @throws {ClusterrrError} where `pem` is no private EC P-256 key; `file` is what the message names */
export async function decodeKey(pem: string, file: string): Promise<CryptoKey> {
  try {
    const [bytes] = x509.PemConverter.decode(pem);
    return await crypto.subtle.importKey("pkcs8", bytes!, KEY_ALGORITHM, true, ["sign"]);
  } catch (cause) {
    throw new ClusterrrError(`${file} holds no EC P-256 key in PKCS #8: ${messageOf(cause)}`, {
      cause,
    });
  }
}

export async function createCaCertificate(keys: CryptoKeyPair, now = new Date()): Promise<string> {
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    // A random part: two installations' CAs must not have one name.
    name: `CN=clusterrr CA ${randomSerial().slice(0, 8)}`,
    ...validity(CA_DAYS, now),
    keys,
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return certificate.toString("pem") + "\n";
}

/** @throws {ClusterrrError} where `pem` is no CA certificate, or it is not valid now */
export async function readCaCertificate(
  pem: string,
  file: string,
  now = new Date(),
): Promise<CaCertificate> {
  const certificate = parse(pem, file);
  if (!certificate.getExtension(x509.BasicConstraintsExtension)?.ca) {
    throw new ClusterrrError(`${file} is no CA's certificate`);
  }
  requireDates(certificate, file, now);
  if (!await certificate.verify({ signatureOnly: true })) {
    throw new ClusterrrError(`${file} is not signed by its own key`);
  }
  return {
    pem,
    fingerprint: toHex(await certificate.getThumbprint("SHA-256")),
    subject: certificate.subject,
    notAfter: certificate.notAfter,
    publicKey: await certificate.publicKey.export(),
  };
}

/** Makes a certificate for `publicKey`; what it says comes from the arguments alone. */
export async function createCertificate(
  ca: CaCertificate,
  caKey: CryptoKey,
  publicKey: CryptoKey,
  identity: PeerIdentity,
  now = new Date(),
  days = CERTIFICATE_DAYS,
): Promise<string> {
  requireIdentityName(identity.role, identity.name);
  const dates = validity(days, now);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: identity.serial,
    subject: `CN=${identity.name}, OU=${identity.role}`,
    issuer: ca.subject,
    notBefore: dates.notBefore,
    notAfter: dates.notAfter < ca.notAfter ? dates.notAfter : ca.notAfter,
    publicKey,
    signingKey: caKey,
    signingAlgorithm: KEY_ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH]),
      new x509.SubjectAlternativeNameExtension([{ type: "dns", value: serverNameOf(identity) }]),
    ],
  });
  return certificate.toString("pem") + "\n";
}

/**
 * Who a certificate speaks for, once it is known to be of this CA and valid now.
 * @param certificate PEM or DER
 * @param what what messages name: a file, "the peer's certificate"
 * @throws {ClusterrrError} where it is not
 */
export async function readCertificate(
  certificate: string | Uint8Array,
  ca: CaCertificate,
  what: string,
  now = new Date(),
): Promise<ReadCertificate> {
  const read = parse(certificate, what);
  const signed = read.issuer === ca.subject &&
    await read.verify({ publicKey: ca.publicKey, signatureOnly: true }).catch(() => false);
  if (!signed) {
    throw new ClusterrrError(
      `${what} was not issued by this installation's CA (${ca.fingerprint.slice(0, 16)}…)`,
    );
  }
  requireDates(read, what, now);
  const role = one(read.subjectName.getField("OU"));
  const name = one(read.subjectName.getField("CN"));
  const names = read.getExtension(x509.SubjectAlternativeNameExtension)?.names.items ?? [];
  const usages: readonly string[] =
    read.getExtension(x509.ExtendedKeyUsageExtension)?.usages as string[] ?? [];
  if (
    !isRole(role) || name === undefined || !isIdentityName(name) || names.length !== 1 ||
    names[0]!.type !== "dns" || names[0]!.value !== serverNameOf({ role, name }) ||
    !usages.includes(SERVER_AUTH) || !usages.includes(CLIENT_AUTH) ||
    read.getExtension(x509.BasicConstraintsExtension)?.ca
  ) {
    throw new ClusterrrError(`${what} is no certificate of a coordinator, agent or operator`);
  }
  return { peer: { role, name, serial: normalSerial(read.serialNumber) }, notAfter: read.notAfter };
}

/** Whether a certificate is for this private key. */
export async function belongsTogether(certificatePem: string, key: CryptoKey): Promise<boolean> {
  const data = crypto.getRandomValues(new Uint8Array(32));
  const signature = await crypto.subtle.sign(KEY_ALGORITHM, key, data);
  const publicKey = await publicKeyOf(certificatePem);
  return await crypto.subtle.verify(KEY_ALGORITHM, publicKey, signature, data);
}

/** The key of a certificate that has been read before. */
export function publicKeyOf(certificatePem: string): Promise<CryptoKey> {
  return new x509.X509Certificate(certificatePem).publicKey.export();
}

/** A request for a certificate: proves that the asker has the key. Whom it is for is told beside it. */
export async function createRequest(keys: CryptoKeyPair): Promise<string> {
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: "CN=clusterrr",
    keys,
    signingAlgorithm: KEY_ALGORITHM,
  });
  return request.toString("pem") + "\n";
}

/**
 * The public key of a request, once its signature proves that the asker has the private one.
 * @throws {ClusterrrError} where it does not, or the key is not EC P-256
 */
export async function readRequest(pem: string): Promise<CryptoKey> {
  try {
    if (pem.length > CSR_CHARACTERS_MAX) {
      throw new Error(`longer than ${CSR_CHARACTERS_MAX} characters`);
    }
    const request = new x509.Pkcs10CertificateRequest(pem);
    const publicKey = await request.publicKey.export(KEY_ALGORITHM, ["verify"]);
    if (!await request.verify()) throw new Error("its signature is wrong");
    return publicKey;
  } catch (cause) {
    throw new ClusterrrError(
      `The certificate request is no PKCS #10 request for an EC P-256 key: ${messageOf(cause)}`,
      { cause },
    );
  }
}

/** 127 random bits, never 0 in front. */
export function randomSerial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(SERIAL_BYTES));
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return toHex(bytes);
}

export function toHex(bytes: ArrayBuffer | Uint8Array): string {
  return new Uint8Array(bytes).toHex();
}

function normalSerial(hex: string): string {
  return hex.toLowerCase().replace(/^0+(?=.)/, "");
}

function isRole(role: string | undefined): role is Role {
  return (ROLES as readonly (string | undefined)[]).includes(role);
}

function one(values: readonly string[]): string | undefined {
  return values.length === 1 ? values[0] : undefined;
}

function parse(certificate: string | Uint8Array, what: string): x509.X509Certificate {
  try {
    return new x509.X509Certificate(certificate as string | Uint8Array<ArrayBuffer>);
  } catch (cause) {
    throw new ClusterrrError(`${what} is no X.509 certificate: ${messageOf(cause)}`, { cause });
  }
}

function requireDates(
  { notBefore, notAfter }: x509.X509Certificate,
  what: string,
  now: Date,
): void {
  if (now < notBefore) {
    throw new ClusterrrError(
      `${what} is valid from ${notBefore.toISOString()} only; check the clocks`,
    );
  }
  if (now >= notAfter) throw new ClusterrrError(`${what} expired on ${notAfter.toISOString()}`);
}

function validity(days: number, now: Date): { notBefore: Date; notAfter: Date } {
  return {
    notBefore: new Date(now.getTime() - BACKDATE_MS),
    notAfter: new Date(now.getTime() + days * DAY_MS),
  };
}
