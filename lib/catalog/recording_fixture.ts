/** For tests: a recording directory with a real manifest and nothing worth replaying. */
import { join } from "node:path";
import {
  type Manifest,
  MANIFEST_FORMAT,
  MANIFEST_VERSION,
  type ManifestVm,
  writeManifest,
} from "../recording/manifest.ts";

/** Bytes of log in a fixture's directory beside its manifest. */
export const FIXTURE_LOG_BYTES = 1000;

function fixtureVm(number: number, name: string): ManifestVm {
  return {
    number,
    name,
    qemu: { path: "/usr/bin/qemu", version: "7.2.22", sha256: "0".repeat(64), rrLogVersion: 1 },
    images: [],
    commandLine: [],
    console: `vms/${name}/console.log`,
    logComplete: true,
    logClosed: true,
    end: { icount: 1_234_567, reason: "guest-shutdown" },
    totals: {
      rrLogBytes: 2_940_000,
      hybridBytes: 900_000,
      storedBytes: 200_000,
      framesInternal: 1300,
      framesExternal: 60,
      framesUnmatched: 4,
      framesSent: 1364,
      checks: 3,
      epochs: 40,
    },
  };
}

/** The manifest of a good recording of two VMs, "client" and "server". */
export function fixtureManifest(changes: Partial<Manifest> = {}): Manifest {
  return {
    format: MANIFEST_FORMAT,
    formatVersion: MANIFEST_VERSION,
    id: "abcdef0123456789",
    name: "trio",
    createdAt: "2026-01-01T00:00:00Z",
    toolVersion: "0.1.0",
    state: "sealed",
    endedBy: "poweroff",
    complete: true,
    host: { kernel: "6.18.0", cpu: "A CPU", cores: 2 },
    cluster: {},
    vms: [fixtureVm(1, "client"), fixtureVm(2, "server")],
    segments: [],
    timing: { recordS: 12.4, epochMs: 250 },
    ...changes,
  };
}

/** Makes the recording in `dir` and returns its real path. */
export async function makeRecording(
  dir: string,
  changes: Partial<Manifest> = {},
): Promise<string> {
  const manifest = fixtureManifest(changes);
  for (const { name } of manifest.vms) {
    await Deno.mkdir(join(dir, "vms", name), { recursive: true });
  }
  await Deno.writeFile(
    join(dir, "vms", manifest.vms[0]!.name, "hybrid-000000.seg"),
    new Uint8Array(FIXTURE_LOG_BYTES),
  );
  writeManifest(dir, manifest);
  return await Deno.realPath(dir);
}
