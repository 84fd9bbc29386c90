/**
 * The file that `deno compile` makes: the bundle in a copy of denort, a smaller runtime. denort is not on npm; it comes from
 * the environment, from Deno's cache, or from Deno's own site.
 */
import { dirname } from "node:path";
import { ClusterrrError, HostError } from "../lib/errors.ts";
import { run } from "../host/command.ts";
import type { Bundle } from "./bundle.ts";

const TARGET = "x86_64-unknown-linux-gnu";
/** A network that lets packets vanish must not hold up a build that can do without. */
const DOWNLOAD_TIMEOUT_MS = 60_000;
const COMPILE_TIMEOUT_MS = 300_000;

/** Where denort would come from, or why it cannot be had. */
export type Base =
  | { readonly from: string }
  | { readonly missing: string };

/**
 * Looks for denort in the order in which `deno compile` does. Where it is neither named nor cached, an empty module
 * is compiled: Deno then downloads it, or says why it cannot.
 */
export async function findBase(timeoutMs = DOWNLOAD_TIMEOUT_MS): Promise<Base> {
  const chosen = Deno.env.get("DENORT_BIN");
  if (chosen !== undefined) return { from: `DENORT_BIN, ${chosen}` };
  const path = `release/v${Deno.version.deno}/denort-${TARGET}.zip`;
  const cached = `${await denoDirectory()}/dl/${path}`;
  if (await isFile(cached)) return { from: cached };
  const scratch = await Deno.makeTempDir({ prefix: "clusterrr-denort-" });
  try {
    await Deno.writeTextFile(`${scratch}/empty.mjs`, "");
    await run([
      ...[Deno.execPath(), "compile", "--quiet", "--no-config", "--no-lock"],
      ...["--output", `${scratch}/empty`, `${scratch}/empty.mjs`],
    ], { timeoutMs });
    return { from: "the network" };
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    return { missing: `not in DENORT_BIN, not ${cached}, and Deno cannot download it` };
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
}

async function denoDirectory(): Promise<string> {
  const info = await run([Deno.execPath(), "info", "--no-config", "--json"]);
  return JSON.parse(info).denoDir;
}

async function isFile(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Compiles to `path`, and looks whether what came out is clusterrr.
 * @throws {ClusterrrError} where it is not; {HostError} where Deno cannot compile
 */
export async function writeCompiled(path: string, { code }: Bundle): Promise<void> {
  const scratch = await Deno.makeTempDir({ prefix: ".compile-", dir: dirname(path) });
  try {
    const [module, compiled] = [`${scratch}/clusterrr.mjs`, `${scratch}/clusterrr`];
    await Deno.writeFile(module, code);
    await run([
      ...[Deno.execPath(), "compile", "-A", "--quiet", "--no-check", "--unstable-kv"],
      ...["--no-config", "--no-lock", "--no-remote", "--no-npm", "--output", compiled, module],
    ], { timeoutMs: COMPILE_TIMEOUT_MS });
    await expectClusterrr(compiled);
    await Deno.rename(compiled, path);
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
}

/** A base that is no denort makes a file all the same, which does anything. */
async function expectClusterrr(file: string): Promise<void> {
  const said = await run([file, "--version"]).catch((error) => {
    if (error instanceof HostError) return error.message;
    throw error;
  });
  if (/^clusterrr [^]*^packing +compiled$/m.test(said)) return;
  throw new ClusterrrError(
    `what came out of deno compile is not clusterrr; it says: ${said.split("\n")[0]}`,
  );
}
