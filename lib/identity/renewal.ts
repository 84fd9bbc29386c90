/** Renewing one's own certificate: once, or for as long as a process runs. */
import { messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";
import { type CaCertificate, createRequest, decodeKey, publicKeyOf } from "./certificates.ts";
import { type Identity, KEY_FILE, loadIdentity, replaceCertificate } from "./files.ts";
import { needsRenewal } from "./joining.ts";

/**
 * Asks for a new certificate for the same key, over a connection that was made with the old one, and stores it in
 * place of the old one.
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

/** How often whoever runs for long looks whether its certificate should be renewed. */
const RENEWAL_CHECK_MS = 6 * 3_600_000;

/** Keeps the identity of a process that runs for long: renews it in time, once {@link start} was called. */
export class IdentityKeeper {
  #timer: ReturnType<typeof setInterval> | undefined;
  #checking: Promise<void> | undefined;

  constructor(
    private identity: Identity,
    private readonly ca: Pick<CaCertificate, "notAfter">,
    private readonly options: {
      /** Gives the new one; `undefined` where that cannot be done now. */
      readonly renew: () => Promise<Identity | undefined>;
      /** Hears of the new one. */
      readonly onRenewed: (identity: Identity) => void;
      readonly log: Log;
    },
  ) {}

  /** Looks every `everyMs`, until {@link close}. */
  start(everyMs = RENEWAL_CHECK_MS): void {
    this.#timer = setInterval(() => void this.check(), everyMs);
  }

  get current(): Identity {
    return this.identity;
  }

  /** Renews it if it is time; what prevents that is logged. One look at a time. */
  async check(): Promise<void> {
    await (this.#checking ??= this.#check().finally(() => this.#checking = undefined));
  }

  async #check(): Promise<void> {
    if (!needsRenewal(this.identity, this.ca)) return;
    const { renew, onRenewed, log } = this.options;
    try {
      const renewed = await renew();
      if (renewed === undefined) return;
      this.identity = renewed;
      onRenewed(renewed);
      log.info("renewed the certificate, until {until}", { until: renewed.notAfter.toISOString() });
    } catch (error) {
      log.warning("cannot renew the certificate: {reason}", { reason: messageOf(error) });
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
