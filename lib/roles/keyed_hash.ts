/**
 * The hash that a frame carries between two hosts of a recording, so that the receiver's agent can tell
 * that the bytes in its VM's log are the bytes that the other host's VM sent.
 *
 * It is `hash_frame` of recorder.bpf.c over again, in the arithmetic that both have: words of 32 bits.
 * Four lanes, and each word goes into two of them by different functions, so two frames that differ
 * share all 64 bits by chance only. The recording's cookie is the key. It tells mistakes from frames,
 * it is no defence against a guest that searches for collisions: what such a guest gains is a replay
 * that is reported as diverged.
 */
const PRIME_1 = 0x9e3779b1 | 0;
const PRIME_2 = 0x85ebca77 | 0;
const PRIME_3 = 0xc2b2ae3d | 0;
const PRIME_4 = 0x27d4eb2f | 0;
const STEP_BYTES = 8;
/** Frames above this length have no hash (HASHED_BYTES_MAX of recorder.bpf.c). */
const HASHED_BYTES_MAX = 1522;
const ETHERNET_HEADER_BYTES = 14;

/** MurmurHash3's last step. */
function avalanche(x: number): number {
  x = Math.imul(x ^ x >>> 16, 0x85ebca6b);
  x = Math.imul(x ^ x >>> 13, 0xc2b2ae35);
  return x ^ x >>> 16;
}

/** The end of a frame that does not fill a step, zeros behind it. */
const rest = new Uint8Array(STEP_BYTES);
const restWords = new DataView(rest.buffer);
/** For making one bigint of numbers, which is the larger part of the time of a short frame. */
const scratch = new DataView(new ArrayBuffer(8));

/**
 * The hash of a whole frame under `key`, the recording's cookie; never 0. `undefined` where a frame of this
 * length has none.
 */
export function hashKeyed(frame: Uint8Array, key: bigint): bigint | undefined {
  const { length } = frame;
  if (length < ETHERNET_HEADER_BYTES || length > HASHED_BYTES_MAX) return undefined;
  scratch.setBigUint64(0, key, true);
  const low = scratch.getInt32(0, true);
  const high = scratch.getInt32(4, true);
  let a = low ^ PRIME_1;
  let b = high ^ PRIME_2;
  let c = high + PRIME_3 | 0;
  let d = low + PRIME_4 | 0;
  const view = new DataView(frame.buffer, frame.byteOffset, length);
  const whole = length - length % STEP_BYTES;
  for (let at = 0; at < length; at += STEP_BYTES) {
    let words = view;
    let from = at;
    if (at === whole) {
      rest.fill(0);
      for (let i = at; i < length; i++) rest[i - at] = frame[i]!;
      words = restWords;
      from = 0;
    }
    const first = words.getInt32(from, true);
    const second = words.getInt32(from + 4, true);
    a = Math.imul(a ^ first, PRIME_1);
    a = a << 15 | a >>> 17;
    b = Math.imul(b ^ second, PRIME_1);
    b = b << 15 | b >>> 17;
    c = Math.imul(c + first | 0, PRIME_2);
    c = c << 13 | c >>> 19;
    d = Math.imul(d + second | 0, PRIME_2);
    d = d << 13 | d >>> 19;
  }
  const upper = avalanche(avalanche(a ^ length) ^ b);
  const lower = avalanche(avalanche(c ^ length) ^ d);
  scratch.setInt32(0, (upper | lower) === 0 ? 1 : lower, true);
  scratch.setInt32(4, upper, true);
  return scratch.getBigUint64(0, true);
}
