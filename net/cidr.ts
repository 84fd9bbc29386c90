/** IPv4 addresses with a prefix length: `10.77.0.254/24`. */
import { ClusterrrError } from "../lib/errors.ts";

/** An address inside its subnet; both as unsigned 32-bit numbers. */
export interface Cidr {
  readonly address: number;
  readonly prefix: number;
}

/** @throws {ClusterrrError} if `text` is not an IPv4 address with a prefix length of 1 to 30 */
export function parseCidr(text: string): Cidr {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d{1,2})$/.exec(text);
  const [a = 256, b = 256, c = 256, d = 256, prefix = 0] = (match ?? []).slice(1).map(Number);
  if (Math.max(a, b, c, d) > 255 || prefix < 1 || prefix > 30) {
    throw new ClusterrrError(
      `"${text}" is not an IPv4 address with a prefix length; write it like 10.77.0.254/24`,
    );
  }
  return { address: ((a << 24) | (b << 16) | (c << 8) | d) >>> 0, prefix };
}

/** Whether `text` is an IPv4 address: four numbers, no leading zeros. */
export function isIpv4(text: string): boolean {
  const parts = text.split(".");
  return parts.length === 4 &&
    parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) <= 255);
}

function masked(address: number, prefix: number): number {
  return (address & (-1 << (32 - prefix))) >>> 0;
}

/** The subnet as text: `10.77.0.0/24`. */
export function subnetOf({ address, prefix }: Cidr): string {
  const subnet = masked(address, prefix);
  return `${[24, 16, 8, 0].map((shift) => subnet >>> shift & 255).join(".")}/${prefix}`;
}

/** Whether two subnets share an address. */
export function subnetsOverlap(a: Cidr, b: Cidr): boolean {
  const prefix = Math.min(a.prefix, b.prefix);
  return masked(a.address, prefix) === masked(b.address, prefix);
}
