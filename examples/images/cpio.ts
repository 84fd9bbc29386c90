/**
 * Writes a guest's files as a cpio archive in the "newc" form, the one the kernel unpacks at boot.
 *
 * A tree of paths goes in, bytes come out, and the same tree always gives the same bytes: names
 * sorted, times 0, owner root, inode numbers counted from 1.
 * Layout: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
 */

/** One file of the guest. Directories above a path need not be listed. */
export type TreeEntry =
  | { readonly kind: "file"; readonly bytes: Uint8Array; readonly executable: boolean }
  | { readonly kind: "link"; readonly target: string }
  | { readonly kind: "directory" };

/** The guest's files by path, without the leading slash. */
export type Tree = ReadonlyMap<string, TreeEntry>;

const TYPE_FILE = 0o100000;
const TYPE_LINK = 0o120000;
const TYPE_DIRECTORY = 0o040000;

/** The archive of `tree`, uncompressed. Missing parent directories are added. */
export function cpioArchive(tree: Tree): Uint8Array {
  const all = new Map(tree);
  for (const path of tree.keys()) {
    for (const parent of parentsOf(path)) {
      if (!all.has(parent)) all.set(parent, { kind: "directory" });
    }
  }
  const paths = [...all.keys()].sort(); // a directory sorts before what is in it
  const parts = paths.flatMap((path, i) => member(path, all.get(path)!, i + 1));
  parts.push(...member("TRAILER!!!", undefined, 0));
  return concatenate(parts);
}

/** The directories above `path`: `a/b/c` gives `a`, `a/b`. */
function parentsOf(path: string): string[] {
  const names = path.split("/");
  return names.slice(1).map((_, i) => names.slice(0, i + 1).join("/"));
}

function member(path: string, entry: TreeEntry | undefined, inode: number): Uint8Array[] {
  const name = new TextEncoder().encode(path + "\0");
  const body = bodyOf(entry);
  const fields = [inode, modeOf(entry), 0, 0, linksOf(entry), 0, body.length];
  fields.push(0, 0, 0, 0, name.length, 0); // no device numbers, no checksum in this form
  const header = new TextEncoder().encode(
    "070701" + fields.map((n) => n.toString(16).padStart(8, "0")).join(""),
  );
  return [header, name, padding(header.length + name.length), body, padding(body.length)];
}

function modeOf(entry: TreeEntry | undefined): number {
  switch (entry?.kind) {
    case undefined:
      return 0;
    case "file":
      return TYPE_FILE | (entry.executable ? 0o755 : 0o644);
    case "link":
      return TYPE_LINK | 0o777;
    case "directory":
      return TYPE_DIRECTORY | 0o755;
  }
}

function linksOf(entry: TreeEntry | undefined): number {
  return entry?.kind === "directory" ? 2 : 1;
}

function bodyOf(entry: TreeEntry | undefined): Uint8Array {
  if (entry?.kind === "file") return entry.bytes;
  if (entry?.kind === "link") return new TextEncoder().encode(entry.target);
  return new Uint8Array();
}

/** Names and bodies end on a multiple of 4 bytes. */
function padding(length: number): Uint8Array {
  return new Uint8Array((4 - length % 4) % 4);
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
