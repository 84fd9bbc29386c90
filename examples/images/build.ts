/**
 * Builds the guest image of an example: `deno run -A examples/images/build.ts examples/trio`.
 *
 * `<example>/image.yaml` and `<example>/guest/` go in; a kernel and an initrd come out:
 *
 * ```
 * examples/.cache/
 *   packages/NAME-SHA256.deb       downloads, kept
 *   disks/DIGEST.qcow2             disk images by the digest of their recipe, each made once
 *   images/DIGEST/                 vmlinuz, vmlinux, initrd, image.json; never changed once there;
 *                                  NAME.qcow2: disk images (the same files as in disks/)
 *   trio -> images/DIGEST          what trio/cluster.yaml names
 * ```
 *
 * The digest covers the recipe (image.yaml, init, guest folder, this builder) and every package's
 * SHA-256; the same inputs give the same bytes. While the recipe stays the same a second run does
 * nothing and needs no network; `--update` looks for newer packages. Each step ends in a rename, so
 * builds at the same time do not disturb each other.
 */
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { ClusterrrError, errnoOf, HostError, messageOf } from "../../lib/errors.ts";
import { cpioArchive } from "./cpio.ts";
import {
  download,
  exists,
  libraryClosure,
  lookUp,
  type Package,
  sha256,
  unpack,
  updateIndex,
} from "./debian_packages.ts";
import { makeDisk } from "./disk.ts";
import { filesBelow, GuestTree } from "./guest_tree.ts";
import { type DiskRecipe, type ImageSpec, parseImageSpec } from "./image_spec.ts";
import { unpackKernel } from "./kernel.ts";

/** Raise it when the builder puts other bytes into an image for the same inputs. */
const BUILDER_VERSION = 2;
const SCRATCH = "build-";
/** No build takes so long. */
const SCRATCH_KEPT_MS = 86_400_000;
/** What every image has: its first process, and what roles of several examples source. */
const COMMON_FILES = [
  { path: "init", source: new URL("init.sh", import.meta.url), executable: true },
  { path: "usr/lib/guest.sh", source: new URL("guest.sh", import.meta.url), executable: false },
] as const;
const CACHE_DEFAULT = fileURLToPath(new URL("../.cache", import.meta.url));

/** The packages of an image by what they are for. */
interface PackageSet {
  readonly kernel: Package;
  readonly busybox: Package;
  readonly programs: readonly Package[];
  readonly libraries: readonly Package[];
}

/** What `image.json` records about an image. */
interface ImageRecord {
  readonly recipe: string;
  readonly packages: Readonly<Record<string, { version: string; sha256: string }>>;
}

/** How an image is built. */
export interface BuildOptions {
  /** Look for newer packages even where the recipe is unchanged. */
  readonly update?: boolean;
  /** Where downloads and images are kept. Default: `examples/.cache`. */
  readonly cache?: string;
}

/**
 * Builds the image of the example in `folder` unless it is there already.
 * @returns the folder with `vmlinux` (to boot), `vmlinuz` and `initrd`
 * @throws {SpecError} where `image.yaml` is wrong
 * @throws {HostError} where packages cannot be had
 */
export async function buildImage(folder: string, options: BuildOptions = {}): Promise<string> {
  const { update = false, cache = CACHE_DEFAULT } = options;
  const name = (await Deno.realPath(folder)).split("/").at(-1)!;
  const specFile = `${folder}/image.yaml`;
  const specText = await Deno.readTextFile(specFile);
  const spec = parseImageSpec(specFile, specText);
  const recipe = await recipeDigest(folder, spec);
  const link = `${cache}/${name}`;
  if (!update && (await readRecord(link))?.recipe === recipe) return link;

  if (update) await updateIndex();
  const [packages, archives] = await fetchPackages(spec, `${cache}/packages`);
  const record: ImageRecord = {
    recipe,
    packages: Object.fromEntries(
      allPackages(packages).map((p) => [p.name, { version: p.version, sha256: p.sha256 }]),
    ),
  };
  const digest = await textDigest(JSON.stringify(record));
  const image = `${cache}/images/${digest}`;
  if (!(await exists(image))) await assemble(image, folder, spec, packages, archives, record);
  await pointLink(link, `images/${digest}`);
  return link;
}

