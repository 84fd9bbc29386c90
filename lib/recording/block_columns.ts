/** The names that the encoder and the decoder of a block share; `FORMAT.md` says what each means. */

/** Columns of a block, in the order in which they are stored. */
export const Column = {
  items: 0,
  runs: 1,
  events: 2,
  headers: 3,
  sources: 4,
  numbers: 5,
  lengths: 6,
  receiveTimes: 7,
  frames: 8,
  sendLengths: 9,
  sendTimes: 10,
  sendHashes: 11,
  headLengths: 12,
  heads: 13,
  checks: 14,
  epochs: 15,
} as const;

export const COLUMN_NAMES = Object.keys(Column);
export const COLUMNS = COLUMN_NAMES.length;

/** The low three bits of an item's byte; the bits above are its argument. */
export const Item = {
  events: 0,
  reference: 1,
  external: 2,
  unmatched: 3,
  send: 4,
  check: 5,
  end: 6,
  epoch: 7,
} as const;

export const ITEM_KIND_BITS = 3;
/** Distinct rr headers a block can hold: what fits above the kind. */
export const HEADERS_MAX = 32;
/** Bytes of an rr header without its length. */
export const HEADER_KEY_BYTES = 6;

/** Bytes of all columns of a block before compression; more is refused. */
export const BLOCK_RAW_BYTES_MAX = 64 << 20;
/** Bytes of a block's payload in the file: the columns, at worst uncompressed, and their table. */
export const BLOCK_STORED_BYTES_MAX = BLOCK_RAW_BYTES_MAX + 4096;
