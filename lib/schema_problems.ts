/** What a value from elsewhere has wrong, in words. */
import { z } from "zod";

/** Every problem with its place: `vms[0].name: expected …; …`. */
export function schemaProblems(error: z.ZodError): string {
  return error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `${z.core.toDotPath(path)}: ${message}`
  ).join("; ");
}
