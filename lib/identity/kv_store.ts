/**
 * {@link IdentityStore} on Deno KV. Keys, below the given prefix:
 *
 * ```
 * token, SECRET_HASH           StoredToken       for a week after it expired, so that "used" can be told from "unknown"
 * issued, ROLE, NAME, SERIAL   IssuedRecord      for 30 days after it expired
 * names, ROLE, NAME            version           changes with each certificate and revocation of the name
 * revoked, SERIAL              RevokedRecord     for good: a clock may be wrong
 * ```
 *
 * What must not happen twice checks the version of the key that it hangs on, and starts again when that has changed.
 */
import { whenUnlocked } from "../catalog/store.ts";
import { ClusterrrError } from "../errors.ts";
import type { Role } from "../protocol/channel.ts";
import type {
  IdentityStore,
  IssuedRecord,
  Redemption,
  RevokedRecord,
  StoredToken,
} from "./store.ts";

const DAY_MS = 86_400_000;
const TOKEN_KEPT_MS = 7 * DAY_MS;
const ISSUED_KEPT_MS = 30 * DAY_MS;
const ATTEMPTS_MAX = 100;
/**
 * Of one name: who renews again and again must not make more than one transaction can revoke, or than the list
 * of revoked ones can hold.
 */
const VALID_MAX = 16;

export class KvIdentityStore implements IdentityStore {
  readonly #kv: Deno.Kv;
  readonly #prefix: Deno.KvKey;

  /** @param kv stays the caller's: it closes it */
  constructor(kv: Deno.Kv, prefix: Deno.KvKey = ["identity"]) {
    this.#kv = kv;
    this.#prefix = prefix;
  }

  async addToken(token: StoredToken): Promise<void> {
    const key = this.#key("token", token.secretHash);
    const expireIn = Math.max(1, token.expiresAt + TOKEN_KEPT_MS - Date.now());
    await whenUnlocked(() => this.#kv.set(key, token, { expireIn }));
  }

  async redeem(
    secretHash: string,
    certificate: Pick<IssuedRecord, "name" | "serial" | "notAfter">,
    now: number,
  ): Promise<Redemption> {
    const { name, serial } = certificate;
    return await this.#retry<Redemption>(async () => {
      const tokenKey = this.#key("token", secretHash);
      const token = await whenUnlocked(() => this.#kv.get<StoredToken>(tokenKey));
      if (token.value === null) return { refused: "unknown" };
      const { role, name: fixedName, expiresAt, usedBy } = token.value;
      if (usedBy !== null) return { refused: "used" };
      if (expiresAt <= now) return { refused: "expired" };
      if (fixedName !== null && fixedName !== name) return { refused: "other name" };
      const nameKey = this.#key("names", role, name);
      const version = await whenUnlocked(() => this.#kv.get(nameKey));
      if (fixedName === null && await this.#countValid(role, name, now) > 0) {
        return { refused: "name taken" };
      }
      const atomic = this.#kv.atomic().check(token).check(version)
        .set(tokenKey, { ...token.value, usedBy: serial } satisfies StoredToken, {
          expireIn: Math.max(1, expiresAt + TOKEN_KEPT_MS - Date.now()),
        });
      this.#noteIssued(atomic, { role, ...certificate });
      const { ok } = await whenUnlocked(() => atomic.commit());
      return ok ? { role } : undefined;
    });
  }

  async addIssued(record: IssuedRecord): Promise<void> {
    const { role, name } = record;
    const nameKey = this.#key("names", role, name);
    await this.#retry(async () => {
      const version = await whenUnlocked(() => this.#kv.get(nameKey));
      if (await this.#countValid(role, name) >= VALID_MAX) {
        throw new ClusterrrError(`${role} ${name} has ${VALID_MAX} valid certificates already`);
      }
      const atomic = this.#kv.atomic().check(version);
      this.#noteIssued(atomic, record);
      const { ok } = await whenUnlocked(() => atomic.commit());
      return ok ? true : undefined;
    });
  }

  async issued(): Promise<readonly IssuedRecord[]> {
    const records = await this.#list<IssuedRecord>("issued");
    return records.sort((a, b) =>
      a.role.localeCompare(b.role) || a.name.localeCompare(b.name) || a.notAfter - b.notAfter
    );
  }

  async revoke(
    role: Role,
    name: string,
    reason: string,
    now: number,
  ): Promise<readonly RevokedRecord[]> {
    const nameKey = this.#key("names", role, name);
    return await this.#retry(async () => {
      const version = await whenUnlocked(() => this.#kv.get(nameKey));
      const revoked: RevokedRecord[] = [];
      for (const record of await this.#list<IssuedRecord>("issued", role, name)) {
        if (await this.isRevoked(record.serial)) continue;
        revoked.push({ role, name, serial: record.serial, revokedAt: now, reason });
      }
      const atomic = this.#kv.atomic().check(version).set(nameKey, crypto.randomUUID());
      for (const record of revoked) atomic.set(this.#key("revoked", record.serial), record);
      const { ok } = await whenUnlocked(() => atomic.commit());
      return ok ? revoked : undefined;
    });
  }

  async isRevoked(serial: string): Promise<boolean> {
    const entry = await whenUnlocked(() => this.#kv.get(this.#key("revoked", serial)));
    return entry.value !== null;
  }

  revoked(): Promise<readonly RevokedRecord[]> {
    return this.#list<RevokedRecord>("revoked");
  }

  async #countValid(role: Role, name: string, now = Date.now()): Promise<number> {
    let count = 0;
    for (const { serial, notAfter } of await this.#list<IssuedRecord>("issued", role, name)) {
      if (notAfter > now && !await this.isRevoked(serial)) count++;
    }
    return count;
  }

  #noteIssued(atomic: Deno.AtomicOperation, record: IssuedRecord): void {
    const { role, name, serial, notAfter } = record;
    atomic.set(this.#key("names", role, name), crypto.randomUUID())
      .set(this.#key("issued", role, name, serial), record, {
        expireIn: Math.max(1, notAfter + ISSUED_KEPT_MS - Date.now()),
      });
  }

  async #list<T>(...rest: string[]): Promise<T[]> {
    const prefix = this.#key(...rest);
    return await whenUnlocked(async () => {
      const values: T[] = [];
      for await (const { value } of this.#kv.list<T>({ prefix })) values.push(value);
      return values;
    });
  }

  #key(...rest: string[]): Deno.KvKey {
    return [...this.#prefix, ...rest];
  }

  /** Repeats `attempt` while it gives `undefined`: others have changed what it had read. */
  async #retry<T>(attempt: () => Promise<T | undefined>): Promise<T> {
    for (let i = 0; i < ATTEMPTS_MAX; i++) {
      const outcome = await attempt();
      if (outcome !== undefined) return outcome;
    }
    throw new ClusterrrError("Others keep changing the identities of this installation; try again");
  }
}
