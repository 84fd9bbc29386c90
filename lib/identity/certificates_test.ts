/** Certificates, the CA and its files: what is issued, what is refused. */
import "reflect-metadata";
import assert from "node:assert/strict";
import { join } from "node:path";
import * as x509 from "@peculiar/x509";
import { ClusterrrError, HostError } from "../errors.ts";
import { CertificateAuthority, initializeAuthority } from "./authority.ts";
import {
  createCertificate,
  createRequest,
  encodeKey,
  generateKey,
  KEY_ALGORITHM,
  randomSerial,
  readCertificate,
  readRequest,
} from "./certificates.ts";
import { loadIdentity, storeIdentity, writeNew } from "./files.ts";

const DAY_MS = 86_400_000;
const { authority, keyPem: caKeyPem } = await CertificateAuthority.create();
const ca = authority.certificate;

async function withDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-identity-" });
  try {
    await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("an issued certificate says role, name, serial and lasts a year", async () => {
  for (
    const [role, name] of [["coordinator", "coordinator"], ["agent", "h-1"], [
      "operator",
      "ann",
    ]] as const
  ) {
    const { peer, certificatePem, notAfter } = await authority.issueIdentity(role, name);
    assert.equal(peer.role, role);
    assert.equal(peer.name, name);
    assert.match(peer.serial, /^[4-7][0-9a-f]{31}$/);
    const days = (notAfter.getTime() - Date.now()) / DAY_MS;
    assert.ok(days > 364.9 && days < 365.1, `${days} days`);
    assert.deepEqual(await readCertificate(certificatePem, ca, "it"), { peer, notAfter });
  }
  const caDays = (ca.notAfter.getTime() - Date.now()) / DAY_MS;
  assert.ok(caDays > 3649 && caDays < 3651);
});

Deno.test("openssl agrees with the chain", async () => {
  const { certificatePem } = await authority.issueIdentity("agent", "left");
  await withDirectory(async (directory) => {
    await Deno.writeTextFile(join(directory, "ca.pem"), ca.pem);
    await Deno.writeTextFile(join(directory, "it.pem"), certificatePem);
    const { code, stdout, stderr } = await new Deno.Command("openssl", {
      args: ["verify", "-purpose", "sslserver", "-verify_hostname", "left.agent.clusterrr"]
        .concat("-CAfile", join(directory, "ca.pem"), join(directory, "it.pem")),
    }).output();
    const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assert.equal(code, 0, text);
  });
});

Deno.test("certificates of others, expired, not valid yet, of no role of ours are refused", async () => {
  const { certificatePem } = await authority.issueIdentity("agent", "left");
  const read = (pem: string | Uint8Array, now?: Date) => readCertificate(pem, ca, "it", now);
  const other = await CertificateAuthority.create();
  await assert.rejects(
    readCertificate(certificatePem, other.authority.certificate, "it"),
    /it was not issued by this installation's CA/,
  );
  await assert.rejects(read(certificatePem, new Date(Date.now() + 366 * DAY_MS)), /it expired on/);
  await assert.rejects(
    read(certificatePem, new Date(Date.now() - DAY_MS)),
    /valid from .* check the clocks/,
  );
  await assert.rejects(read(ca.pem), /no certificate of a coordinator, agent or operator/);
  for (
    const wrong of [
      "",
      "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
      new Uint8Array(9),
    ]
  ) {
    await assert.rejects(read(wrong), ClusterrrError);
  }
  const tampered = new Uint8Array(new x509.X509Certificate(certificatePem).rawData);
  tampered[tampered.length - 1]! ^= 1;
  await assert.rejects(read(tampered), ClusterrrError);
});

Deno.test("a certificate of our CA whose parts do not agree is refused", async () => {
  const caKey = await crypto.subtle.importKey(
    "pkcs8",
    x509.PemConverter.decodeFirst(caKeyPem),
    KEY_ALGORITHM,
    true,
    ["sign"],
  );
  const { publicKey } = await generateKey();
  const make = (subject: string, dns: readonly string[]) =>
    x509.X509CertificateGenerator.create({
      serialNumber: randomSerial(),
      subject,
      issuer: ca.subject,
      publicKey,
      signingKey: caKey,
      signingAlgorithm: KEY_ALGORITHM,
      extensions: [
        new x509.ExtendedKeyUsageExtension(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]),
        new x509.SubjectAlternativeNameExtension(
          dns.map((value) => ({ type: "dns" as const, value })),
        ),
      ],
    });
  const accept = async (subject: string, dns: readonly string[]) =>
    await readCertificate((await make(subject, dns)).toString("pem"), ca, "it");
  await accept("CN=left, OU=agent", ["left.agent.clusterrr"]);
  const cases: [string, string[]][] = [
    ["CN=left, OU=agent", ["coordinator.clusterrr"]],
    ["CN=left, OU=agent", ["left.agent.clusterrr", "coordinator.clusterrr"]],
    ["CN=left, OU=coordinator", ["left.agent.clusterrr"]],
    ["CN=left, OU=agent, OU=operator", ["left.agent.clusterrr"]],
    ["CN=left, OU=root", ["left.root.clusterrr"]],
    ["CN=*, OU=agent", ["*.agent.clusterrr"]],
    ["OU=agent", ["left.agent.clusterrr"]],
    ["CN=left, OU=agent", []],
  ];
  for (const [subject, dns] of cases) {
    await assert.rejects(accept(subject, dns), /is no certificate of a/, `${subject} ${dns}`);
  }
  const impossible = { role: "agent", name: "coordinator", serial: "41" } as const;
  await assert.rejects(
    createCertificate(ca, caKey, publicKey, impossible),
    /belongs to the coordinator/,
  );
});

