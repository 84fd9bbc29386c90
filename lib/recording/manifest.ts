/**
 * `manifest.json`: what a recording is, how it was made, how it ended. Read first, written atomically.
 * `FORMAT.md` says where it stands among the other files.
 */
import { z } from "zod";
import { ClusterrrError, FormatError, messageOf, VersionError } from "../errors.ts";
import { schemaProblems } from "../schema_problems.ts";
import { diskError } from "./disk_error.ts";

export const MANIFEST_FORMAT = "clusterrr-recording";
export const MANIFEST_VERSION = 3;
const MANIFEST_FILE = "manifest.json";

const count = z.int().nonnegative();
export const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "expected 64 hex digits");
/** Also a directory name: nothing that leads elsewhere. */
const vmName = z.string().regex(/^[a-z][a-z0-9-]{0,30}$/, "not a VM name");

export const vmSchema = z.object({
  /** From 1, in the order of the cluster file. */
  number: z.int().positive(),
  name: vmName,
  qemu: z.object({
    path: z.string(),
    /** E.g. `7.2.22`. */
    version: z.string(),
    sha256,
    /** The rr log's version word. */
    rrLogVersion: count,
  }),
  images: z.array(z.object({
    role: z.enum(["kernel", "initrd", "disk"]),
    path: z.string(),
    sha256,
    bytes: count,
  })),
  /** QEMU's, of the recording. */
  commandLine: z.array(z.string()),
  /** The instruction count at which the recording starts; without it, 0. */
  firstIcount: count.optional(),
  /** What the serial console printed; relative to the recording's directory. */
  console: z.string(),
  /** The rr log was recorded to its end. */
  logComplete: z.boolean(),
  /** The hybrid log has its end and index: a reader may insist on them. */
  logClosed: z.boolean(),
  /** Where and why the VM stopped; `null` while it runs. */
  end: z.object({ icount: count, reason: z.string() }).nullable(),
  /** What its hybrid log holds; `null` until that is closed. */
  totals: z.object({
    rrLogBytes: count,
    hybridBytes: count,
    storedBytes: count,
    framesInternal: count,
    framesExternal: count,
    framesUnmatched: count,
    framesSent: count,
    checks: count,
    epochs: count,
  }).nullable(),
});

/** Where, from which of its frames on, a VM's frames count higher as captured than as the recorder counts. */
export const sendDriftsSchema = z.object({
  vm: z.int().positive(),
  drifts: z.array(z.object({
    from: count,
    frames: count,
    /** From this number on up to `from`, it is not known which frames were refused. */
    doubtFrom: count,
  })),
});

const hostSchema = z.object({ kernel: z.string(), cpu: z.string(), cores: count });

export const manifestSchema = z.object({
  format: z.literal(MANIFEST_FORMAT),
  formatVersion: z.literal(MANIFEST_VERSION),
  /** Random hex. */
  id: z.string().regex(/^[0-9a-f]{8,64}$/, "expected hex digits"),
  name: z.string().min(1),
  createdAt: z.iso.datetime(),
  /** The clusterrr that recorded it. */
  toolVersion: z.string(),
  state: z.enum(["recording", "sealed"]),
  endedBy: z.enum(["poweroff", "duration", "interrupt", "failure"]).optional(),
  /** What to tell the user about the end, e.g. the failure. */
  message: z.string().optional(),
  /** Every VM's log was recorded to its end. */
  complete: z.boolean(),
  host: hostSchema,
  /** The hosts of a recording of several, with the numbers of their VMs: also of those not in `vms`. */
  hosts: z.array(z.object({
    name: vmName,
    vms: z.array(z.int().positive()),
    /** Not known of another host while its part is elsewhere. */
    description: hostSchema.optional(),
  })).optional(),
  /** Of the VMs that others on other hosts have references to; a VM that is left out has no drift. */
  sendDrifts: z.array(sendDriftsSchema).optional(),
  /** What the VMs started from, where that was not power-on. */
  snapshot: z.object({
    name: z.string(),
    /** Of the snapshot's manifest, which has the digests of all its files. */
    sha256,
    /** When its boot began, which the guests' clocks started at. */
    createdAt: z.iso.datetime(),
  }).optional(),
  /** The resolved cluster file; its owner checks it. */
  cluster: z.unknown(),
  vms: z.array(vmSchema),
  /** Filled in when the recording is sealed. */
  segments: z.array(z.object({
    vm: z.int().positive(),
    /** Name in `vms/<name of the VM>/`. */
    file: z.string().regex(/^hybrid-\d{6,}\.seg$/, "not a segment's name"),
    bytes: count,
    sha256,
  })),
  timing: z.object({
    recordS: z.number().nonnegative(),
    /** Epoch E begins at E times this, in ms since the VMs began to run; 0: there are no epochs. */
    epochMs: z.number().nonnegative(),
  }),
  /** What the recorder counted, once the recording is sealed. */
  recorder: z.object({
    framesSent: count,
    framesDelivered: count,
    /** Events that found the recorder's ring full: their frames passed, and are stored whole. */
    lostEvents: count,
    /** Deliveries that no VM's log showed: frames that a full tap queue dropped. */
    droppedFrames: count,
  }).optional(),
}).superRefine((manifest, context) => {
  const issue = (path: PropertyKey[], message: string) =>
    context.addIssue({ code: "custom", path, message });
  if (manifest.state === "sealed" && manifest.endedBy === undefined) {
    issue(["endedBy"], "a sealed recording says how it ended");
  }
  for (const key of ["number", "name"] as const) {
    if (new Set(manifest.vms.map((vm) => vm[key])).size < manifest.vms.length) {
      issue(["vms"], `two VMs have the same ${key}`);
    }
  }
  for (const [i, { vm }] of manifest.segments.entries()) {
    if (!manifest.vms.some(({ number }) => number === vm)) {
      issue(["segments", i, "vm"], `there is no VM ${vm}`);
    }
  }
});

