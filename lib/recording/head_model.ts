/**
 * First bytes of sent frames as decisions: each byte is as in an earlier head, or as a header's fields
 * say, or another. What the sender counts up (an IPv4 identification, an offset of fragments, a TCP
 * sequence number) and what can be reckoned (a length, a header's checksum) costs next to nothing.
 * Rules: `FORMAT.md`, "Heads".
 */
import { hash, hash32 } from "./context_hash.ts";
import { type BitCoder, newProbabilities, resetProbabilities } from "./range_coder.ts";

/** Further positions are treated as the last one. */
const POSITIONS = 64;
const EARLIER_BITS = 8;
const TREE_BITS = 3;
const ETHERNET_BYTES = 14;
/** An IPv4 header without options, behind that of Ethernet, and the ports of TCP. */
const IPV4_BYTES = 38;
const IPV4_END = 34;
const IPV4_CHECKSUM = 24;
const IPV4_ADDRESSES = 26;
/** The order of an IPv4 header's bytes: what tells flows apart first, the checksum last. */
const IPV4_ORDER = [15, 23, 26, 27, 28, 29, 30, 31, 32, 33, 16, 17, 18, 19, 20, 21, 22, 24, 25];
const TCP = 6;
const MORE_FRAGMENTS = 0x2000;
const FRAGMENT_OFFSET = 0x1fff;

/** An earlier head; behind its end zeros. */
type Head = Uint8Array;

export class HeadModel {
  readonly #right = newProbabilities(POSITIONS << 2);
  readonly #trees = newProbabilities(POSITIONS << 6);
  readonly #byLength = table();
  readonly #byFlow = table();
  readonly #expected: Head = new Uint8Array(POSITIONS);
  #state = 0;
  /** The byte that was coded last. */
  #before = 0;

  reset(): void {
    resetProbabilities(this.#right);
    resetProbabilities(this.#trees);
    for (const head of [...this.#byLength, ...this.#byFlow]) head.fill(0);
  }

  /** Codes the head `bytes` of a frame of `length` bytes. */
  code(coder: BitCoder, bytes: Uint8Array, length: number): void {
    const earlier = this.#byLength[hash(length | 0, EARLIER_BITS)]!;
    this.#expected.set(earlier);
    this.#state = this.#before = 0;
    const start = Math.min(bytes.length, ETHERNET_BYTES + 1);
    for (let at = 0; at < start; at++) this.#codeByte(coder, bytes, at);
    let at = start;
    if (isIpv4(bytes)) {
      this.#codeIpv4(coder, bytes, length);
      at = IPV4_END;
    }
    for (; at < bytes.length; at++) this.#codeByte(coder, bytes, at);
    const kept = bytes.subarray(0, POSITIONS);
    remember(earlier, kept);
    if (isIpv4(bytes)) remember(this.#byFlow[flowOf(bytes)]!, kept);
  }

  #codeIpv4(coder: BitCoder, bytes: Uint8Array, length: number): void {
    const expected = this.#expected;
    for (const at of IPV4_ORDER) {
      if (at === 16) this.#expectFlow(bytes, length);
      if (at === IPV4_CHECKSUM) put16(expected, at, checksumOf(bytes));
      this.#codeByte(coder, bytes, at);
    }
  }

  /** What is known once protocol and addresses are. */
  #expectFlow(bytes: Uint8Array, length: number): void {
    const expected = this.#expected;
    const flow = this.#byFlow[flowOf(bytes)]!;
    expected.set(flow.subarray(IPV4_END), IPV4_END);
    const total = get16(flow, 16);
    const fragment = get16(flow, 20);
    put16(expected, 16, length - ETHERNET_BYTES);
    if ((fragment & MORE_FRAGMENTS) !== 0) {
      put16(expected, 18, get16(flow, 18));
      put16(expected, 20, fragment + (total - 20 >>> 3) & (MORE_FRAGMENTS | FRAGMENT_OFFSET));
    } else {
      put16(expected, 18, get16(flow, 18) + 1);
      put16(expected, 20, fragment & FRAGMENT_OFFSET ? MORE_FRAGMENTS : fragment);
    }
    if (flow[23] !== TCP) return;
    const payload = total - 20 - (flow[46]! >>> 4) * 4;
    const sequence = get16(flow, 38) * 0x10000 + get16(flow, 40) + payload +
      (flow[47]! & 3 ? 1 : 0);
    put16(expected, 38, sequence / 0x10000);
    put16(expected, 40, sequence);
  }

  #codeByte(coder: BitCoder, bytes: Uint8Array, at: number): void {
    const position = Math.min(at, POSITIONS - 1);
    const expected = this.#expected[position]!;
    const slot = position << 2 | this.#state;
    const value = bytes[at]!;
    const wrong = coder.bit(this.#right, slot, value === expected ? 0 : 1);
    this.#state = (this.#state << 1 | wrong) & 3;
    this.#before = bytes[at] = wrong === 0 ? expected : this.#codeOther(coder, position, value);
  }

  /** The upper bits are estimated by those of the byte before, which tells text from noise. */
  #codeOther(coder: BitCoder, position: number, value: number): number {
    const base = position << 6 | this.#before >>> 5 << TREE_BITS;
    let node = 1;
    for (let i = 7; i > 7 - TREE_BITS; i--) {
      node = node << 1 | coder.bit(this.#trees, base + node, value >>> i & 1);
    }
    const rest = 8 - TREE_BITS;
    const high = (node & (1 << TREE_BITS) - 1) << rest;
    return high | coder.direct(value & (1 << rest) - 1, rest);
  }
}

function table(): Head[] {
  return Array.from({ length: 1 << EARLIER_BITS }, () => new Uint8Array(POSITIONS));
}

function remember(head: Head, bytes: Uint8Array): void {
  head.set(bytes);
  head.fill(0, bytes.length);
}

/** Ethernet with an IPv4 header without options, and ports behind it; `bytes` up to 14 are enough. */
function isIpv4(bytes: Uint8Array): boolean {
  return bytes.length >= IPV4_BYTES && bytes[12] === 8 && bytes[13] === 0 && bytes[14] === 0x45;
}

/** The slot of the flow by protocol and addresses. */
function flowOf(bytes: Uint8Array): number {
  let mixed = bytes[23]!;
  for (let at = IPV4_ADDRESSES; at < IPV4_END; at++) mixed = hash32(mixed + bytes[at]! | 0);
  return hash(mixed, EARLIER_BITS);
}

/** The checksum of the IPv4 header, of all its bytes but the checksum's own. */
function checksumOf(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = ETHERNET_BYTES; at < IPV4_END; at += 2) {
    if (at !== IPV4_CHECKSUM) sum += get16(bytes, at);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum;
}

function get16(bytes: Uint8Array, at: number): number {
  return bytes[at]! << 8 | bytes[at + 1]!;
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}
