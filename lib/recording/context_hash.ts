/** Hashes of contexts: which slot of a table is asked. Part of the format (`FORMAT.md`, "Decisions"). */

/** 2^32 divided by the golden ratio, odd; the other one is from MurmurHash3's last step. */
const SPREAD = 0x9e3779b1;
const MIX = 0x85ebca6b;

/** The upper `bits` of `value` times a constant, modulo 2^32. */
export function hash(value: number, bits: number): number {
  return Math.imul(value, SPREAD) >>> (32 - bits);
}

/** All bits, to go on with. */
export function hash32(value: number): number {
  const product = Math.imul(value, MIX);
  return product ^ product >>> 15;
}
