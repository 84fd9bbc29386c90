/** What a failed write of a recording tells the user. */
import { errnoOf, HostError, messageOf } from "../errors.ts";

const ENOSPC = 28;
const EDQUOT = 122;

/** The error for `action` (a verb) on the file `path`, after Deno's error `cause`. */
export function diskError(action: string, path: string, cause: unknown): HostError {
  const errno = errnoOf(cause) ?? 0;
  const advice = errno === ENOSPC || errno === EDQUOT
    ? "Free some space or record into a directory on a larger disk; what was recorded so far is kept."
    : "What was recorded so far is kept.";
  return new HostError(`${action} ${path}`, errno, messageOf(cause), advice, { cause });
}
