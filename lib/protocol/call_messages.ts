/**
 * The JSON messages of calls, "Calls" in PROTOCOL.md: their shapes, and errors that cross a channel.
 *
 * Bytes come in and go out; everything that is no such message is a {@link ProtocolError}.
 */
import { z } from "zod";
import {
  type Divergence,
  DivergenceError,
  messageOf,
  ProtocolError,
  RemoteError,
} from "../errors.ts";
import { JSON_BYTES_MAX } from "./framing.ts";

const METHOD_CHARACTERS_MAX = 128;
/** Longer error messages are cut, so that the message about a failure can always be sent. */
const ERROR_CHARACTERS_MAX = 64 << 10;

const callId = z.int().min(1);
const method = z.string().min(1).max(METHOD_CHARACTERS_MAX);

const wireError = z.strictObject({
  name: z.string().min(1).max(METHOD_CHARACTERS_MAX),
  message: z.string(),
  data: z.unknown().optional(),
});

const callMessage = z.union([
  z.strictObject({ id: callId, method, params: z.unknown() }),
  z.strictObject({ method, params: z.unknown() }),
  z.strictObject({ id: callId, result: z.unknown() }),
  z.strictObject({ id: callId, error: wireError }),
  z.strictObject({ cancel: callId }),
]);

export type WireError = z.infer<typeof wireError>;
/** A call, a notification, a result, an error, or the end of the interest in a call. */
export type CallMessage =
  | { readonly id: number; readonly method: string; readonly params: unknown }
  | { readonly method: string; readonly params: unknown }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: WireError }
  | { readonly cancel: number };

/** @throws {ProtocolError} on a message above the bound */
export function encodeCallMessage(message: CallMessage): Uint8Array {
  const bytes = new TextEncoder().encode(JSON.stringify(message));
  if (bytes.length > JSON_BYTES_MAX) {
    throw new ProtocolError(
      `A message of ${bytes.length} bytes is above the bound of ${JSON_BYTES_MAX} bytes`,
    );
  }
  return bytes;
}

/** @throws {ProtocolError} on anything that is no message of a call */
export function decodeCallMessage(body: Uint8Array): CallMessage {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (cause) {
    throw new ProtocolError(`A control message is no JSON: ${messageOf(cause)}`, { cause });
  }
  const parsed = callMessage.safeParse(value);
  if (!parsed.success) {
    throw new ProtocolError(
      "A control message is neither a call nor a notification, a result, an error or a cancellation",
      { cause: parsed.error },
    );
  }
  // `undefined` where a key that must be there is missing: zod takes any value for unknown.
  for (const key of ["params", "result"]) {
    if (key in parsed.data && (parsed.data as Record<string, unknown>)[key] === undefined) {
      throw new ProtocolError(`A control message has no ${key}`);
    }
  }
  return parsed.data as CallMessage;
}

/** What of an error crosses: never a stack, nothing of its cause. */
export function errorToWire(error: unknown): WireError {
  const name = (error instanceof RemoteError ? error.remoteName : undefined) ??
    (error instanceof Error && error.name ? error.name : "Error");
  const message = messageOf(error).slice(0, ERROR_CHARACTERS_MAX);
  const wire = { name: name.slice(0, METHOD_CHARACTERS_MAX), message };
  if (error instanceof DivergenceError) {
    return { ...wire, data: divergenceToWire(error.divergence) };
  }
  if (error instanceof RemoteError && error.data !== undefined) {
    return { ...wire, data: error.data };
  }
  return wire;
}

/** An error of the other side: a {@link DivergenceError} is one again, others are a {@link RemoteError}. */
export function errorFromWire(peer: string, { name, message, data }: WireError): Error {
  if (name === "DivergenceError") {
    const divergence = wireDivergence.safeParse(data);
    if (divergence.success) return new DivergenceError(divergence.data);
  }
  return new RemoteError(peer, name, message, data);
}

const wireDivergence = z.object({
  vm: z.string(),
  instructionCount: z.string().regex(/^\d{1,20}$/).transform((digits) => BigInt(digits)),
  sendNumber: z.int().nullable(),
  what: z.string(),
  expected: z.string(),
  actual: z.string(),
  likelyCause: z.string(),
});

function divergenceToWire(divergence: Divergence): unknown {
  return { ...divergence, instructionCount: divergence.instructionCount.toString() };
}