/** Resolves and downloads; where that fails, once more with a fresh index. */
async function fetchPackages(
  spec: ImageSpec,
  pool: string,
): Promise<[PackageSet, Map<Package, string>]> {
  const attempt = async (): Promise<[PackageSet, Map<Package, string>]> => {
    const packages = await resolvePackages(spec);
    const all = allPackages(packages);
    const archives = await download(all, pool);
    return [packages, new Map(all.map((p, i) => [p, archives[i]!]))];
  };
  try {
    return await attempt();
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    console.error(`${error.message}\nNow apt-get update, then once more.`);
    await updateIndex();
    return await attempt();
  }
}

async function resolvePackages(spec: ImageSpec): Promise<PackageSet> {
  const [meta, busybox, ...programs] = await lookUpAll([
    spec.kernel,
    "busybox-static",
    ...spec.packages,
  ]);
  const kernelName = meta!.depends.find((name) => /^linux-image-\d/.test(name));
  const kernel = kernelName === undefined ? meta! : (await lookUpAll([kernelName]))[0]!;
  return { kernel, busybox: busybox!, programs, libraries: await libraryClosure(programs) };
}

/** {@link lookUp} in the order asked for, where each name must be there. */
async function lookUpAll(names: readonly string[]): Promise<Package[]> {
  const found = new Map((await lookUp(names)).map((p) => [p.name, p]));
  return names.map((name) => {
    const known = found.get(name);
    if (known === undefined) {
      throw new ClusterrrError(`${name} is a virtual package: name a real one.`);
    }
    return known;
  });
}

function allPackages(set: PackageSet): Package[] {
  return [set.kernel, set.busybox, ...set.programs, ...set.libraries];
}

/** Removes what builds left that were killed. */
async function removeOldScratch(images: string): Promise<void> {
  for await (const { name } of Deno.readDir(images)) {
    if (!name.startsWith(SCRATCH)) continue;
    const { mtime } = await Deno.stat(`${images}/${name}`);
    if (mtime === null || Date.now() - mtime.getTime() < SCRATCH_KEPT_MS) continue;
    await Deno.remove(`${images}/${name}`, { recursive: true });
  }
}

