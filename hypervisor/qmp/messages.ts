/**
 * The messages of QEMU's machine protocol (QEMU: docs/interop/qmp-spec.txt), one JSON object a line.
 *
 * A greeting opens the connection; then every line is a reply to a command, found by its id, or an
 * event. Other keys of a message are allowed and ignored: newer QEMUs add some.
 */
import { z } from "zod";
import { ProtocolError } from "../../lib/errors.ts";

const greetingShape = z.object({
  QMP: z.object({
    version: z.object({
      qemu: z.object({ major: z.int(), minor: z.int(), micro: z.int() }),
      package: z.string(),
    }),
    capabilities: z.array(z.string()),
  }),
});

const eventShape = z.object({
  event: z.string(),
  data: z.record(z.string(), z.unknown()).default({}),
  timestamp: z.object({ seconds: z.number(), microseconds: z.number() }),
});

const returnShape = z.object({ return: z.unknown(), id: z.int() });

/** Without an id where QEMU could not read the command at all. */
const errorShape = z.object({
  error: z.object({ class: z.string(), desc: z.string() }),
  id: z.int().optional(),
});

export interface QmpEvent {
  readonly name: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** The host's clock, microseconds since 1970. */
  readonly timestampUs: number;
}

/** What QEMU may send once the connection stands. */
export type QmpMessage =
  | { readonly kind: "event"; readonly event: QmpEvent }
  | { readonly kind: "return"; readonly id: number; readonly value: unknown }
  | {
    readonly kind: "error";
    readonly id: number;
    readonly errorClass: string;
    readonly description: string;
  };

/** The first line of a connection. @throws {ProtocolError} where it is none of a QEMU's */
export function checkGreeting(line: string): void {
  check(greetingShape, parseJson(line), line);
}

/** Any later line. @throws {ProtocolError} */
export function parseMessage(line: string): QmpMessage {
  const json = parseJson(line);
  if (typeof json === "object" && json !== null) {
    if ("event" in json) {
      const { event, data, timestamp } = check(eventShape, json, line);
      const timestampUs = timestamp.seconds * 1e6 + timestamp.microseconds;
      return { kind: "event", event: { name: event, data, timestampUs } };
    }
    if ("error" in json) {
      const { error, id } = check(errorShape, json, line);
      if (id === undefined) {
        throw new ProtocolError(`QMP: QEMU could not read a command: ${error.desc}`);
      }
      return { kind: "error", id, errorClass: error.class, description: error.desc };
    }
    if ("return" in json) {
      const { return: value, id } = check(returnShape, json, line);
      return { kind: "return", id, value };
    }
  }
  throw new ProtocolError(`QMP: neither a reply nor an event: ${excerpt(line)}`);
}

/** Checks the value that a command returned. @throws {ProtocolError} */
export function checkReturn<T>(command: string, shape: z.ZodType<T>, value: unknown): T {
  const result = shape.safeParse(value);
  if (result.success) return result.data;
  throw new ProtocolError(
    `QMP: ${command} returned ${excerpt(JSON.stringify(value) ?? "nothing")}: ` +
      z.prettifyError(result.error),
  );
}

function check<T>(shape: z.ZodType<T>, json: unknown, line: string): T {
  const result = shape.safeParse(json);
  if (result.success) return result.data;
  throw new ProtocolError(
    `QMP: unexpected message ${excerpt(line)}: ${z.prettifyError(result.error)}`,
  );
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new ProtocolError(`QMP: not JSON: ${excerpt(line)}`, { cause });
  }
}

function excerpt(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}… (${text.length} characters)` : text;
}
