/**
 * The KV store under the catalog: an embedded SQLite file, or a denokv server by URL.
 *
 * Several processes may use one file. SQLite then answers "database is locked" at once instead of
 * waiting (measured: Deno 2.9, dozens of times in 100 writes beside two other writers), so every
 * operation is repeated after a short random pause, for {@link LOCK_PATIENCE_MS} at most.
 */
import { dirname, resolve } from "node:path";
import { ClusterrrError, HostError, messageOf } from "../errors.ts";

/** How long a locked database is waited for. One write holds the lock for about a millisecond. */
export const LOCK_PATIENCE_MS = 10_000;
const PAUSE_MS = 15;

/** Where the catalog is: `CLUSTERRR_CATALOG`, or below the user's data directory. */
export function defaultCatalogPath(
  env: (name: string) => string | undefined = Deno.env.get,
): string {
  const chosen = env("CLUSTERRR_CATALOG");
  if (chosen) return chosen;
  const data = env("XDG_DATA_HOME") || `${env("HOME") || "/root"}/.local/share`;
  return `${data}/clusterrr/catalog.sqlite3`;
}

/** Whether `path` names a denokv server. */
export function isServer(path: string): boolean {
  return /^https?:\/\//.test(path);
}

/** Repeats `work` while another process holds the database's lock. @throws {ClusterrrError} after a while */
export async function whenUnlocked<T>(work: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + LOCK_PATIENCE_MS;
  for (;;) {
    try {
      return await work();
    } catch (cause) {
      if (!/database is locked|database table is locked/.test(messageOf(cause))) throw cause;
      if (performance.now() > deadline) {
        throw new ClusterrrError(
          `The database has been locked by another process for ${
            LOCK_PATIENCE_MS / 1000
          } s; try again`,
          { cause },
        );
      }
      await new Promise((done) => setTimeout(done, Math.random() * PAUSE_MS));
    }
  }
}

/** What a store is to its user, and what helps where it cannot be opened. */
export interface StoreKind {
  readonly name: string;
  readonly advice: string;
}

const CATALOG: StoreKind = {
  name: "the catalog",
  advice: "Set CLUSTERRR_CATALOG to another file, or move this one away: " +
    "`clusterrr ls --rescan DIR` rebuilds it, all but names and tags.",
};

/**
 * Opens the store, with its directory made if need be.
 * @throws {HostError} where the file cannot be opened or is not a database
 */
export async function openStore(path: string, kind = CATALOG): Promise<Deno.Kv> {
  const target = isServer(path) || path === ":memory:" ? path : resolve(path);
  try {
    if (target.startsWith("/")) {
      await Deno.mkdir(dirname(target), { recursive: true, mode: 0o700 });
    }
    return await whenUnlocked(() => Deno.openKv(target));
  } catch (cause) {
    if (cause instanceof ClusterrrError) throw cause;
    throw new HostError(
      `opening ${kind.name} ${target}`,
      1,
      messageOf(cause),
      isServer(path)
        ? "Check the address, and that DENO_KV_ACCESS_TOKEN holds the server's token."
        : kind.advice,
      { cause },
    );
  }
}

/** What {@link modify} puts in place of a value: a new value, `null` to delete it, or no change. */
export type Change<T> = { readonly set: T } | { readonly set: null } | undefined;

/**
 * Changes one value atomically: reads it, asks `change` what to do, writes only if nobody else has
 * written since, else starts again.
 */
export async function modify<T>(
  kv: Deno.Kv,
  key: Deno.KvKey,
  change: (current: unknown) => Change<T>,
): Promise<void> {
  const deadline = performance.now() + LOCK_PATIENCE_MS;
  for (;;) {
    const current = await whenUnlocked(() => kv.get(key));
    const wanted = change(current.value);
    if (wanted === undefined) return;
    const atomic = kv.atomic().check(current);
    if (wanted.set === null) atomic.delete(key);
    else atomic.set(key, wanted.set);
    const { ok } = await whenUnlocked(() => atomic.commit());
    if (ok) return;
    if (performance.now() > deadline) {
      throw new ClusterrrError("Other processes keep changing this catalog entry; try again");
    }
  }
}
