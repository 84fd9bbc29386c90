/**
 * Keys and certificates on disk. A directory holds `key.pem` (0600), `certificate.pem` and `ca.pem`; the CA's own
 * directory `ca.key` (0600) and `ca.pem`. Files appear whole or not at all, and are never overwritten, but for
 * the certificate when it is renewed.
 */
import { dirname, join } from "node:path";
import { ClusterrrError, HostError, messageOf } from "../errors.ts";
import type { PeerIdentity } from "../protocol/channel.ts";
import {
  belongsTogether,
  type CaCertificate,
  decodeKey,
  readCaCertificate,
  readCertificate,
} from "./certificates.ts";

/** A key with its certificate. */
export interface Identity {
  readonly keyPem: string;
  readonly certificatePem: string;
  readonly peer: PeerIdentity;
  readonly notAfter: Date;
}

export const KEY_FILE = "key.pem";
export const CERTIFICATE_FILE = "certificate.pem";
export const CA_FILE = "ca.pem";

/**
 * Reads an identity and the CA it belongs to, and checks that key, certificate and CA fit together and are
 * valid now.
 * @throws {HostError} where a file cannot be read
 * @throws {ClusterrrError} where they do not fit, or have expired
 */
export async function loadIdentity(
  directory: string,
  now = new Date(),
): Promise<{ identity: Identity; ca: CaCertificate }> {
  const path = (name: string) => join(directory, name);
  const [keyPem, certificatePem, caPem] = await Promise.all(
    [KEY_FILE, CERTIFICATE_FILE, CA_FILE].map((name) => readSecretSafely(path(name))),
  );
  const ca = await readCaCertificate(caPem!, path(CA_FILE), now);
  const identity = await makeIdentity(keyPem!, certificatePem!, ca, path(CERTIFICATE_FILE), now);
  return { identity, ca };
}

/** Puts an identity together. @throws {ClusterrrError} where its parts do not fit */
export async function makeIdentity(
  keyPem: string,
  certificatePem: string,
  ca: CaCertificate,
  what: string,
  now = new Date(),
): Promise<Identity> {
  const key = await decodeKey(keyPem, `the key of ${what}`);
  const { peer, notAfter } = await readCertificate(certificatePem, ca, what, now);
  if (!await belongsTogether(certificatePem, key)) {
    throw new ClusterrrError(
      `${what} is not for the key beside it; restore the pair, or join again`,
    );
  }
  return { keyPem, certificatePem, peer, notAfter };
}

/**
 * Stores a new identity, its certificate last: a directory without one has no identity yet.
 * @throws {ClusterrrError} where there is one already
 */
export async function storeIdentity(
  directory: string,
  identity: Pick<Identity, "keyPem" | "certificatePem">,
  caPem: string,
): Promise<void> {
  await requireNone(directory, [KEY_FILE, CERTIFICATE_FILE, CA_FILE]);
  await writeNew(join(directory, CA_FILE), caPem, 0o644);
  await writeNew(join(directory, KEY_FILE), identity.keyPem, 0o600);
  await writeNew(join(directory, CERTIFICATE_FILE), identity.certificatePem, 0o644);
}

/**
 * Replaces the certificate of an identity that keeps its key.
 * @throws {ClusterrrError} where the new one does not fit to the key in the directory
 */
export async function replaceCertificate(
  directory: string,
  certificatePem: string,
  now = new Date(),
): Promise<Identity> {
  const [keyPem, caPem] = await Promise.all(
    [KEY_FILE, CA_FILE].map((name) => readSecretSafely(join(directory, name))),
  );
  const ca = await readCaCertificate(caPem!, join(directory, CA_FILE), now);
  const identity = await makeIdentity(keyPem!, certificatePem, ca, "the new certificate", now);
  const path = join(directory, CERTIFICATE_FILE);
  const temporary = await writeTemporary(path, certificatePem, 0o644);
  await Deno.rename(temporary, path);
  return identity;
}

/** @throws {ClusterrrError} where one of the files is there */
export async function requireNone(directory: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    const path = join(directory, name);
    try {
      await Deno.lstat(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) continue;
      throw new HostError(`reading ${path}`, 1, messageOf(error), "", { cause: error });
    }
    throw new ClusterrrError(`${path} exists and is not overwritten; move it away first`);
  }
}

/** Reads a file; a private key that others can read is refused. */
export async function readSecretSafely(path: string): Promise<string> {
  try {
    const text = await Deno.readTextFile(path);
    const { mode } = await Deno.stat(path);
    if (text.includes("PRIVATE KEY") && mode !== null && (mode & 0o077) !== 0) {
      throw new ClusterrrError(
        `Others can read the private key ${path}; if nobody has, run: chmod 600 ${path}`,
      );
    }
    return text;
  } catch (cause) {
    if (cause instanceof ClusterrrError) throw cause;
    throw new HostError(
      `reading ${path}`,
      1,
      messageOf(cause),
      "Make an identity first: `clusterrr ca init` on the coordinator, or join with a token.",
      { cause },
    );
  }
}

/** Writes a file that must not exist; it appears whole. */
export async function writeNew(path: string, text: string, mode: number): Promise<void> {
  const temporary = await writeTemporary(path, text, mode);
  try {
    await Deno.link(temporary, path); // unlike rename, refuses to overwrite
  } catch (cause) {
    if (cause instanceof Deno.errors.AlreadyExists) {
      throw new ClusterrrError(`${path} exists and is not overwritten; move it away first`, {
        cause,
      });
    }
    throw new HostError(`writing ${path}`, 1, messageOf(cause), "", { cause });
  } finally {
    await Deno.remove(temporary);
  }
}

async function writeTemporary(path: string, text: string, mode: number): Promise<string> {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  try {
    await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const file = await Deno.open(temporary, { write: true, createNew: true, mode });
    try {
      await file.write(new TextEncoder().encode(text));
      await file.sync();
    } finally {
      file.close();
    }
  } catch (cause) {
    throw new HostError(`writing ${path}`, 1, messageOf(cause), "", { cause });
  }
  return temporary;
}
