/**
 * The certificate authority of an installation, `clusterrr ca init`: one key that signs the certificates of the
 * coordinator, the agents and the operators. It lives with the coordinator.
 */
import { join } from "node:path";
import { ClusterrrError } from "../errors.ts";
import type { PeerIdentity, Role } from "../protocol/channel.ts";
import {
  belongsTogether,
  type CaCertificate,
  createCaCertificate,
  createCertificate,
  decodeKey,
  encodeKey,
  generateKey,
  publicKeyOf,
  randomSerial,
  readCaCertificate,
  readCertificate,
  readRequest,
} from "./certificates.ts";
import {
  CA_FILE,
  CERTIFICATE_FILE,
  type Identity,
  makeIdentity,
  readSecretSafely,
  replaceCertificate,
  requireNone,
  storeIdentity,
  writeNew,
} from "./files.ts";

export const CA_KEY_FILE = "ca.key";

/** A certificate that was issued. */
export interface IssuedCertificate extends PeerIdentity {
  readonly certificatePem: string;
  readonly notAfter: Date;
}

export class CertificateAuthority {
  readonly #key: CryptoKey;
  /** @param key the private key of `certificate` */
  constructor(readonly certificate: CaCertificate, key: CryptoKey) {
    this.#key = key;
  }

  /** Makes a new one, in memory. */
  static async create(
    now = new Date(),
  ): Promise<{ authority: CertificateAuthority; keyPem: string }> {
    const keys = await generateKey();
    const pem = await createCaCertificate(keys, now);
    const certificate = await readCaCertificate(pem, "the new CA certificate", now);
    return {
      authority: new CertificateAuthority(certificate, keys.privateKey),
      keyPem: await encodeKey(keys.privateKey),
    };
  }

  /** @throws {ClusterrrError} where the files cannot be read, do not fit or have expired */
  static async load(directory: string, now = new Date()): Promise<CertificateAuthority> {
    const path = (name: string) => join(directory, name);
    const [keyPem, pem] = await Promise.all(
      [CA_KEY_FILE, CA_FILE].map((name) => readSecretSafely(path(name))),
    );
    const certificate = await readCaCertificate(pem!, path(CA_FILE), now);
    const key = await decodeKey(keyPem!, path(CA_KEY_FILE));
    if (!await belongsTogether(pem!, key)) {
      throw new ClusterrrError(`${path(CA_KEY_FILE)} is not the key of ${path(CA_FILE)}`);
    }
    return new CertificateAuthority(certificate, key);
  }

  /**
   * Issues a certificate for the key of a request (PKCS #10, PEM), whose signature must prove that the asker
   * has it. Nothing else is taken from the request.
   * @param serial a new random one, unless the caller has noted one already
   */
  async issue(
    requestPem: string,
    { role, name }: Pick<PeerIdentity, "role" | "name">,
    { now = new Date(), serial = randomSerial(), days }: {
      now?: Date;
      serial?: string;
      days?: number;
    } = {},
  ): Promise<IssuedCertificate> {
    return await this.#sign(await readRequest(requestPem), { role, name, serial }, now, days);
  }

  /** Makes a key with its certificate: for the coordinator itself, and operators on its host. */
  async issueIdentity(
    role: Role,
    name: string,
    now = new Date(),
    days?: number,
  ): Promise<Identity> {
    const keys = await generateKey();
    const identity = { role, name, serial: randomSerial() };
    const { certificatePem } = await this.#sign(keys.publicKey, identity, now, days);
    const keyPem = await encodeKey(keys.privateKey);
    return await makeIdentity(keyPem, certificatePem, this.certificate, "the new certificate", now);
  }

  /**
   * Replaces the certificate of an identity on this host by a new one for the same key, also where it has expired.
   * @throws {ClusterrrError} where key and certificate in `directory` are no pair
   */
  async reissue(
    directory: string,
    { role, name }: Pick<PeerIdentity, "role" | "name">,
    now = new Date(),
  ): Promise<Identity> {
    const old = await readSecretSafely(join(directory, CERTIFICATE_FILE));
    const identity = { role, name, serial: randomSerial() };
    const { certificatePem } = await this.#sign(await publicKeyOf(old), identity, now, undefined);
    return await replaceCertificate(directory, certificatePem, now);
  }

  async #sign(
    publicKey: CryptoKey,
    identity: PeerIdentity,
    now: Date,
    days: number | undefined,
  ): Promise<IssuedCertificate> {
    const ca = this.certificate;
    const certificatePem = await createCertificate(ca, this.#key, publicKey, identity, now, days);
    const { peer, notAfter } = await readCertificate(
      certificatePem,
      ca,
      "the new certificate",
      now,
    );
    return { ...peer, certificatePem, notAfter };
  }
}

/** Where `clusterrr ca init` puts things. */
export interface InitializedAuthority {
  readonly authority: CertificateAuthority;
  readonly coordinator: Identity;
  readonly operator: Identity;
}

/**
 * Makes the CA, the coordinator's identity and the first operator's: each in a directory of its own.
 * @throws {ClusterrrError} where one of them is there already; then nothing is written
 */
export async function initializeAuthority(
  directories: { readonly ca: string; readonly coordinator: string; readonly operator: string },
  operatorName: string,
  now = new Date(),
): Promise<InitializedAuthority> {
  await requireNone(directories.ca, [CA_KEY_FILE, CA_FILE]);
  for (const directory of [directories.coordinator, directories.operator]) {
    await requireNone(directory, ["key.pem", "certificate.pem", "ca.pem"]);
  }
  const { authority, keyPem } = await CertificateAuthority.create(now);
  const coordinator = await authority.issueIdentity("coordinator", "coordinator", now);
  const operator = await authority.issueIdentity("operator", operatorName, now);
  const { pem } = authority.certificate;
  await writeNew(join(directories.ca, CA_KEY_FILE), keyPem, 0o600);
  await writeNew(join(directories.ca, CA_FILE), pem, 0o644);
  await storeIdentity(directories.coordinator, coordinator, pem);
  await storeIdentity(directories.operator, operator, pem);
  return { authority, coordinator, operator };
}
