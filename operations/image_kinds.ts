/**
 * Images that are more than their own bytes: those that name other files, and those that a guest sees the
 * path of. They are the same only where they were recorded, so a pack does not take them along.
 */
import { isQcow2 } from "../lib/cluster/qcow2.ts";
import { ClusterrrError } from "../lib/errors.ts";
import type { ManifestVm } from "../lib/recording/manifest.ts";

type Image = Pick<ManifestVm["images"][number], "role" | "path">;

/** QEMU looks for a multiboot header here (`hw/i386/multiboot.c`, `load_multiboot`). */
const HEAD_BYTES = 8192;
const MULTIBOOT_MAGIC = 0x1badb002;
/** Of the x86 boot protocol: QEMU then takes the kernel for Linux and looks no further. */
const LINUX_MAGIC_AT = 0x202;
const LINUX_MAGIC = 0x53726448;
/** QEMU's `docs/interop/qcow2.txt`: an incompatible feature, "the guest clusters are in another file". */
const EXTERNAL_DATA_FILE = 1 << 2;

/**
 * Looks whether an image is the same wherever its bytes are.
 * @param vm the VM's name
 * @param path where its bytes are now
 * @throws {ClusterrrError} where it is not, with the reason
 */
export async function requireMovable(vm: string, image: Image, path: string): Promise<void> {
  const reason = immovable(image.role, await headOf(path));
  if (reason === undefined) return;
  throw new ClusterrrError(
    `The ${image.role} of VM ${vm}, ${image.path}, can only be used at that path: ${reason.why}. ` +
      `${reason.mend} (\`pack\` without --images takes the recording alone.)`,
  );
}

interface Reason {
  readonly why: string;
  readonly mend: string;
}

function immovable(role: Image["role"], head: Uint8Array): Reason | undefined {
  const bytes = new DataView(head.buffer, head.byteOffset, head.length);
  if (role === "disk" && namesOtherFiles(bytes)) {
    return {
      why: "it is a qcow2 file that is based on another file, and the recording has the digest " +
        "of the upper one only",
      mend:
        "Make one file of both with `qemu-img convert -O qcow2 IMAGE NEW`, and record with that.",
    };
  }
  if (role === "kernel" && isMultiboot(bytes)) {
    return {
      why: "it is a multiboot kernel, and QEMU tells such a kernel its own path",
      mend: "Put it there.",
    };
  }
  return undefined;
}

/** Whether a qcow2 file has a backing file, or its data elsewhere. */
function namesOtherFiles(head: DataView): boolean {
  if (head.byteLength < 80 || !isQcow2(head)) return false;
  if (head.getBigUint64(8) !== 0n) return true;
  return head.getUint32(4) >= 3 && (head.getUint32(76) & EXTERNAL_DATA_FILE) !== 0;
}

function isMultiboot(head: DataView): boolean {
  const word = (at: number) => head.getUint32(at, true);
  if (head.byteLength >= LINUX_MAGIC_AT + 4 && word(LINUX_MAGIC_AT) === LINUX_MAGIC) return false;
  for (let at = 0; at + 12 <= head.byteLength; at += 4) {
    if (word(at) !== MULTIBOOT_MAGIC) continue;
    if (((word(at) + word(at + 4) + word(at + 8)) >>> 0) === 0) return true;
  }
  return false;
}

async function headOf(path: string): Promise<Uint8Array> {
  using file = await Deno.open(path);
  const head = new Uint8Array(HEAD_BYTES);
  let filled = 0;
  while (filled < head.length) {
    const n = await file.read(head.subarray(filled));
    if (n === null) break;
    filled += n;
  }
  return head.subarray(0, filled);
}
