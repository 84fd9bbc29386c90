/** What the tests of cluster files share: made-up surroundings, and the complaints about a file. */
import assert from "node:assert/strict";
import { SpecError } from "../errors.ts";
import { parseClusterFile } from "./cluster_file.ts";
import type { Surroundings } from "./resolve.ts";

/** A folder `/c` in which everything is a file but `dir` and what contains `missing`; `cloud` images are qcow2. */
const around: Surroundings = {
  kindOf: (path) =>
    path.includes("missing") ? undefined : path.endsWith("/dir") ? "directory" : "file",
  readText: (path) => `text of ${path}`,
  isQcow2: (path) => path.includes("cloud"),
};

/** Parses a cluster file that lies in `/c`. */
export const parse = (text: string) => parseClusterFile("/c/cluster.yaml", text, around);

/** What a user sees of a wrong file, without the file's name. */
export function complaint(text: string): string {
  try {
    parse(text);
  } catch (error) {
    assert(error instanceof SpecError, `not a SpecError: ${error}`);
    return error.message.replaceAll("/c/cluster.yaml:", "");
  }
  throw new assert.AssertionError({ message: `accepted:\n${text}` });
}