export type Manifest = z.infer<typeof manifestSchema>;
export type ManifestVm = z.infer<typeof vmSchema>;

/** The directory of VM `name` in the recording `dir`. */
export function vmDirectory(dir: string, name: string): string {
  return `${dir}/vms/${name}`;
}

/**
 * Writes the manifest of the recording `dir`: whoever reads sees the old one or the new one, whole,
 * even after a power loss.
 * @throws {HostError} where the disk does not take it
 */
export function writeManifest(dir: string, manifest: Manifest): void {
  const text = JSON.stringify(manifestSchema.parse(manifest), null, 2) + "\n";
  const path = `${dir}/${MANIFEST_FILE}`;
  try {
    Deno.writeTextFileSync(`${path}.tmp`, text);
    forceToDisk(`${path}.tmp`);
    Deno.renameSync(`${path}.tmp`, path);
    forceToDisk(dir); // the rename itself
  } catch (cause) {
    throw diskError("write", path, cause);
  }
}

function forceToDisk(path: string): void {
  const file = Deno.openSync(path);
  try {
    file.syncSync();
  } finally {
    file.close();
  }
}

/**
 * Reads and checks the manifest of the recording `dir`, and that every VM has its directory.
 * @throws {ClusterrrError} where `dir` is no recording or lacks a VM's directory
 * @throws {VersionError} where another build wrote it; {FormatError} where it is damaged
 */
export function readManifest(dir: string): Manifest {
  const path = `${dir}/${MANIFEST_FILE}`;
  const json = parseJson(readText(dir, path), path);
  const start = z.object({ format: z.string(), formatVersion: z.int() }).safeParse(json);
  if (!start.success || start.data.format !== MANIFEST_FORMAT) {
    throw new FormatError(path, 0, "this is the manifest of something else than a recording");
  }
  if (start.data.formatVersion !== MANIFEST_VERSION) {
    throw new VersionError(
      path,
      0,
      `recording format ${start.data.formatVersion}; this build knows format ${MANIFEST_VERSION}. ` +
        "Use the clusterrr that recorded it.",
    );
  }
  const result = manifestSchema.safeParse(json);
  if (!result.success) {
    throw new FormatError(path, 0, schemaProblems(result.error), { cause: result.error });
  }
  for (const { name } of result.data.vms) {
    if (!isDirectory(vmDirectory(dir, name))) {
      throw new ClusterrrError(
        `Recording ${dir} lacks the directory vms/${name} of VM "${name}". ` +
          "Copy the whole recording again, or record anew.",
      );
    }
  }
  return result.data;
}

function readText(dir: string, path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound || cause instanceof Deno.errors.NotADirectory)) {
      throw cause;
    }
    throw new ClusterrrError(
      `${dir} is not a recording: it has no ${MANIFEST_FILE}. Name a directory that "clusterrr record" made.`,
      { cause },
    );
  }
}

function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const message = messageOf(cause); // names the position only for some mistakes
    const cut = message.includes("Unexpected end") ? text.length : 0;
    const characters = Number(/at position (\d+)/.exec(message)?.[1] ?? cut);
    const offset = new TextEncoder().encode(text.slice(0, characters)).length;
    throw new FormatError(path, offset, `not JSON: ${message}`, { cause });
  }
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