Deno.test("a request proves its key; only EC P-256 is taken", async () => {
  const keys = await generateKey();
  const csr = await createRequest(keys);
  assert.equal((await readRequest(csr)).type, "public");
  const issued = await authority.issue(csr, { role: "agent", name: "left" });
  assert.equal(issued.role, "agent");

  const bytes = new Uint8Array(x509.PemConverter.decodeFirst(csr));
  for (const at of [bytes.length - 1, 60]) { // the signature, the key
    const tampered = bytes.slice();
    tampered[at]! ^= 1;
    await assert.rejects(
      readRequest(x509.PemConverter.encode(tampered, "CERTIFICATE REQUEST")),
      /request is no/,
    );
  }
  const rsa = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256", modulusLength: 2048 };
  const rsaKeys = await crypto.subtle.generateKey(
    { ...rsa, publicExponent: Uint8Array.of(1, 0, 1) },
    true,
    ["sign", "verify"],
  );
  const p384 = { ...KEY_ALGORITHM, namedCurve: "P-384" };
  const p384Keys = await crypto.subtle.generateKey(p384, true, ["sign", "verify"]) as CryptoKeyPair;
  for (const [keys, signingAlgorithm] of [[rsaKeys, rsa], [p384Keys, p384]] as const) {
    const other = await x509.Pkcs10CertificateRequestGenerator.create({
      name: "CN=x",
      keys,
      signingAlgorithm,
    });
    await assert.rejects(readRequest(other.toString("pem")), /EC P-256/);
  }
  await assert.rejects(readRequest("x".repeat(9000)), /longer than 8192/);
});

Deno.test("ca init makes three directories, keys 0600, and never overwrites", async () => {
  await withDirectory(async (root) => {
    const directories = {
      ca: join(root, "ca"),
      coordinator: join(root, "coordinator"),
      operator: join(root, "operator"),
    };
    const made = await initializeAuthority(directories, "ann");
    for (const key of ["ca/ca.key", "coordinator/key.pem", "operator/key.pem"]) {
      assert.equal((await Deno.stat(join(root, key))).mode! & 0o777, 0o600, key);
    }
    const loaded = await CertificateAuthority.load(directories.ca);
    assert.equal(loaded.certificate.fingerprint, made.authority.certificate.fingerprint);
    assert.deepEqual((await loadIdentity(directories.coordinator)).identity, made.coordinator);
    assert.deepEqual((await loadIdentity(directories.operator)).identity.peer.name, "ann");
    await loaded.issueIdentity("agent", "left");

    await Deno.remove(join(root, "ca"), { recursive: true });
    await assert.rejects(
      initializeAuthority(directories, "ann"),
      /key.pem exists and is not overwritten/,
    );
    await assert.rejects(Deno.stat(join(root, "ca")), Deno.errors.NotFound);
    const all: string[] = [];
    for (const directory of ["coordinator", "operator"]) {
      for await (const { name } of Deno.readDir(join(root, directory))) all.push(name);
    }
    assert.ok(!all.some((name) => name.endsWith(".tmp")), all.join());
  });
});

Deno.test("files that are missing, open to others, mixed up or expired are told apart", async () => {
  await withDirectory(async (root) => {
    const left = await authority.issueIdentity("agent", "left");
    const right = await authority.issueIdentity("agent", "right");
    const directory = join(root, "left");
    await storeIdentity(directory, left, ca.pem);
    await assert.rejects(
      loadIdentity(join(root, "none")),
      (error) => error instanceof HostError && /join with a token/.test(error.message),
    );
    await assert.rejects(
      loadIdentity(directory, new Date(Date.now() + 400 * DAY_MS)),
      /certificate.pem expired on/,
    );
    await assert.rejects(writeNew(join(directory, "key.pem"), "x", 0o600), /not overwritten/);

    const key = join(directory, "key.pem");
    await Deno.chmod(key, 0o640);
    await assert.rejects(loadIdentity(directory), /Others can read the private key .*chmod 600/);
    await Deno.chmod(key, 0o600);
    await Deno.writeTextFile(key, right.keyPem);
    await assert.rejects(loadIdentity(directory), /is not for the key beside it/);
    await Deno.writeTextFile(key, "no key");
    await assert.rejects(loadIdentity(directory), /holds no EC P-256 key/);
    await Deno.writeTextFile(key, left.keyPem);
    const other = await CertificateAuthority.create();
    await Deno.writeTextFile(join(directory, "ca.pem"), other.authority.certificate.pem);
    await assert.rejects(loadIdentity(directory), /was not issued by this installation's CA/);

    await Deno.mkdir(join(root, "ca"));
    await writeNew(join(root, "ca", "ca.pem"), ca.pem, 0o644);
    await writeNew(
      join(root, "ca", "ca.key"),
      await encodeKey((await generateKey()).privateKey),
      0o600,
    );
    await assert.rejects(CertificateAuthority.load(join(root, "ca")), /ca.key is not the key of/);
  });
});
