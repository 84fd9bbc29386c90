/**
 * A YAML text with the place of everything in it, so that an error can point at line and column.
 */
import { type Document, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import { messageOf, type SpecProblem } from "../errors.ts";

/** Keys and list positions from the root of the file to a value. */
export type SpecPath = readonly (string | number)[];

/** `vms[1].memory` */
export function pathText(path: SpecPath): string {
  return path.map((part, i) => typeof part === "number" ? `[${part}]` : i === 0 ? part : `.${part}`)
    .join("");
}

/** A parsed text. Where `syntaxProblems` is not empty, `value` means nothing. */
export class YamlSource {
  readonly value: unknown;
  readonly syntaxProblems: readonly SpecProblem[];
  readonly #document: Document.Parsed;
  readonly #lines = new LineCounter();

  constructor(text: string) {
    this.#document = parseDocument(text, {
      lineCounter: this.#lines,
      prettyErrors: false,
      logLevel: "error", // warnings are problems here, not output
    });
    const { errors, warnings } = this.#document;
    const problems = [...errors, ...warnings].map((error) => ({
      path: "",
      ...this.#placeOf(error.pos[0]),
      message: `not valid YAML: ${error.message}`,
    }));
    this.value = problems.length > 0 ? undefined : this.#toValue(problems);
    this.syntaxProblems = problems;
  }

  /** Aliases may be wrong in ways that show only now: too many of them, or an anchor that is not there. */
  #toValue(problems: SpecProblem[]): unknown {
    try {
      return this.#document.toJS();
    } catch (error) {
      const message = `not valid YAML: ${messageOf(error)}`;
      problems.push({ path: "", line: 0, column: 0, message });
      return undefined;
    }
  }

  /**
   * A problem with what is at `path`. It points at the value, at the key where `at` is "key", and
   * where there is no value at the nearest mapping or list around it.
   */
  problem(path: SpecPath, message: string, at: "value" | "key" = "value"): SpecProblem {
    let node: unknown = this.#document.contents;
    let place = offsetOf(node) ?? 0;
    for (const [depth, part] of path.entries()) {
      if (isMap(node)) {
        const pair = node.items.find((p) => isScalar(p.key) && String(p.key.value) === part);
        if (pair === undefined) break;
        const last = depth === path.length - 1;
        place = (last && at === "key" ? undefined : offsetOf(pair.value)) ?? offsetOf(pair.key) ??
          place;
        node = pair.value;
      } else if (isSeq(node) && typeof part === "number") {
        node = node.items[part];
        place = offsetOf(node) ?? place;
      } else {
        break;
      }
    }
    return { path: pathText(path), ...this.#placeOf(place), message };
  }

  #placeOf(offset: number): { line: number; column: number } {
    const { line, col } = this.#lines.linePos(offset);
    return { line, column: col };
  }
}

function offsetOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0];
}
