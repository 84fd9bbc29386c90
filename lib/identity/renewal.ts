/** Renewing one's own certificate, over a connection that was made with the old one. */
import { createRequest, decodeKey, publicKeyOf } from "./certificates.ts";
import { type Identity, KEY_FILE, loadIdentity, replaceCertificate } from "./files.ts";

/**
 * Asks for a new certificate for the same key and stores it in place of the old one.
 * @param directory of the identity
 * @param renew the call `identity.renew` of the coordinator: `(params) => rpc.call("identity.renew", params)`
 */
export async function renewIdentity(
  directory: string,
  renew: (params: { csr: string }) => Promise<{ certificate: string }>,
  now = new Date(),
): Promise<Identity> {
  const { identity } = await loadIdentity(directory, now);
  const privateKey = await decodeKey(identity.keyPem, `${directory}/${KEY_FILE}`);
  const publicKey = await publicKeyOf(identity.certificatePem);
  const csr = await createRequest({ privateKey, publicKey });
  const { certificate } = await renew({ csr });
  return await replaceCertificate(directory, certificate, now);
}
