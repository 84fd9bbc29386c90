/**
 * Makes the disk images of an example: an empty ext4 file system, filled by the guest itself.
 *
 * ```
 * mkfs.ext4 ─▶ raw disk ─▶ guest under plain QEMU runs disks/NAME.sh ─▶ e2fsck ─▶ NAME.qcow2
 * ```
 *
 * So what a database puts on it is put there by the programs and the kernel that will use it, and
 * nothing runs on this machine but QEMU, without root. The file system is the same each time; what
 * the guest's programs write need not be (a database makes up an identifier of its own), so an image
 * is kept under the digest of its recipe, and made once.
 */
import { run } from "../../host/command.ts";
import { ClusterrrError } from "../../lib/errors.ts";
import type { DiskRecipe } from "./image_spec.ts";

/** The guest that fills a disk: the boot files of an image whose `/guest` is `disks/`. */
export interface FillingGuest {
  readonly vmlinux: string;
  readonly initrd: string;
}

/** Long enough for initdb and pgbench on a busy machine. */
const FILL_TIMEOUT_MS = 600_000;
/** mkfs, e2fsck and the conversion take a second, unless the machine is very busy. */
const TOOL_TIMEOUT_MS = 120_000;
const FILL_MEMORY = "512M";
const CONSOLE_LINES_SHOWN = 20;
/** Of no meaning, but the same each time: file system and its hashed directories. */
const UUID = "c1057e44-0000-4000-8000-000000000001";
const HASH_SEED = "c1057e44-0000-4000-8000-000000000002";
/** Without root, a Debian shell does not look where e2fsprogs are. */
const E2FS = ["env", `PATH=${Deno.env.get("PATH") ?? "/usr/bin:/bin"}:/usr/sbin:/sbin`];
const E2FS_ADVICE = "apt-get install e2fsprogs";
const QEMU_ADVICE = "apt-get install qemu-system-x86 qemu-utils";

/**
 * Makes `target`, a qcow2 disk: the guest runs `/guest/NAME.sh` with the empty file system at
 * `/dev/vda`. The script mounts and unmounts it. `scratch` is a folder for what is in between.
 * @throws {ClusterrrError} where the script fails, or leaves the file system mounted
 * @throws {HostError} where a program is missing or fails
 */
export async function makeDisk(
  disk: DiskRecipe,
  guest: FillingGuest,
  scratch: string,
  target: string,
): Promise<void> {
  const raw = `${scratch}/${disk.name}.raw`;
  const console = `${scratch}/${disk.name}.console`;
  await makeFileSystem(disk, raw);
  await run(qemuCommand(disk, guest, raw, console), {
    advice: QEMU_ADVICE,
    timeoutMs: FILL_TIMEOUT_MS,
  });
  const text = (await Deno.readTextFile(console)).replaceAll("\r", "");
  if (!text.includes(`GUEST role=${disk.name} status=0`)) {
    const last = text.trimEnd().split("\n").slice(-CONSOLE_LINES_SHOWN).join("\n");
    throw new ClusterrrError(
      `disks/${disk.name}.sh did not fill its disk; the last that the guest said:\n${last}`,
    );
  }
  await checkFileSystem(disk, raw);
  await run(["qemu-img", "convert", "-O", "qcow2", raw, target], {
    advice: QEMU_ADVICE,
    timeoutMs: TOOL_TIMEOUT_MS,
  });
  await Deno.remove(raw);
}

/** e2fsck alone accepts a file system that is mounted still: it would replay the journal, and may not. */
async function checkFileSystem(disk: DiskRecipe, raw: string): Promise<void> {
  await run([...E2FS, "e2fsck", "-f", "-n", raw], {
    advice: E2FS_ADVICE,
    timeoutMs: TOOL_TIMEOUT_MS,
  });
  if (!/\bneeds_recovery\b/.test(await run([...E2FS, "dumpe2fs", "-h", raw]))) return;
  throw new ClusterrrError(
    `The file system on disk ${disk.name} is mounted still: ` +
      `disks/${disk.name}.sh must unmount /dev/vda at its end.`,
  );
}

async function makeFileSystem(disk: DiskRecipe, raw: string): Promise<void> {
  const options = `hash_seed=${HASH_SEED},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0`;
  const identity = ["-L", disk.name, "-U", UUID, "-E", options];
  const mkfs = ["mkfs.ext4", "-q", "-F", ...identity, raw, disk.size];
  await run([...E2FS, "SOURCE_DATE_EPOCH=0", "E2FSPROGS_FAKE_TIME=1", ...mkfs], {
    advice: E2FS_ADVICE,
    timeoutMs: TOOL_TIMEOUT_MS,
  });
}

/**
 * A guest without a network: what it needs is in the image. On a busy machine the kernel's check of its
 * timer fails, and the boot with it, where no instruction count drives the clock: hence no_timer_check.
 */
function qemuCommand(
  disk: DiskRecipe,
  guest: FillingGuest,
  raw: string,
  console: string,
): string[] {
  const machine = ["-nodefaults", "-display", "none", "-no-reboot", "-m", FILL_MEMORY];
  const boot = ["-kernel", guest.vmlinux, "-initrd", guest.initrd];
  const args = `console=ttyS0 panic=-1 quiet no_timer_check cryptomgr.notests role=${disk.name}`;
  const drive = `file=${raw},format=raw,if=virtio,cache=unsafe`;
  return [
    ...["setpriv", "--pdeathsig", "KILL", "--"], // it ends with us, however we end
    "qemu-system-x86_64",
    ...machine,
    ...boot,
    ...["-append", args, "-drive", drive, "-serial", `file:${console}`],
  ];
}
