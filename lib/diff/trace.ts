/** The lines of a replay's trace; `FORMAT.md` says what they mean. */
import { z } from "zod";
import { ramDigestSchema } from "../recording/ram_digest.ts";

export const TRACE_FORMAT = "clusterrr-trace";
export const TRACE_VERSION = 2;
/** A line is not longer than this. */
export const TRACE_LINE_BYTES_MAX = 1 << 20;
/** Bytes of a sent frame's beginning that a trace keeps. */
export const TRACE_HEAD_BYTES = 64;

const count = z.int().nonnegative();
const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`));
const vm = z.string();

export const traceHeaderSchema = z.object({
  format: z.literal(TRACE_FORMAT),
  formatVersion: z.literal(TRACE_VERSION),
  recording: z.object({ id: z.string(), name: z.string() }),
  toolVersion: z.string(),
  vms: z.array(z.object({ number: z.int().positive(), name: vm })),
});
export type TraceHeader = z.infer<typeof traceHeaderSchema>;

export const traceRecordSchema = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("send"),
    vm,
    number: count,
    length: count,
    hash: hex(8),
    head: z.string().regex(/^([0-9a-f]{2}){0,64}$/),
    near: count,
    lamport: z.string().regex(/^\d{1,20}$/).optional(),
  }),
  z.object({
    type: z.literal("check"),
    vm,
    icount: count,
    registers: hex(32),
    ram: ramDigestSchema,
  }),
  z.object({
    type: z.literal("divergence"),
    vm,
    icount: count,
    what: z.string(),
    expected: z.string(),
    actual: z.string(),
  }),
  z.object({ type: z.literal("end"), vm, complete: z.boolean(), reason: z.string() }),
  z.object({ type: z.literal("console"), vm, bytes: count, sha256: hex(32) }),
  z.object({ type: z.literal("close") }),
]);
export type TraceRecord = z.infer<typeof traceRecordSchema>;
