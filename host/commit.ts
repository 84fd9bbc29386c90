/** Which commit a directory of sources is at. */
import { HostError } from "../lib/errors.ts";
import { run } from "./command.ts";

/**
 * The commit of the checkout whose top is `directory`, as 12 hex digits, with `-dirty` behind it where files differ from
 * it or are new. `undefined` where there is no such checkout, or no git.
 */
export async function commitOf(directory: string): Promise<string | undefined> {
  const git = async (...args: string[]) => (await run(["git", "-C", directory, ...args])).trim();
  try {
    // A copy without its history may lie in somebody else's checkout.
    if (await git("rev-parse", "--show-prefix") !== "") return undefined;
    const commit = await git("rev-parse", "--short=12", "HEAD");
    return await git("--no-optional-locks", "status", "--porcelain") === ""
      ? commit
      : `${commit}-dirty`;
  } catch (error) {
    if (error instanceof HostError) return undefined;
    throw error;
  }
}
