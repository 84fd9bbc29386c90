/**
 * Join tokens: `clrr1.` and 75 characters of base64url:
 *
 * ```
 * SHA-256 of the CA's certificate 32 │ secret 16 │ expiry, u32 BE seconds since 1970 │ checksum 4
 * ```
 *
 * The fingerprint lets whoever joins know the coordinator before it sends the secret. What the token allows (role,
 * name) is kept by the coordinator, under the secret's hash; the expiry is here too, for a message before any
 * connection is made. The checksum (of SHA-256) finds typing errors.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { ClusterrrError } from "../errors.ts";
import { toHex } from "./certificates.ts";

const PREFIX = "clrr1.";
const TOKEN_BYTES = 32 + 16 + 4 + 4;
const SECRET_AT = 32;
const EXPIRY_AT = 48;
const CHECKSUM_AT = 52;

export const JOIN_TOKEN_MINUTES = 60;

export interface JoinToken {
  /** Of the CA's certificate: lower-case hexadecimal. */
  readonly fingerprint: string;
  /** Lower-case hexadecimal, 16 bytes. */
  readonly secret: string;
  readonly expiresAt: Date;
}

export function randomSecret(): string {
  return toHex(crypto.getRandomValues(new Uint8Array(EXPIRY_AT - SECRET_AT)));
}

/** What the coordinator keeps of a secret. */
export function hashSecret(secret: string): string {
  return createHash("sha256").update(Buffer.from(secret, "hex")).digest("hex");
}

export function encodeToken({ fingerprint, secret, expiresAt }: JoinToken): string {
  const bytes = Buffer.alloc(TOKEN_BYTES);
  bytes.write(fingerprint, 0, "hex");
  bytes.write(secret, SECRET_AT, "hex");
  bytes.writeUInt32BE(Math.floor(expiresAt.getTime() / 1000), EXPIRY_AT);
  checksum(bytes).copy(bytes, CHECKSUM_AT);
  return PREFIX + bytes.toString("base64url");
}

/** @throws {ClusterrrError} where it is no token, or a mistyped one; the message does not repeat it */
export function decodeToken(token: string): JoinToken {
  const text = token.trim();
  const bytes = Buffer.from(text.slice(PREFIX.length), "base64url");
  if (!text.startsWith(PREFIX) || bytes.length !== TOKEN_BYTES || encoded(bytes) !== text) {
    throw new ClusterrrError(`This is no join token; one begins with ${PREFIX} and has no spaces`);
  }
  if (!checksum(bytes).equals(bytes.subarray(CHECKSUM_AT))) {
    throw new ClusterrrError("The join token was mistyped or cut; copy it again");
  }
  return {
    fingerprint: bytes.toString("hex", 0, SECRET_AT),
    secret: bytes.toString("hex", SECRET_AT, EXPIRY_AT),
    expiresAt: new Date(bytes.readUInt32BE(EXPIRY_AT) * 1000),
  };
}

function encoded(bytes: Buffer): string {
  return PREFIX + bytes.toString("base64url");
}

function checksum(bytes: Buffer): Buffer {
  return createHash("sha256").update(bytes.subarray(0, CHECKSUM_AT)).digest()
    .subarray(0, TOKEN_BYTES - CHECKSUM_AT);
}
