/**
 * Keeps secrets out of what is logged. A secret is
 * - what stands under a name such as `token`, `key` or `password`, and every copy of it in the same record;
 * - a private key in PEM or base64 (PKCS #8, EC), wherever it stands;
 * - what {@link conceal} was told: that also catches a token inside some library's error message;
 * - bytes: only their number is shown.
 *
 * What comes out is plain data for JSON, of bounded size, whatever went in.
 */
import { ClusterrrError } from "../errors.ts";

const HIDDEN = "[secret]";
const SECRET_WORDS = new Set(
  "token tokens secret secrets password passphrase credential credentials authorization key keys"
    .split(" "),
);
/** A private key, up to its end line, or up to the end of a text that was cut off. */
const PEM = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[^]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g;
/**
 * The start of a private EC or RSA key in base64 without PEM's lines: SEQUENCE, INTEGER 0, SEQUENCE
 * (RFC 5208); base64 of `30 81 xx 02 01 00 30` and `30 82 xx xx 02 01 00 30`.
 */
const PKCS8 = /MI(?:G[A-Za-z0-9]AgEAM|I[A-Za-z0-9+/_-]{3,4}IBADA)[A-Za-z0-9+/_=-]{40,}/g;

const TEXT_MAX = 4096;
const ITEMS_MAX = 100;
const DEPTH_MAX = 6;
/** Shorter texts would blot out half a log; no secret is that short. */
const SECRET_CHARACTERS_MIN = 8;
/** Join tokens expire; the oldest are forgotten first. */
const CONCEALED_MAX = 1000;

const concealed = new Set<string>();

/**
 * From now on `secret` is hidden in everything that this process logs.
 * @returns it, so that a secret can be concealed where it comes into being
 */
export function conceal(secret: string): string {
  if (secret.length < SECRET_CHARACTERS_MIN) {
    throw new Error(`a secret of ${secret.length} characters is none`);
  }
  concealed.delete(secret);
  concealed.add(secret);
  if (concealed.size > CONCEALED_MAX) concealed.delete(concealed.values().next().value!);
  return secret;
}

/** Makes what one log record holds fit to be shown. */
export class Redaction {
  /** Secrets of this record alone. */
  readonly #own = new Set<string>();

  /** @param properties of the record: what stands under a secret's name there is hidden everywhere */
  constructor(properties: Readonly<Record<string, unknown>>) {
    this.#collect(properties, 0, false);
  }

  /** `text` without secrets, at most 4 KiB of it. */
  text(text: string): string {
    let shown = text.replace(PEM, HIDDEN).replace(PKCS8, HIDDEN);
    for (const secret of concealed) shown = shown.replaceAll(secret, HIDDEN);
    for (const secret of this.#own) shown = shown.replaceAll(secret, HIDDEN);
    return shown.length <= TEXT_MAX ? shown : `${shown.slice(0, TEXT_MAX)}…`;
  }

  /** `value` as plain data without secrets. */
  value(value: unknown, depth = 0): unknown {
    switch (typeof value) {
      case "string":
        return this.text(value);
      case "bigint":
        return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
      case "symbol":
      case "function":
        return `[${typeof value}]`;
      case "object":
        return value === null ? null : this.#object(value, depth);
      case "number":
        return Number.isFinite(value) ? value : String(value);
      default:
        return value;
    }
  }

  #object(value: object, depth: number): unknown {
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
      return `[${value.byteLength} bytes]`;
    }
    if (value instanceof Date || value instanceof URL) return this.text(value.toJSON() ?? "");
    if (depth >= DEPTH_MAX) return "[…]";
    if (value instanceof Error) return this.#error(value, depth);
    if (Array.isArray(value) || value instanceof Set) {
      const items = [...value];
      const shown = items.slice(0, ITEMS_MAX).map((item) => this.value(item, depth + 1));
      return items.length <= ITEMS_MAX ? shown : [...shown, `… ${items.length - ITEMS_MAX} more`];
    }
    const entries: [string, unknown][] = value instanceof Map
      ? [...value].map(([key, item]) => [String(key), item])
      : entriesOf(value);
    return Object.fromEntries(
      entries.filter(([, item]) => item !== undefined).slice(0, ITEMS_MAX).map(([key, item]) => [
        this.text(key),
        isSecretName(key) && item !== null ? HIDDEN : this.value(item, depth + 1),
      ]),
    );
  }

  /** Of our own errors the message says all; of others the stack is wanted, too. */
  #error(error: Error, depth: number): unknown {
    const { name, message, cause, stack } = error;
    return {
      name: this.text(name),
      message: this.text(message),
      ...(error instanceof ClusterrrError || stack === undefined ? {} : {
        stack: this.text(stack),
      }),
      ...(cause === undefined ? {} : { cause: this.value(cause, depth + 1) }),
    };
  }

  /** Finds the texts that stand under secret names, or anywhere below one. */
  #collect(value: unknown, depth: number, secret: boolean): void {
    if (typeof value === "string" || typeof value === "number" || typeof value === "bigint") {
      if (secret && String(value).length >= SECRET_CHARACTERS_MIN) this.#own.add(String(value));
      return;
    }
    if (typeof value !== "object" || value === null || depth > DEPTH_MAX) return;
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return;
    if (Array.isArray(value) || value instanceof Set) {
      for (const item of value) this.#collect(item, depth + 1, secret);
      return;
    }
    for (const [key, item] of value instanceof Map ? value : entriesOf(value)) {
      this.#collect(item, depth + 1, secret || isSecretName(String(key)));
    }
  }
}

/** Whether one of the words that `name` is made of (`joinToken`, `key_pem`) stands for a secret. */
function isSecretName(name: string): boolean {
  const words = name.replaceAll(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase().split(/[^a-z0-9]+/);
  return words.some((word) => SECRET_WORDS.has(word));
}

/** What an object holds; one whose getter throws holds nothing. */
function entriesOf(value: object): [string, unknown][] {
  try {
    return Object.entries(value);
  } catch {
    return [];
  }
}
