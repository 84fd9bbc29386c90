/**
 * The index of recordings. Recordings live in their directories and describe themselves; the catalog
 * only finds them by name, tag or the beginning of their id. Losing its file loses names given later
 * and tags, nothing else: {@link Catalog.rescan} rebuilds the rest.
 *
 * ```
 * ["recording", id] → CatalogEntry
 * ```
 */
import { resolve } from "node:path";
import { ClusterrrError, messageOf } from "../errors.ts";
import {
  deleteRecording,
  directoryBytes,
  holdsManifest,
  readSummary,
  realDirectory,
  recordingsBelow,
} from "./directories.ts";
import {
  type CatalogEntry,
  checkLabel,
  entrySchema,
  type RecordingSummary,
  TAGS_MAX,
} from "./entry.ts";
import { defaultCatalogPath, modify, openStore, whenUnlocked } from "./store.ts";

const RECORDING = "recording";

/** Which recordings {@link Catalog.list} returns; without a field, all. */
export interface ListFilter {
  readonly name?: string;
  readonly tag?: string;
}

/** What {@link Catalog.rescan} did. */
export interface RescanReport {
  /** Entries that were not known before. */
  readonly added: readonly CatalogEntry[];
  /** Entries of this host whose directory is gone. */
  readonly dropped: readonly CatalogEntry[];
  /** Directories with a manifest that could not be read, and why. */
  readonly unreadable: readonly { readonly path: string; readonly reason: string }[];
}

/** How a catalog is opened. */
export interface CatalogOptions {
  /** A file, `:memory:`, or the `http(s)` URL of a denokv server. Default: {@link defaultCatalogPath}. */
  readonly path?: string;
  /** This host's name in entries. Default: the kernel's. */
  readonly host?: string;
}

/** Opens the catalog; the caller closes it. @throws {HostError} */
export async function openCatalog(options: CatalogOptions = {}): Promise<Catalog> {
  const kv = await openStore(options.path ?? defaultCatalogPath());
  return new Catalog(kv, options.host ?? Deno.hostname());
}

/** The open catalog. Every method may be called while other processes use the same store. */
export class Catalog {
  readonly #kv: Deno.Kv;

  /** @param host whose directories it can look at */
  constructor(kv: Deno.Kv, readonly host: string) {
    this.#kv = kv;
  }

  close(): void {
    this.#kv.close();
  }

  /**
   * Adds the recording in `dir`, or brings its entry up to date; a name given later and tags stay.
   * A copy of a known recording takes the entry over; one that was in `dir` before is forgotten.
   * @throws {ClusterrrError} where `dir` is not a recording
   */
  async add(
    dir: string,
    labels: { readonly name?: string; readonly tags?: readonly string[] } = {},
  ): Promise<CatalogEntry> {
    const path = await realDirectory(dir);
    if (path === undefined) throw new ClusterrrError(`${dir} is not a directory`);
    const entry = await this.#put(path, labels);
    for (const { id } of await this.list()) {
      if (id !== entry.id) await this.#forget(id, path);
    }
    return entry;
  }

