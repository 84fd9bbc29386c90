/**
 * The file that unpacks itself: `launcher.sh`, then the bundle, then the runtime that builds it, both packed with gzip.
 * It needs nothing but what npm brought. The same bundle and runtime give the same bytes.
 *
 * ```
 * launcher (text) | gzip: clusterrr-DIGEST.mjs | gzip: deno-DIGEST
 * ```
 */
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import config from "../deno.json" with { type: "json" };
import type { Bundle } from "./bundle.ts";
import { writeWhole } from "./whole_file.ts";

const LAUNCHER = new URL("launcher.sh", import.meta.url);
/** Level 9 takes twice the time and saves 0.3 %. */
const GZIP = { level: 6 };
/** Hex digits of a digest in a name. */
const DIGEST_DIGITS = 16;

/**
 * Writes the file to `path`.
 * @param cache where the packed runtime is kept, since packing takes most of a build's time
 */
export async function writeSelfExtracting(
  path: string,
  { code, facts }: Bundle,
  cache: string,
): Promise<void> {
  const runtime = await Deno.readFile(Deno.execPath());
  const app = gzipSync(code, GZIP);
  const packedRuntime = await packRuntime(runtime, cache);
  const payload = createHash("sha256").update(app).update(packedRuntime).digest("hex");
  const launcher = fillIn(await Deno.readTextFile(LAUNCHER), {
    VERSION: config.version,
    COMMIT: facts.commit,
    RUNTIME_DIGEST: nameDigest(runtime),
    APP_DIGEST: nameDigest(code),
    PAYLOAD_DIGEST: payload,
    PAYLOAD_BYTES: app.length + packedRuntime.length,
    APP_BYTES: app.length,
    RUNTIME_BYTES: packedRuntime.length,
    UNPACKED_MB: Math.ceil((code.length + runtime.length) / 1e6),
  });
  await writeWhole(path, 0o755, new TextEncoder().encode(launcher), app, packedRuntime);
}

function nameDigest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex").slice(0, DIGEST_DIGITS);
}

async function packRuntime(runtime: Uint8Array, cache: string): Promise<Uint8Array> {
  const kept = `${cache}/deno-${nameDigest(runtime)}.gz`;
  try {
    return await Deno.readFile(kept);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const packed = gzipSync(runtime, GZIP);
  await Deno.mkdir(cache, { recursive: true });
  await writeWhole(kept, 0o644, packed);
  return packed;
}

/** Replaces each `@NAME@`. */
function fillIn(template: string, values: Readonly<Record<string, string | number>>): string {
  return template.replace(/@([A-Z_]+)@/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`launcher.sh names @${name}@, which nobody sets`);
    return String(value);
  });
}