/** Puts the image together in a scratch folder and renames it to `image`. */
async function assemble(
  image: string,
  folder: string,
  spec: ImageSpec,
  packages: PackageSet,
  archives: Map<Package, string>,
  record: ImageRecord,
): Promise<void> {
  const images = dirname(image);
  await Deno.mkdir(images, { recursive: true });
  await removeOldScratch(images);
  const scratch = await Deno.makeTempDir({ dir: images, prefix: SCRATCH });
  try {
    const unpackTo = async (part: string, list: readonly Package[]) => {
      const target = `${scratch}/${part}`;
      await Deno.mkdir(target);
      for (const p of list) await unpack(archives.get(p)!, target);
      return target;
    };
    const parts: ImageParts = {
      kernel: await unpackTo("kernel", [packages.kernel]),
      busybox: await unpackTo("busybox", [packages.busybox]),
      programs: await unpackTo("programs", packages.programs),
      libraries: await unpackTo("libraries", packages.libraries),
    };
    const out = `${scratch}/image`;
    await Deno.mkdir(out, { mode: 0o755 });
    await Deno.copyFile(await kernelFile(parts.kernel), `${out}/vmlinuz`);
    await unpackKernel(`${out}/vmlinuz`, `${out}/vmlinux`);
    await writeInitrd(`${out}/initrd`, spec, parts, `${folder}/guest`);
    await addDisks(out, scratch, folder, spec, parts, record);
    await Deno.writeTextFile(`${out}/image.json`, JSON.stringify(record, null, 2) + "\n");
    await renameUnlessThere(out, image);
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
}

/** Folders of unpacked packages by what they are for. */
interface ImageParts {
  readonly kernel: string;
  readonly busybox: string;
  readonly programs: string;
  readonly libraries: string;
}

/** Writes the initrd of a guest whose `/guest` is `guestFolder`. */
async function writeInitrd(
  target: string,
  spec: ImageSpec,
  parts: ImageParts,
  guestFolder: string,
): Promise<void> {
  const tree = new GuestTree();
  await tree.addBusybox(parts.busybox);
  await tree.addModules(parts.kernel, spec.modules);
  await tree.addPrograms(parts.programs, parts.libraries, spec.leaveOut);
  if (spec.users.length > 0) tree.addUsers(spec.users);
  await tree.addGuestFolder(guestFolder);
  for (const { path, source, executable } of COMMON_FILES) {
    tree.addText(path, await Deno.readTextFile(source), executable);
  }
  await Deno.writeFile(target, cpioArchive(tree.entries));
}

/** Puts the disks of `spec` into the image `out`; those that no build has made yet are made. */
async function addDisks(
  out: string,
  scratch: string,
  folder: string,
  spec: ImageSpec,
  parts: ImageParts,
  record: ImageRecord,
): Promise<void> {
  const pool = `${dirname(dirname(scratch))}/disks`;
  for (const disk of spec.disks) {
    await Deno.mkdir(pool, { recursive: true });
    const kept = `${pool}/${await diskDigest(folder, spec, disk, record)}.qcow2`;
    if (!(await exists(kept))) {
      const guest = { vmlinux: `${out}/vmlinux`, initrd: `${scratch}/${disk.name}.initrd` };
      await writeInitrd(guest.initrd, spec, parts, `${folder}/disks`);
      const fresh = `${scratch}/${disk.name}.qcow2`;
      await makeDisk(disk, guest, scratch, fresh);
      await linkUnlessThere(fresh, kept);
    }
    await Deno.link(kept, `${out}/${disk.name}.qcow2`);
  }
}

/** Of all that goes into a disk: another script of the guest does not make another database. */
async function diskDigest(
  folder: string,
  spec: ImageSpec,
  disk: DiskRecipe,
  record: ImageRecord,
): Promise<string> {
  const { packages, modules, leaveOut, users } = spec;
  const texts = [String(BUILDER_VERSION), JSON.stringify({ packages, modules, leaveOut, users })];
  texts.push(JSON.stringify(disk), JSON.stringify(record.packages), ...await commonTexts());
  return textDigest(JSON.stringify([...texts, ...await folderDigests(`${folder}/disks`)]));
}

/** Where another build was first, its disk is the one that all use. */
async function linkUnlessThere(from: string, to: string): Promise<void> {
  try {
    await Deno.link(from, to);
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
  }
}

async function kernelFile(folder: string): Promise<string> {
  for await (const { name } of Deno.readDir(`${folder}/boot`)) {
    if (name.startsWith("vmlinuz")) return `${folder}/boot/${name}`;
  }
  throw new ClusterrrError("The kernel package has no boot/vmlinuz: name another in image.yaml.");
}

/** Renames a folder; where another build was first, its folder has the same bytes and stays. */
async function renameUnlessThere(from: string, to: string): Promise<void> {
  try {
    await Deno.rename(from, to);
  } catch (error) {
    if (!(await exists(to))) throw error;
  }
}

/** Makes `link` point to `target` in one step. */
async function pointLink(link: string, target: string): Promise<void> {
  const fresh = `${link}.${crypto.randomUUID()}`;
  await Deno.symlink(target, fresh);
  await Deno.rename(fresh, link);
}

async function readRecord(image: string): Promise<ImageRecord | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(`${image}/image.json`));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** A digest of all that goes into an image beside the packages. */
async function recipeDigest(folder: string, spec: ImageSpec): Promise<string> {
  const texts = [String(BUILDER_VERSION), JSON.stringify(spec)];
  texts.push(...await commonTexts());
  texts.push(...await folderDigests(`${folder}/guest`));
  if (spec.disks.length > 0) texts.push(...await folderDigests(`${folder}/disks`));
  return textDigest(JSON.stringify(texts));
}

function commonTexts(): Promise<string[]> {
  return Promise.all(COMMON_FILES.map(({ source }) => Deno.readTextFile(source)));
}

/** Each file below `folder`, by its path and its digest. */
async function folderDigests(folder: string): Promise<string[]> {
  const texts: string[] = [];
  for (const [path, source] of await filesBelow(folder)) {
    texts.push(path, await sha256(await Deno.readFile(source)));
  }
  return texts;
}

function textDigest(text: string): Promise<string> {
  return sha256(new TextEncoder().encode(text));
}

if (import.meta.main) {
  const update = Deno.args.includes("--update");
  const folders = Deno.args.filter((argument) => argument !== "--update");
  if (folders.length === 0 || folders.some((folder) => folder.startsWith("-"))) {
    console.error("usage: deno run -A examples/images/build.ts [--update] EXAMPLE_FOLDER…");
    Deno.exit(2);
  }
  try {
    for (const folder of folders) console.log(`${folder}: ${await buildImage(folder, { update })}`);
  } catch (error) {
    if (!(error instanceof ClusterrrError) && errnoOf(error) === undefined) throw error;
    console.error(messageOf(error));
    Deno.exit(error instanceof ClusterrrError ? error.exitStatus : 1);
  }
}
