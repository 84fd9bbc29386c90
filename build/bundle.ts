/**
 * Puts clusterrr's sources and dependencies into one module. In: `main.ts` and what it imports. Out:
 * JavaScript that a Deno runtime runs alone; both forms of the built file hold the same.
 *
 * esbuild is an npm package pinned in `deno.lock`. It is called by itself: `deno bundle` would fetch a
 * copy of its own, of which no lock file knows.
 */
import { join } from "node:path";
import { commitOf } from "../host/commit.ts";
import { run } from "../host/command.ts";
import type { BuildFacts } from "../host/launch.ts";
import { ClusterrrError } from "../lib/errors.ts";

const ESBUILD = "node_modules/@esbuild/linux-x64/bin/esbuild";

/**
 * What a module cannot do once it is in the bundle: look for files beside it, or start another of our
 * files. `main.ts` knows whether it is in one.
 */
const SOURCE_ONLY = /\bimport\.meta\b|\bDeno\.execPath\b|\bnew Worker\(/;
const KNOWS_THE_BUNDLE: ReadonlySet<string> = new Set(["main.ts"]);

/** Gives CommonJS dependencies their `require` of Node's modules. */
const BANNER = `import { createRequire as createNodeRequire } from "node:module"; ` +
  `const require = createNodeRequire(import.meta.url);`;

/** clusterrr as one module. */
export interface Bundle {
  readonly code: Uint8Array<ArrayBuffer>;
  readonly facts: BuildFacts;
}

/**
 * Bundles `main.ts` of the sources in `root`. The same sources at the same commit give the same bytes, wherever they are.
 * @throws {ClusterrrError} where a source relies on being run from its file
 * @throws {HostError} where esbuild is missing or finds a mistake
 */
export async function bundle(root: string): Promise<Bundle> {
  const facts: BuildFacts = { commit: await commitOf(root) ?? "unknown" };
  const scratch = await Deno.makeTempDir({ prefix: "clusterrr-bundle-" });
  try {
    const [code, graph] = [join(scratch, "app.mjs"), join(scratch, "graph.json")];
    const advice = "Install the dependencies of deno.lock first: deno install --frozen";
    await run([
      ...["env", "-C", root, `./${ESBUILD}`, "main.ts"], // the bundle's comments name files from there
      ...["--bundle", "--format=esm", "--platform=node", "--target=esnext", "--charset=utf8"],
      ...["--conditions=deno,import", "--log-level=warning"],
      `--define:CLUSTERRR_BUILD=${JSON.stringify(facts)}`,
      `--banner:js=${BANNER}`,
      `--outfile=${code}`,
      `--metafile=${graph}`,
    ], { advice });
    const { inputs } = JSON.parse(await Deno.readTextFile(graph));
    await refuseSourceOnly(root, Object.keys(inputs));
    return { code: await Deno.readFile(code), facts };
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
}

/**
 * Refuses sources that find nothing once they are in a bundle.
 * @param inputs paths below `root`
 * @throws {ClusterrrError} with the first such place
 */
export async function refuseSourceOnly(root: string, inputs: readonly string[]): Promise<void> {
  for (const input of inputs) {
    if (!input.endsWith(".ts") || KNOWS_THE_BUNDLE.has(input)) continue;
    const lines = (await Deno.readTextFile(join(root, input))).split("\n");
    const line = lines.findIndex((text) => SOURCE_ONLY.test(text));
    if (line < 0) continue;
    throw new ClusterrrError(
      `${input}:${line + 1}: "${
        lines[line]!.trim()
      }" works from sources only, and this file is in the bundle.\n` +
        'Import assets (with { type: "bytes" }); other files of ours cannot be started from a bundle.',
    );
  }
}
