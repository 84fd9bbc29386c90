/**
 * Keyboard, mouse and touch events inside the rr log: the one event whose layout depends on tags.
 *
 * Mirrors `replay_save_input_event` of `replay/replay-input.c` and `InputEvent` of `qapi/ui.json`:
 *
 * ```
 * u32 0 key    u32 0 number  u64 code    u8 down
 *              u32 1 qcode   u32 qcode   u8 down
 * u32 1 btn    u32 button                u8 down
 * u32 2 rel    u32 axis      i64 value
 * u32 3 abs    u32 axis      i64 value
 * u32 4 mtt    u32 type      i64 slot    i64 tracking id    u32 axis    i64 value     (QEMU 8.1)
 * ```
 */
import { FormatError } from "../../lib/errors.ts";

/** One input event. `down` is 1 for a press, 0 for a release. */
export type RrInput =
  | { readonly device: "keyNumber"; readonly code: bigint; readonly down: number }
  | { readonly device: "keyQcode"; readonly qcode: number; readonly down: number }
  | { readonly device: "button"; readonly button: number; readonly down: number }
  | { readonly device: "relative"; readonly axis: number; readonly value: bigint }
  | { readonly device: "absolute"; readonly axis: number; readonly value: bigint }
  | {
    readonly device: "touch";
    readonly touch: number;
    readonly slot: bigint;
    readonly trackingId: bigint;
    readonly axis: number;
    readonly value: bigint;
  };

const KEY = 0;
const BUTTON = 1;
const RELATIVE = 2;
const ABSOLUTE = 3;
const TOUCH = 4;
const KEY_NUMBER = 0;
const KEY_QCODE = 1;

/** Whole event lengths, kind byte included. */
const LENGTH_TAG = 1 + 4;
const LENGTH_KEY_TAG = LENGTH_TAG + 4;
const LENGTH_KEY_NUMBER = LENGTH_KEY_TAG + 8 + 1;
const LENGTH_KEY_QCODE = LENGTH_KEY_TAG + 4 + 1;
const LENGTH_BUTTON = LENGTH_TAG + 4 + 1;
const LENGTH_MOVE = LENGTH_TAG + 4 + 8;
const LENGTH_TOUCH = LENGTH_TAG + 4 + 8 + 8 + 4 + 8;

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** As `measureEvent`, for the input event whose kind byte stands at `bytes[at]`. */
export function measureInput(
  bytes: Uint8Array,
  at: number,
  end: number,
  name: string,
  offset: number,
): number {
  if (end - at < LENGTH_TAG) return LENGTH_TAG;
  const view = viewOf(bytes);
  const tag = view.getUint32(at + 1);
  switch (tag) {
    case KEY: {
      if (end - at < LENGTH_KEY_TAG) return LENGTH_KEY_TAG;
      const keyTag = view.getUint32(at + LENGTH_TAG);
      if (keyTag === KEY_NUMBER) return LENGTH_KEY_NUMBER;
      if (keyTag === KEY_QCODE) return LENGTH_KEY_QCODE;
      throw new FormatError(name, offset, `key value kind ${keyTag} in an input event; 0 or 1 fit`);
    }
    case BUTTON:
      return LENGTH_BUTTON;
    case RELATIVE:
    case ABSOLUTE:
      return LENGTH_MOVE;
    case TOUCH:
      return LENGTH_TOUCH;
    default:
      throw new FormatError(name, offset, `input event type ${tag}; 0 to 4 fit`);
  }
}

/** Decodes the whole input event whose kind byte stands at `bytes[at]`; measure it first. */
export function decodeInput(bytes: Uint8Array, at: number): RrInput {
  const view = viewOf(bytes);
  const body = at + LENGTH_TAG;
  switch (view.getUint32(at + 1)) {
    case KEY:
      return view.getUint32(body) === KEY_NUMBER
        ? {
          device: "keyNumber",
          code: view.getBigUint64(body + 4),
          down: view.getUint8(body + 12),
        }
        : { device: "keyQcode", qcode: view.getUint32(body + 4), down: view.getUint8(body + 8) };
    case BUTTON:
      return { device: "button", button: view.getUint32(body), down: view.getUint8(body + 4) };
    case RELATIVE:
      return { device: "relative", axis: view.getUint32(body), value: view.getBigInt64(body + 4) };
    case ABSOLUTE:
      return { device: "absolute", axis: view.getUint32(body), value: view.getBigInt64(body + 4) };
    default:
      return {
        device: "touch",
        touch: view.getUint32(body),
        slot: view.getBigInt64(body + 4),
        trackingId: view.getBigInt64(body + 12),
        axis: view.getUint32(body + 20),
        value: view.getBigInt64(body + 24),
      };
  }
}

/** The bytes behind the kind byte: the inverse of {@link decodeInput}. */
export function encodeInput(input: RrInput): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(LENGTH_TOUCH - 1));
  let at = 0;
  const u8 = (value: number) => (view.setUint8(at, value), at += 1);
  const u32 = (value: number) => (view.setUint32(at, value), at += 4);
  const i64 = (value: bigint) => (view.setBigInt64(at, value), at += 8);
  switch (input.device) {
    case "keyNumber":
      u32(KEY), u32(KEY_NUMBER), i64(input.code), u8(input.down);
      break;
    case "keyQcode":
      u32(KEY), u32(KEY_QCODE), u32(input.qcode), u8(input.down);
      break;
    case "button":
      u32(BUTTON), u32(input.button), u8(input.down);
      break;
    case "relative":
      u32(RELATIVE), u32(input.axis), i64(input.value);
      break;
    case "absolute":
      u32(ABSOLUTE), u32(input.axis), i64(input.value);
      break;
    case "touch":
      u32(TOUCH), u32(input.touch), i64(input.slot), i64(input.trackingId);
      u32(input.axis), i64(input.value);
      break;
  }
  return new Uint8Array(view.buffer, 0, at);
}
