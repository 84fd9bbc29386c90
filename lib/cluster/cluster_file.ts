/**
 * Reads a cluster file: YAML text goes in, a {@link ClusterSpec} comes out, or every problem at once.
 *
 * ```
 * text ─▶ yaml_source ─▶ schema ─▶ resolve ─▶ ClusterSpec
 *              │            │          │
 *              └────────────┴──────────┴──▶ problems with line and column ─▶ SpecError
 * ```
 */
import { resolve } from "node:path";
import { messageOf, SpecError, type SpecProblem } from "../errors.ts";
import { problemsOf } from "./problems.ts";
import { isQcow2, QCOW2_MAGIC_BYTES } from "./qcow2.ts";
import { Resolver, type Surroundings } from "./resolve.ts";
import { clusterFileSchema } from "./schema.ts";
import type { ClusterSpec } from "./spec.ts";
import { YamlSource } from "./yaml_source.ts";

/**
 * Reads the cluster file at `path` and checks that the files it names are there.
 * @returns the cluster, and the text as it was read, for the recording's manifest
 * @throws {SpecError} with every problem found
 */
export async function loadClusterFile(path: string): Promise<{ spec: ClusterSpec; text: string }> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (cause) {
    const message = cause instanceof Deno.errors.NotFound
      ? "no such cluster file"
      : `cannot be read: ${messageOf(cause)}`;
    throw new SpecError(path, [{ path: "", line: 0, column: 0, message }], { cause });
  }
  return { spec: parseClusterFile(path, text, surroundings), text };
}

/**
 * Makes a cluster of `text`. `path` names the file in messages and gives relative paths their folder.
 * @throws {SpecError}
 */
export function parseClusterFile(path: string, text: string, around: Surroundings): ClusterSpec {
  const source = new YamlSource(text);
  if (source.syntaxProblems.length > 0) throw new SpecError(path, source.syntaxProblems);
  const content = clusterFileSchema.safeParse(source.value);
  if (!content.success) throw inOrder(path, problemsOf(source, content.error.issues));
  const resolver = new Resolver(resolve(path), source, content.data, around);
  const spec = resolver.resolve();
  if (resolver.problems.length > 0) throw inOrder(path, resolver.problems);
  return spec;
}

/** The error for `problems`, sorted as they stand in the file. */
function inOrder(path: string, problems: readonly SpecProblem[]): SpecError {
  return new SpecError(path, problems.toSorted((a, b) => a.line - b.line || a.column - b.column));
}

const surroundings: Surroundings = {
  kindOf(path) {
    try {
      return Deno.statSync(path).isDirectory ? "directory" : "file";
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
        return undefined;
      }
      throw error;
    }
  },
  readText: (path) => Deno.readTextFileSync(path),
  isQcow2(path) {
    using file = Deno.openSync(path);
    const head = new Uint8Array(QCOW2_MAGIC_BYTES);
    return isQcow2(new DataView(head.buffer, 0, file.readSync(head) ?? 0));
  },
};
