/**
 * What the coordinator remembers of identities: join tokens, issued certificates, revoked ones. `kv_store.ts`
 * keeps it in Deno KV. Every method is atomic, also between processes.
 */
import type { PeerIdentity, Role } from "../protocol/channel.ts";

/** A token, without its secret. */
export interface StoredToken {
  readonly secretHash: string;
  readonly role: Exclude<Role, "coordinator">;
  /** The only name that it is good for; `null` lets whoever joins choose. */
  readonly name: string | null;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
  /** The serial of the certificate that was made with it; `null` while it is unused. */
  readonly usedBy: string | null;
}

/** A certificate that was issued. */
export interface IssuedRecord extends PeerIdentity {
  /** Milliseconds since 1970. */
  readonly notAfter: number;
}

export interface RevokedRecord extends PeerIdentity {
  /** Milliseconds since 1970. */
  readonly revokedAt: number;
  readonly reason: string;
}

/** What redeeming a token came to. */
export type Redemption =
  | { readonly role: Exclude<Role, "coordinator"> }
  | { readonly refused: "unknown" | "used" | "expired" | "other name" | "name taken" };

export interface IdentityStore {
  addToken(token: StoredToken): Promise<void>;
  /**
   * Uses a token up for a certificate and notes the certificate: of any number of callers at most one succeeds. A
   * name that has a valid certificate of that role is taken, unless the token is for this very name.
   */
  redeem(
    secretHash: string,
    certificate: Pick<IssuedRecord, "name" | "serial" | "notAfter">,
    now: number,
  ): Promise<Redemption>;
  /**
   * Notes a certificate that was issued without a token: a renewal, an operator.
   * @throws {ClusterrrError} where the name has a good many that are valid
   */
  addIssued(record: IssuedRecord): Promise<void>;
  /** All certificates, expired ones for a while too, by role, name and date. */
  issued(): Promise<readonly IssuedRecord[]>;
  /** Revokes all certificates of a name, now and for good. What was revoked by this call. */
  revoke(role: Role, name: string, reason: string, now: number): Promise<readonly RevokedRecord[]>;
  isRevoked(serial: string): Promise<boolean>;
  revoked(): Promise<readonly RevokedRecord[]>;
}
