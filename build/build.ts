/**
 * Builds clusterrr as one file: `deno task build [--packing compiled|self-extracting] [--out FILE]`.
 *
 * ```
 * main.ts, deno.lock ─▶ bundle ─┬─▶ deno compile, where its base runtime can be had
 *                               └─▶ the self-extracting file otherwise
 * ```
 */
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Packing } from "../host/launch.ts";
import { ClusterrrError, messageOf, UsageError } from "../lib/errors.ts";
import { bundle } from "./bundle.ts";
import { findBase, writeCompiled } from "./compiled.ts";
import { writeSelfExtracting } from "./self_extracting.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
/** Where the packed runtime is kept from build to build. */
export const CACHE = `${ROOT}dist/cache`;
const PACKINGS = ["compiled", "self-extracting"] as const;

/** How a file is built. */
export interface BuildOptions {
  readonly out: string;
  /** Where absent: compiled if that is possible here. */
  readonly packing?: Exclude<Packing, "sources">;
  /** Told what is chosen and why. */
  readonly say?: (line: string) => void;
}

/**
 * Builds the sources of this checkout.
 * @throws {ClusterrrError} where the sources cannot be bundled, or not packed as asked for
 */
export async function build({ out, packing, say = () => {} }: BuildOptions): Promise<void> {
  const bundled = await bundle(ROOT);
  await Deno.mkdir(dirname(out), { recursive: true });
  if (packing !== "self-extracting") {
    const objection = await compile();
    if (objection === undefined) return;
    if (packing === "compiled") throw new ClusterrrError(`cannot compile: ${objection}`);
    say(`self-extracting, since deno compile cannot be used: ${objection}`);
  }
  await writeSelfExtracting(out, bundled, CACHE);

  /** Why there is no compiled file. */
  async function compile(): Promise<string | undefined> {
    const base = await findBase();
    if ("missing" in base) return `its base runtime, denort, is missing: ${base.missing}`;
    say(`compiled, with the base runtime from ${base.from}`);
    try {
      await writeCompiled(out, bundled);
      return undefined;
    } catch (error) {
      if (error instanceof ClusterrrError) return error.message;
      throw error;
    }
  }
}

function readArguments(args: readonly string[]): BuildOptions {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { out: { type: "string" }, packing: { type: "string" } },
    });
    const packing = PACKINGS.find((known) => known === values.packing);
    if (values.packing !== undefined && packing === undefined) {
      throw new Error(`no packing "${values.packing}"; it is ${PACKINGS.join(" or ")}`);
    }
    return {
      out: resolve(values.out ?? `${ROOT}dist/clusterrr`),
      ...(packing === undefined ? {} : { packing }),
      say: (line) => console.log(line),
    };
  } catch (cause) {
    throw new UsageError(messageOf(cause), { cause });
  }
}

if (import.meta.main) {
  try {
    const options = readArguments(Deno.args);
    await build(options);
    const { size } = await Deno.stat(options.out);
    console.log(`${options.out}: ${(size / 1e6).toFixed(1)} MB`);
  } catch (error) {
    if (!(error instanceof ClusterrrError)) throw error;
    console.error(messageOf(error));
    Deno.exit(error.exitStatus);
  }
}
