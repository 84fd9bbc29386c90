/** A run of a cluster that can be compared: a recording's directory, or the trace of a replay. */
import { type Manifest, type ManifestVm, readManifest } from "../recording/manifest.ts";
import { openLog } from "../recording/recording_directory.ts";
import type { ConsoleDigest, ConsoleOutput } from "./consoles.ts";
import type { RunIdentity } from "./observation.ts";
import { type OutwardSource, RecordedOutward, TracedOutward } from "./outward.ts";
import type { LogOfVm } from "./received_frames.ts";
import { TraceReader } from "./trace_reader.ts";

/** Which of the two, and where. */
export interface RunPlace {
  readonly kind: RunIdentity["kind"];
  readonly path: string;
}

/** A VM of a run. */
export interface RunVm {
  readonly name: string;
  readonly number: number;
  readonly console: ConsoleOutput;
  /** A reader of what it did outwardly, from the beginning. */
  outward(): OutwardSource;
  /** Its log, in a recording. */
  readonly log?: LogOfVm & { readonly manifest: ManifestVm };
}

export interface Run {
  readonly identity: RunIdentity;
  readonly vms: readonly RunVm[];
  /** In a recording. */
  readonly manifest?: Manifest;
}

/** @throws {FormatError} where it is no recording or trace; {VersionError}; {ClusterrrError} */
export function openRun({ kind, path }: RunPlace): Run {
  return kind === "recording" ? openRecording(path) : openTrace(path);
}

function openRecording(path: string): Run {
  const manifest = readManifest(path);
  const vms = manifest.vms.map((vm): RunVm => {
    const open = () => openLog(path, vm, manifest);
    return {
      name: vm.name,
      number: vm.number,
      console: { path: `${path}/${vm.console}` },
      outward: () => new RecordedOutward(open),
      log: { name: vm.name, number: vm.number, open, manifest: vm },
    };
  });
  const { name, id } = manifest;
  return { identity: { kind: "recording", path, name, id }, vms, manifest };
}

function openTrace(path: string): Run {
  const reader = new TraceReader(path);
  const consoles = new Map<string, ConsoleDigest>();
  try {
    for (let record = reader.next(); record !== undefined; record = reader.next()) {
      if (record.type !== "console") continue;
      consoles.set(record.vm, { bytes: record.bytes, sha256: record.sha256 });
    }
  } finally {
    reader.close();
  }
  const { name, id } = reader.header.recording;
  return {
    identity: { kind: "trace", path, name, id },
    vms: reader.header.vms.map((vm) => ({
      ...vm,
      console: consoles.get(vm.name),
      outward: () => new TracedOutward(path, vm.name),
    })),
  };
}