  async #put(
    path: string,
    labels: { readonly name?: string; readonly tags?: readonly string[] } = {},
  ): Promise<CatalogEntry> {
    const summary = readSummary(path);
    const storedBytes = await directoryBytes(path);
    const name = labels.name === undefined ? undefined : checkLabel("name", labels.name);
    return await this.#change(summary.id, (current) => {
      const entry = this.#entryOf(summary, path, storedBytes, current);
      return {
        ...entry,
        ...(name === undefined ? {} : { name, renamed: name !== summary.name }),
        tags: mergeTags(entry.tags, labels.tags ?? [], []),
      };
    });
  }

  #entryOf(
    summary: RecordingSummary,
    path: string,
    storedBytes: number,
    current: CatalogEntry | undefined,
  ): CatalogEntry {
    return {
      id: summary.id,
      name: current?.renamed ? current.name : summary.name,
      createdAt: summary.createdAt,
      vms: [...summary.vms],
      complete: summary.complete,
      storedBytes,
      path,
      host: this.host,
      tags: current?.tags ?? [],
      renamed: current?.renamed ?? false,
    };
  }

  /** Every entry that `filter` lets through, the newest first. */
  async list(filter: ListFilter = {}): Promise<CatalogEntry[]> {
    const entries = await whenUnlocked(async () => {
      const all: CatalogEntry[] = [];
      for await (const { value } of this.#kv.list({ prefix: [RECORDING] })) {
        const entry = readEntry(value);
        if (entry !== undefined) all.push(entry);
      }
      return all;
    });
    return entries
      .filter((e) => filter.name === undefined || e.name === filter.name)
      .filter((e) => filter.tag === undefined || e.tags.includes(filter.tag))
      .sort((a, b) => compare(b.createdAt, a.createdAt) || compare(a.id, b.id));
  }

  /**
   * The one recording that `reference` means: a whole id, a directory, a name, or the beginning of an
   * id; the first of these that fits anything decides.
   * @throws {ClusterrrError} where nothing fits, or several do (the message lists them)
   */
  async find(reference: string): Promise<CatalogEntry> {
    const entries = await this.list();
    const path = await realDirectory(reference) ?? resolve(reference);
    const rules: ((e: CatalogEntry) => boolean)[] = [
      (e) => e.id === reference,
      (e) => e.path === path && e.host === this.host,
      (e) => e.name === reference,
      (e) => reference !== "" && e.id.startsWith(reference.toLowerCase()),
    ];
    for (const rule of rules) {
      const fitting = entries.filter(rule);
      if (fitting.length === 1) return fitting[0]!;
      if (fitting.length > 1) throw ambiguous(reference, fitting);
    }
    throw new ClusterrrError(
      `No recording "${reference}" in the catalog. \`clusterrr ls\` lists the known ones; ` +
        `\`clusterrr add DIR\` adds one from elsewhere.`,
    );
  }

  /** Gives a recording another name. Names need not be unique, but are handier if they are. */
  async rename(id: string, name: string): Promise<CatalogEntry> {
    checkLabel("name", name);
    return await this.#changeKnown(id, (entry) => ({ ...entry, name, renamed: true }));
  }

  /** Adds tags; those it has already stay as they are. */
  async tag(id: string, tags: readonly string[]): Promise<CatalogEntry> {
    return await this.#changeKnown(
      id,
      (entry) => ({ ...entry, tags: mergeTags(entry.tags, tags, []) }),
    );
  }

  /** Removes tags; those it does not have are no error. */
  async untag(id: string, tags: readonly string[]): Promise<CatalogEntry> {
    return await this.#changeKnown(
      id,
      (entry) => ({ ...entry, tags: mergeTags(entry.tags, [], tags) }),
    );
  }

  /**
   * Forgets a recording; with `files` deletes its directory first.
   * @throws {ClusterrrError} where the directory is not that recording, or on another host
   */
  async remove(entry: CatalogEntry, options: { readonly files: boolean }): Promise<void> {
    if (options.files) {
      if (entry.host !== this.host) {
        throw new ClusterrrError(
          `The files of ${entry.name} are on host ${entry.host} (${entry.path}): remove it there, ` +
            `or use --keep-files to forget it`,
        );
      }
      if (await realDirectory(entry.path) !== undefined) {
        await deleteRecording(entry.path, entry.id);
      }
    }
    await modify(this.#kv, [RECORDING, entry.id], () => ({ set: null }));
  }

  /**
   * Brings the catalog up to date with the disk: adds every recording at or below `roots`, refreshes
   * the known ones of this host and drops those whose directory is gone.
   */
  async rescan(roots: readonly string[]): Promise<RescanReport> {
    const added: CatalogEntry[] = [];
    const dropped: CatalogEntry[] = [];
    const unreadable: { path: string; reason: string }[] = [];
    const known = new Map((await this.list()).map((e) => [e.id, e]));
    const seen = new Set<string>();

    for (const root of [...known.values()].filter((e) => e.host === this.host)) {
      if (await holdsManifest(root.path)) seen.add(root.path);
      else {
        await this.#forget(root.id, root.path);
        known.delete(root.id);
        dropped.push(root);
      }
    }
    for (const root of roots) {
      const path = await realDirectory(root);
      if (path === undefined) throw new ClusterrrError(`${root} is not a directory`);
      for await (const dir of recordingsBelow(path)) seen.add(dir);
    }
    for (const path of seen) {
      try {
        const { id } = readSummary(path);
        const entry = known.get(id);
        // Of two copies, the known one keeps its entry.
        if (entry !== undefined && entry.host === this.host && entry.path !== path) continue;
        const fresh = await this.#put(path);
        if (entry === undefined) added.push(fresh);
        for (const old of [...known.values()]) {
          if (old.id === id || old.host !== this.host || old.path !== path) continue;
          await this.#forget(old.id, path);
          known.delete(old.id);
          dropped.push(old);
        }
        known.set(id, fresh);
      } catch (cause) {
        if (!(cause instanceof ClusterrrError)) throw cause;
        unreadable.push({ path, reason: messageOf(cause) });
      }
    }
    return { added, dropped, unreadable };
  }

  /** Forgets a recording, if its entry still says that it is in `path` on this host. */
  async #forget(id: string, path: string): Promise<void> {
    await modify(this.#kv, [RECORDING, id], (current) => {
      const entry = readEntry(current);
      return entry?.path === path && entry.host === this.host ? { set: null } : undefined;
    });
  }

  async #changeKnown(
    id: string,
    change: (entry: CatalogEntry) => CatalogEntry,
  ): Promise<CatalogEntry> {
    return await this.#change(id, (current) => {
      if (current === undefined) {
        throw new ClusterrrError(`Recording ${id} has just been removed from the catalog`);
      }
      return change(current);
    });
  }

  async #change(
    id: string,
    change: (current: CatalogEntry | undefined) => CatalogEntry,
  ): Promise<CatalogEntry> {
    let written: CatalogEntry | undefined;
    await modify<CatalogEntry>(this.#kv, [RECORDING, id], (current) => {
      written = change(readEntry(current));
      return { set: written };
    });
    return written!;
  }
}

/** An entry of a version that this build does not understand is treated as unknown. */
function readEntry(value: unknown): CatalogEntry | undefined {
  const parsed = entrySchema.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}

function mergeTags(
  tags: readonly string[],
  add: readonly string[],
  remove: readonly string[],
): string[] {
  const merged = new Set([...tags, ...add.map((t) => checkLabel("tag", t))]);
  for (const tag of remove) merged.delete(tag);
  if (merged.size > TAGS_MAX) {
    throw new ClusterrrError(
      `A recording can have ${TAGS_MAX} tags; this would make ${merged.size}`,
    );
  }
  return [...merged].sort();
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function ambiguous(reference: string, entries: readonly CatalogEntry[]): ClusterrrError {
  const lines = entries.map((e) => `  ${e.id}  ${e.name}  ${e.createdAt}  ${e.path}`);
  return new ClusterrrError(
    `"${reference}" means ${entries.length} recordings; use more of the id:\n${lines.join("\n")}`,
  );
}
