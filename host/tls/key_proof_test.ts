/**
 * A certificate without its key: TLS must refuse it, for nothing else of ours looks at that. Deno and most tools refuse
 * to even try, but OpenSSL compares only the public parts of a key file with the certificate: a file with the
 * right public part and a wrong private one makes it send a wrong signature.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import "reflect-metadata";
import { PemConverter } from "@peculiar/x509";
import { makeInstallation, withServer } from "./channel_fixture.ts";

/** In PKCS #8 of a P-256 key as WebCrypto writes it. */
const PRIVATE_AT = 36;
const PRIVATE_BYTES = 32;

const hasOpenssl = await new Deno.Command("openssl", { args: ["version"] }).output()
  .then(({ success }) => success, () => false);

async function clientGets(port: number, directory: string, keyPem: string): Promise<string> {
  const key = join(directory, "key.pem");
  await Deno.writeTextFile(key, keyPem);
  const child = new Deno.Command("timeout", {
    args: ["1.5", "openssl", "s_client", "-connect", `127.0.0.1:${port}`, "-quiet"]
      .concat("-servername", "coordinator.clusterrr", "-alpn", "clusterrr/1")
      .concat("-cert", join(directory, "certificate.pem"), "-key", key),
    stdin: "null",
  });
  const { stdout } = await child.output();
  return new TextDecoder().decode(stdout);
}

for (const joining of [false, true]) {
  Deno.test({
    name: `a certificate without its key gets no byte${joining ? " (where hosts may join)" : ""}`,
    ignore: !hasOpenssl && (console.warn("skipped: there is no openssl command"), true),
    async fn() {
      const installation = await makeInstallation();
      const { agent, operator } = installation;
      const directory = await Deno.makeTempDir({ prefix: "clusterrr-proof-" });
      await Deno.writeTextFile(join(directory, "certificate.pem"), agent.certificatePem);
      const mixed = new Uint8Array(PemConverter.decodeFirst(agent.keyPem));
      const other = new Uint8Array(PemConverter.decodeFirst(operator.keyPem));
      mixed.set(other.subarray(PRIVATE_AT, PRIVATE_AT + PRIVATE_BYTES), PRIVATE_AT);
      const wrongKey = PemConverter.encode(mixed, "PRIVATE KEY");
      const options = joining ? { onJoin: () => Promise.resolve(new Uint8Array()) } : {};
      await withServer(installation, async ({ listener, refusals }) => {
        assert.match(await clientGets(listener.port, directory, agent.keyPem), /clusterrr\/1/);
        assert.deepEqual(refusals, [], "the right key is let in");
        assert.equal(await clientGets(listener.port, directory, wrongKey), "");
        assert.equal(refusals.length, 1);
      }, options);
      await Deno.remove(directory, { recursive: true });
    },
  });
}
