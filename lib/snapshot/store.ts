/**
 * Where this host keeps its snapshots: a directory each, next to the catalog.
 *
 * ```
 * snapshots/.partial-RUN/ ──boot succeeds──▶ snapshots/NAME/ ──rm, --force──▶ snapshots/.removed-RUN/ ──▶ gone
 * ```
 * Only renames lead to and from NAME, so what is listed is whole; the hidden ones are left over once
 * their run is gone.
 */
import { dirname, join, resolve } from "node:path";
import { rmSync } from "node:fs";
import { directoryBytes } from "../catalog/directories.ts";
import { defaultCatalogPath, isServer } from "../catalog/store.ts";
import { ClusterrrError, messageOf } from "../errors.ts";
import { readSnapshot, type Snapshot } from "./snapshot.ts";

const HIDDEN = /^\.(?:partial|removed)-([a-z0-9]{6})$/;

/** Where snapshots are: next to the catalog's file, or below the user's data directory. */
export function snapshotsDirectory(
  env: (name: string) => string | undefined = Deno.env.get,
): string {
  const catalog = defaultCatalogPath(env);
  const file = isServer(catalog) || catalog === ":memory:"
    ? defaultCatalogPath((name) => name === "CLUSTERRR_CATALOG" ? undefined : env(name))
    : catalog;
  return join(dirname(resolve(file)), "snapshots");
}

/** A snapshot in a list; one that cannot be read has a `problem` instead of what it holds. */
export interface SnapshotEntry {
  readonly name: string;
  readonly directory: string;
  readonly bytes: number;
  readonly sha256?: string;
  readonly savedAt?: string;
  readonly vms?: readonly string[];
  readonly problem?: string;
}

/** The snapshots of one directory. */
export class SnapshotStore {
  constructor(readonly directory = snapshotsDirectory()) {}

  /** @throws {ClusterrrError} where there is none of that name; {FormatError} where it is damaged */
  open(name: string): Snapshot {
    this.requireKnown(name);
    return readSnapshot(this.#path(name));
  }

  /** @throws {ClusterrrError} where there is no snapshot of that name, with those that there are */
  requireKnown(name: string): void {
    if (this.has(name)) return;
    const known = this.#names().join(", ");
    throw new ClusterrrError(
      `No snapshot "${name}" in ${this.directory}` +
        (known === "" ? ". " : `; there are: ${known}. `) +
        "`clusterrr boot SPEC --save NAME` makes one.",
    );
  }

  has(name: string): boolean {
    return this.#names().includes(name);
  }

  /**
   * The snapshot with this digest, whatever its name is now.
   * @param places directories to look into before the store
   */
  find(sha256: string, places: readonly string[] = []): Snapshot | undefined {
    for (const directory of [...places, ...this.#names().map((name) => this.#path(name))]) {
      try {
        const snapshot = readSnapshot(directory);
        if (snapshot.sha256 === sha256) return snapshot;
      } catch (error) {
        if (!(error instanceof ClusterrrError)) throw error; // a damaged one is not the one
      }
    }
    return undefined;
  }

  /** All, by name. */
  async list(): Promise<SnapshotEntry[]> {
    return await Promise.all(
      this.#names().map(async (name): Promise<SnapshotEntry> => {
        const directory = this.#path(name);
        const bytes = await directoryBytes(directory);
        try {
          const { sha256, manifest } = readSnapshot(directory);
          const vms = manifest.vms.map((vm) => vm.name);
          return { name, directory, bytes, sha256, savedAt: manifest.savedAt, vms };
        } catch (error) {
          if (!(error instanceof ClusterrrError)) throw error;
          return { name, directory, bytes, problem: messageOf(error) };
        }
      }),
    );
  }

  /** Makes the directory that the snapshot of run `run` is made in. */
  begin(run: string): string {
    const directory = join(this.directory, `.partial-${run}`);
    Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
    return directory;
  }

  /**
   * Gives a finished snapshot its name.
   * @param replace takes away one that has it; else that is an error
   * @throws {ClusterrrError} where the name is taken
   */
  finish(run: string, name: string, replace: boolean): string {
    const path = this.#path(name);
    const removed = join(this.directory, `.removed-${run}`);
    const replaced = replace && this.has(name);
    if (replaced) Deno.renameSync(path, removed);
    try {
      Deno.renameSync(join(this.directory, `.partial-${run}`), path); // fails where one is there
    } catch (cause) {
      if (!this.has(name)) throw cause;
      throw nameTaken(name, { cause });
    }
    if (replaced) Deno.removeSync(removed, { recursive: true });
    return path;
  }

  /** Removes the snapshot `name`; `run` names what is left if that is cut short. */
  remove(name: string, run: string): void {
    const removed = join(this.directory, `.removed-${run}`);
    Deno.renameSync(this.#path(name), removed);
    Deno.removeSync(removed, { recursive: true });
  }

  /** Removes what `run` has not finished. */
  abandon(run: string): void {
    for (const kind of ["partial", "removed"]) {
      rmSync(join(this.directory, `.${kind}-${run}`), { recursive: true, force: true });
    }
  }

  /** Runs that have left something unfinished; the caller knows which of them go on. */
  unfinished(): string[] {
    return [...new Set(entriesOf(this.directory).flatMap((name) => HIDDEN.exec(name)?.[1] ?? []))];
  }

  #names(): string[] {
    return entriesOf(this.directory).filter((name) => !name.startsWith(".")).sort();
  }

  #path(name: string): string {
    return join(this.directory, name);
  }
}

/** The error for a name that a snapshot has already. */
export function nameTaken(name: string, options?: ErrorOptions): ClusterrrError {
  return new ClusterrrError(
    `There is a snapshot "${name}" already. Choose another name, or replace it with --force.`,
    options,
  );
}

function entriesOf(directory: string): string[] {
  try {
    return [...Deno.readDirSync(directory)].filter((e) => e.isDirectory).map((e) => e.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
