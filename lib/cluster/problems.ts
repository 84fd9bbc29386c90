/**
 * Turns zod's findings about a cluster file into problems with line, column and what would be right.
 */
import type { z } from "zod";
import type { SpecProblem } from "../errors.ts";
import { clusterJsonSchema } from "./schema.ts";
import { nearestName } from "./spelling.ts";
import type { SpecPath, YamlSource } from "./yaml_source.ts";

type Issue = z.core.$ZodIssue;

/** Every problem behind `issues`. */
export function problemsOf(source: YamlSource, issues: readonly Issue[]): SpecProblem[] {
  return issues.flatMap((issue) => problemsOfIssue(source, issue, []));
}

function problemsOfIssue(source: YamlSource, issue: Issue, around: SpecPath): SpecProblem[] {
  const path = [...around, ...issue.path as (string | number)[]];
  if (issue.code === "unrecognized_keys") {
    const known = knownKeys(path);
    return issue.keys.map((key) => source.problem([...path, key], unknownKey(key, known), "key"));
  }
  if (issue.code === "invalid_union") {
    const meant = issue.errors.find((option) => option.every((inner) => !isAboutKind(inner)));
    if (meant !== undefined) return meant.flatMap((inner) => problemsOfIssue(source, inner, path));
  }
  return [source.problem(path, issue.message)];
}

/** Whether an option of a union fails already because the value is of another kind. */
function isAboutKind(issue: Issue): boolean {
  return issue.path.length === 0 &&
    (issue.code === "invalid_type" || issue.code === "invalid_value");
}

function unknownKey(key: string, known: readonly string[]): string {
  const nearest = nearestName(key, known);
  if (nearest !== undefined) return `unknown key; did you mean "${nearest}"?`;
  return `unknown key; known here: ${known.join(", ")}`;
}

/** The part of JSON Schema that {@link knownKeys} walks through. */
interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly items?: SchemaNode;
  readonly anyOf?: readonly SchemaNode[];
}

/** The keys that the mapping at `path` may have. */
function knownKeys(path: SpecPath): string[] {
  let nodes: readonly SchemaNode[] = [clusterJsonSchema() as SchemaNode];
  for (const part of path) {
    nodes = nodes.flatMap(optionsOf).flatMap((node) => {
      const next = typeof part === "number" ? node.items : node.properties?.[part];
      return next === undefined ? [] : [next];
    });
  }
  return nodes.flatMap(optionsOf).flatMap((node) => Object.keys(node.properties ?? {}));
}

function optionsOf(node: SchemaNode): readonly SchemaNode[] {
  return node.anyOf ?? [node];
}
