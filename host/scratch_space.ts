/** Room for a VM's RAM in `/dev/shm`, where a check copies it: asked for before VMs run. */
import { statfsSync } from "node:fs";
import { ClusterrrError } from "../lib/errors.ts";
import { SCRATCH } from "./run_directory.ts";

const MIB = 1 << 20;

/**
 * Checks that a copy of the largest of some VMs fits: copies are taken one after the other.
 * @param otherwise what to do where there is no room, beside making some
 * @throws {ClusterrrError}
 */
export function requireRoomForRam(
  vms: readonly { readonly name: string; readonly memoryMiB: number }[],
  otherwise: string,
  directory: string = SCRATCH,
): void {
  const largest = vms.reduce((a, b) => b.memoryMiB > a.memoryMiB ? b : a);
  const { bavail, bsize } = statfsSync(directory);
  const freeMiB = Math.floor(bavail * bsize / MIB);
  if (freeMiB >= largest.memoryMiB) return;
  throw new ClusterrrError(
    `A check copies a VM's RAM to ${directory}: VM ${largest.name} needs ${largest.memoryMiB} MiB there, and ` +
      `${freeMiB} MiB are free. Make room (mount -o remount,size=${largest.memoryMiB + freeMiB}M ` +
      `${directory}; in a container: --shm-size), or ${otherwise}.`,
  );
}
