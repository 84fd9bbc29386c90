/** A manifest as the command line shows it. */
import type { RecordingDetails } from "../lib/cli/ports.ts";
import type { Manifest } from "../lib/recording/manifest.ts";

/** What `show` prints, and `record` at its end. */
export function detailsOf(manifest: Manifest): RecordingDetails {
  const { endedBy, message, timing } = manifest;
  return {
    id: manifest.id,
    name: manifest.name,
    createdAt: manifest.createdAt,
    toolVersion: manifest.toolVersion,
    state: manifest.state,
    complete: manifest.complete,
    ...(endedBy === undefined ? {} : { endedBy, recordS: timing.recordS }),
    ...(message === undefined ? {} : { message }),
    host: manifest.host,
    vms: manifest.vms.map((vm) => {
      const totals = vm.totals;
      return {
        name: vm.name,
        qemu: vm.qemu.version,
        ...(vm.end === null ? {} : { endReason: vm.end.reason }),
        instructions: vm.end?.icount ?? 0,
        bytes: {
          rrLog: totals?.rrLogBytes ?? 0,
          hybrid: totals?.hybridBytes ?? 0,
          stored: totals?.storedBytes ?? 0,
        },
        frames: {
          internal: totals?.framesInternal ?? 0,
          external: totals?.framesExternal ?? 0,
          stored: (totals?.framesExternal ?? 0) + (totals?.framesUnmatched ?? 0),
          sent: totals?.framesSent ?? 0,
        },
        checks: totals?.checks ?? 0,
      };
    }),
  };
}
