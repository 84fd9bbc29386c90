import assert from "node:assert/strict";
import { CertificateAuthority } from "./authority.ts";
import { loadIdentity, storeIdentity } from "./files.ts";
import { needsRenewal } from "./joining.ts";

const DAY_MS = 86_400_000;
const COORDINATOR = { role: "coordinator", name: "coordinator" } as const;

Deno.test("a certificate on the CA's own host is renewed for its key, also when it has expired", async () => {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-authority-" });
  try {
    const then = new Date(Date.now() - 400 * DAY_MS);
    const { authority } = await CertificateAuthority.create(then);
    const old = await authority.issueIdentity("coordinator", "coordinator", then);
    await storeIdentity(directory, old, authority.certificate.pem);
    await assert.rejects(loadIdentity(directory), /expired on/);

    const renewed = await authority.reissue(directory, COORDINATOR);
    assert.equal(renewed.keyPem, old.keyPem);
    assert.notEqual(renewed.peer.serial, old.peer.serial);
    assert.deepEqual((await loadIdentity(directory)).identity, renewed);
    assert.equal(needsRenewal(renewed, authority.certificate), false);

    const other = await authority.issueIdentity("coordinator", "coordinator");
    await Deno.writeTextFile(`${directory}/certificate.pem`, other.certificatePem);
    await assert.rejects(authority.reissue(directory, COORDINATOR), /not for the key beside it/);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("in the CA's last months a certificate that ends with it is not renewed again and again", async () => {
  const { authority } = await CertificateAuthority.create();
  const { certificate } = authority;
  const late = new Date(certificate.notAfter.getTime() - 30 * DAY_MS);
  const sooner = { notAfter: new Date(late.getTime() + 20 * DAY_MS) };
  assert.equal(needsRenewal(sooner, certificate, late), true);
  const capped = await authority.issueIdentity("agent", "alpha", late);
  assert.deepEqual(capped.notAfter, certificate.notAfter);
  assert.equal(needsRenewal(capped, certificate, late), false);
});
