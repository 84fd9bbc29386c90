/**
 * How this process of clusterrr was started: from sources, from a compiled file, or unpacked by the
 * self-extracting file's launcher (`build/launcher.sh`).
 */

/** What the build knows and the bundle cannot find out. */
export interface BuildFacts {
  /** 12 hex digits, perhaps with `-dirty`; `unknown` where the sources had no git. */
  readonly commit: string;
}

/** In a bundle, esbuild puts the facts in this name's place; elsewhere there is no such name. */
declare const CLUSTERRR_BUILD: BuildFacts | undefined;

/** The facts of the build; `undefined` where clusterrr runs from its sources. */
export const buildFacts: BuildFacts | undefined = typeof CLUSTERRR_BUILD === "undefined"
  ? undefined
  : CLUSTERRR_BUILD;

export type Packing = "sources" | "compiled" | "self-extracting";

/** What holds the code that runs. */
export function packing(): Packing {
  if (buildFacts === undefined) return "sources";
  return Deno.build.standalone ? "compiled" : "self-extracting";
}

/** Takes the runtime's settings that the launcher made out of the environment: they are not for what clusterrr starts. */
export function restoreEnvironment(): void {
  if (packing() !== "self-extracting") return;
  for (const name of ["DENO_DIR", "DENO_NO_UPDATE_CHECK", "DENO_NO_PACKAGE_JSON"]) {
    Deno.env.delete(name);
  }
  const denoDirectory = Deno.env.get("CLUSTERRR_DENO_DIR");
  if (denoDirectory === undefined) return;
  Deno.env.set("DENO_DIR", denoDirectory);
  Deno.env.delete("CLUSTERRR_DENO_DIR");
}
