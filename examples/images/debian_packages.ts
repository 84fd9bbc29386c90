/**
 * Debian packages for guest images: which packages and versions, their downloads, their files.
 *
 * Names go in; out come unpacked folders, each package pinned by file name and SHA-256. Nothing is
 * installed on this machine. Downloads are kept in a pool, so a second image costs no network.
 */
import { FormatError, HostError } from "../../lib/errors.ts";
import { run } from "../../host/command.ts";

/** One package as the archive's index describes it. */
export interface Package {
  readonly name: string;
  readonly version: string;
  readonly architecture: string;
  readonly section: string;
  /** Alternatives of a dependency beyond the first are left out. */
  readonly depends: readonly string[];
  readonly sha256: string;
}

const APT_ADVICE = "Guest images are built from Debian packages: this needs a Debian or Ubuntu " +
  "host with working apt sources.";
const DOWNLOAD_TIMEOUT_MS = 600_000;

/** Fetches the index anew. Needs root and a network. */
export async function updateIndex(): Promise<void> {
  await run(["apt-get", "update", "-qq"], { advice: APT_ADVICE, timeoutMs: DOWNLOAD_TIMEOUT_MS });
}

/**
 * Looks `names` up. Virtual packages have no record and are passed over.
 * @throws {HostError} where the index has never heard of a name
 */
export async function lookUp(names: readonly string[]): Promise<Package[]> {
  if (names.length === 0) return [];
  const text = await run(["apt-cache", "show", "--no-all-versions", ...names], {
    advice: APT_ADVICE,
  });
  return text.split("\n\n").filter((record) => record.trim() !== "").map(parseRecord);
}

/**
 * Parses one record of an index: `Key: value` lines, continued by lines that start with a blank.
 * @throws {HostError} where it names nothing that can be downloaded
 */
export function parseRecord(record: string): Package {
  const fields = new Map<string, string>();
  for (const line of record.split("\n")) {
    const at = line.indexOf(": ");
    if (at > 0 && !line.startsWith(" ")) fields.set(line.slice(0, at), line.slice(at + 2));
  }
  const field = (name: string) => {
    const value = fields.get(name);
    if (value !== undefined) return value;
    // A package that is installed here but no longer in the archive has no digest.
    const what = `apt-cache show ${fields.get("Package") ?? ""}`;
    throw new HostError(what, 0, `the record has no ${name}: no archive to download`, APT_ADVICE);
  };
  const depends = [fields.get("Pre-Depends"), fields.get("Depends")]
    .flatMap((list) => list?.split(",") ?? [])
    .map((dependency) => dependency.split("|")[0]!.trim().split(/[ :(]/)[0]!);
  return {
    name: field("Package"),
    version: field("Version"),
    architecture: field("Architecture"),
    section: fields.get("Section") ?? "",
    depends,
    sha256: field("SHA256"),
  };
}

/**
 * The library packages that `packages` need, and those need in turn. Only packages of Debian's
 * section "libs" count: a guest has no use for the init scripts and the like that others bring.
 */
export async function libraryClosure(packages: readonly Package[]): Promise<Package[]> {
  const seen = new Set(packages.map((p) => p.name));
  const libraries: Package[] = [];
  let next = packages.flatMap((p) => p.depends);
  while (next.length > 0) {
    const fresh = [...new Set(next)].filter((name) => !seen.has(name)).sort();
    fresh.forEach((name) => seen.add(name));
    const found = (await lookUp(fresh)).filter((p) => p.section === "libs");
    libraries.push(...found);
    next = found.flatMap((p) => p.depends);
  }
  return libraries;
}

/**
 * Puts the archives of `packages` into `pool`, where they are not there yet, and returns their paths.
 * @throws {HostError} where a download fails even after `apt-get update`
 */
export async function download(packages: readonly Package[], pool: string): Promise<string[]> {
  await Deno.mkdir(pool, { recursive: true });
  const paths = packages.map((p) => `${pool}/${p.name}-${p.sha256}.deb`);
  const missing: Package[] = [];
  for (const [i, path] of paths.entries()) {
    if (!(await exists(path))) missing.push(packages[i]!);
  }
  if (missing.length === 0) return paths;

  const scratch = await Deno.makeTempDir({ dir: pool, prefix: "download-" });
  try {
    const names = missing.map((p) => `${p.name}=${p.version}`);
    await aptDownload(names, scratch);
    for (const p of missing) {
      const file = `${scratch}/${p.name}_${p.version.replaceAll(":", "%3a")}_${p.architecture}.deb`;
      const digest = await sha256(await Deno.readFile(file));
      if (digest !== p.sha256) throw new FormatError(file, 0, `SHA-256 ${digest}, not ${p.sha256}`);
      await Deno.rename(file, `${pool}/${p.name}-${p.sha256}.deb`);
    }
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
  return paths;
}

async function aptDownload(names: readonly string[], folder: string): Promise<void> {
  const argv = ["-q", "-o", "APT::Sandbox::User=root", "download", ...names];
  await run(["env", "-C", folder, "apt-get", ...argv], {
    advice: APT_ADVICE,
    timeoutMs: DOWNLOAD_TIMEOUT_MS,
  });
}

/** Unpacks the archive `deb` into `folder`, as it would be below `/`. */
export async function unpack(deb: string, folder: string): Promise<void> {
  await run(["dpkg-deb", "-x", deb, folder], { timeoutMs: 120_000 });
}

/** The SHA-256 of `bytes` in hexadecimal. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Whether there is anything at `path`. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
