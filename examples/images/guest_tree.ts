/**
 * Collects the files of a guest image: busybox, kernel modules, programs with their libraries.
 *
 * In come unpacked packages; out comes a tree for `cpio.ts`. Like Debian, the guest has everything
 * below `/usr`, with links from `/bin`, `/sbin`, `/lib` and `/lib64`.
 */
import { ClusterrrError } from "../../lib/errors.ts";
import type { TreeEntry } from "./cpio.ts";
import { elfNeeds, isElf, moduleNeeds } from "./elf.ts";

const MERGED = /^(bin|sbin|lib|lib64)\//;
/** Folders of a package that a guest has no use for. */
const LEFT_OUT =
  /^(usr\/share\/(doc|man|info|lintian|locale|bug|bash-completion)|usr\/lib\/systemd|etc\/init\.d)\//;
/** The id before that of the first user of `image.yaml`; as in Debian, system users start at 101. */
const USER_ID = 100;
const LIBRARY_FOLDERS = ["usr/lib/x86_64-linux-gnu", "usr/lib", "usr/lib64"];

/** The files of unpacked packages by their place in the guest. */
export type Files = Map<string, string>;

/** A guest's files as they are put together. */
export class GuestTree {
  readonly entries = new Map<string, TreeEntry>();

  constructor() {
    for (const name of ["bin", "sbin", "lib", "lib64"]) {
      this.entries.set(name, { kind: "link", target: `usr/${name}` });
      this.entries.set(`usr/${name}`, { kind: "directory" });
    }
    for (const name of ["proc", "sys", "dev", "run", "tmp", "etc"]) {
      this.entries.set(name, { kind: "directory" });
    }
  }

  /** busybox as the guest's shell; it finds its other commands by itself. */
  async addBusybox(folder: string): Promise<void> {
    const source = (await filesBelow(folder)).get("usr/bin/busybox");
    if (source === undefined) throw new ClusterrrError("the busybox package has no bin/busybox");
    await this.addFile("usr/bin/busybox", source);
    this.entries.set("usr/bin/sh", { kind: "link", target: "busybox" });
  }

  /** The modules `names` and all they need, and the order to load them in. */
  async addModules(folder: string, names: readonly string[]): Promise<void> {
    const sources = new Map<string, string>();
    for (const [path, source] of await filesBelow(folder)) {
      const name = /\/([^/]+)\.ko(\.[a-z]+)?$/.exec(path)?.[1];
      if (name !== undefined) sources.set(name.replaceAll("-", "_"), source);
    }
    const order: string[] = [];
    const load = async (name: string) => {
      const path = `usr/lib/modules/${name}.ko`;
      if (order.includes(path)) return;
      const source = sources.get(name);
      if (source === undefined) {
        throw new ClusterrrError(
          `The kernel package has no module ${name}: it may be built into the kernel; ` +
            `take it out of "modules" in image.yaml.`,
        );
      }
      const bytes = await Deno.readFile(source);
      for (const needed of moduleNeeds(source, bytes)) await load(needed.replaceAll("-", "_"));
      order.push(path);
      this.entries.set(path, { kind: "file", bytes, executable: false });
    };
    for (const name of names) await load(name);
    this.addText("usr/lib/modules/load-order", order.map((path) => `/${path}\n`).join(""));
  }

  /**
   * The programs and data in `folder`, with the shared libraries they need from `libraries`; without
   * the files and folders `leaveOut`.
   */
  async addPrograms(
    folder: string,
    libraries: string,
    leaveOut: readonly string[] = [],
  ): Promise<void> {
    const isLeftOut = (path: string) =>
      LEFT_OUT.test(path) || leaveOut.some((out) => path === out || path.startsWith(`${out}/`));
    const own = await filesBelow(folder);
    const shared = new Map([...await filesBelow(libraries), ...own]);
    for (const [path, source] of own) {
      if (!isLeftOut(path)) await this.#addWithLibraries(path, source, shared);
    }
  }

  async #addWithLibraries(path: string, source: string, shared: Files): Promise<void> {
    if (this.entries.has(path)) return;
    const entry = await this.addFile(path, source);
    if (entry.kind === "link") {
      const target = linkTarget(path, entry.target);
      const next = shared.get(target);
      if (next !== undefined) await this.#addWithLibraries(target, next, shared);
      return;
    }
    if (entry.kind !== "file" || !isElf(entry.bytes)) return;
    const { libraries, interpreter } = elfNeeds(source, entry.bytes);
    const wanted = libraries.map((name) => findLibrary(name, shared, path));
    if (interpreter !== undefined) wanted.push(mergedPath(interpreter.slice(1)));
    for (const library of wanted) {
      const next = shared.get(library);
      if (next === undefined) throw new ClusterrrError(`No package has ${library} for ${path}.`);
      await this.#addWithLibraries(library, next, shared);
    }
  }

  /** `/etc/passwd` and `/etc/group` with root and `users`, each in a group of its own. */
  addUsers(users: readonly string[]): void {
    const named = ["root", ...users].map((name, i) => ({ name, id: i === 0 ? 0 : USER_ID + i }));
    const passwd = named.map(({ name, id }) => `${name}:x:${id}:${id}::/run:/bin/sh\n`);
    this.addText("etc/passwd", passwd.join(""));
    this.addText("etc/group", named.map(({ name, id }) => `${name}:x:${id}:\n`).join(""));
  }

  /** Everything in `folder` as `/guest`, executable. */
  async addGuestFolder(folder: string): Promise<void> {
    for (const [path, source] of await filesBelow(folder)) {
      const bytes = await Deno.readFile(source);
      this.entries.set(`guest/${path}`, { kind: "file", bytes, executable: true });
    }
  }

  addText(path: string, text: string, executable = false): void {
    this.entries.set(path, { kind: "file", bytes: new TextEncoder().encode(text), executable });
  }

  async addFile(path: string, source: string): Promise<TreeEntry> {
    const info = await Deno.lstat(source);
    const entry: TreeEntry = info.isSymlink
      ? { kind: "link", target: await Deno.readLink(source) }
      : {
        kind: "file",
        bytes: await Deno.readFile(source),
        executable: ((info.mode ?? 0) & 0o100) !== 0,
      };
    this.entries.set(path, entry);
    return entry;
  }
}

function mergedPath(path: string): string {
  return MERGED.test(path) ? `usr/${path}` : path;
}

/** Where the link at `path` points to, as a path in the guest. */
function linkTarget(path: string, target: string): string {
  return mergedPath(decodeURIComponent(new URL(target, `file:///${path}`).pathname.slice(1)));
}

function findLibrary(name: string, shared: Files, wantedBy: string): string {
  const found = LIBRARY_FOLDERS.map((folder) => `${folder}/${name}`).find((p) => shared.has(p));
  if (found === undefined) {
    throw new ClusterrrError(`No package brings the library ${name} that ${wantedBy} needs.`);
  }
  return found;
}

/** Files and links below `folder`, sorted, keyed by their path in the guest. */
export async function filesBelow(folder: string, below = ""): Promise<Files> {
  const files: Files = new Map();
  const names = (await Array.fromAsync(Deno.readDir(folder))).sort((a, b) =>
    a.name < b.name ? -1 : 1
  );
  for (const { name, isDirectory } of names) {
    const path = below + name;
    if (isDirectory) {
      for (const [p, s] of await filesBelow(`${folder}/${name}`, `${path}/`)) files.set(p, s);
    } else {
      files.set(mergedPath(path), `${folder}/${name}`);
    }
  }
  return files;
}
