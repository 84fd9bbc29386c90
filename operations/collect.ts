/** `clusterrr collect`: brings the parts of a recording from its hosts to one directory. */
import { resolve } from "node:path";
import type { z } from "zod";
import type { CollectReport } from "../lib/cli/cluster_ports.ts";
import type { Progress } from "../lib/cli/ports.ts";
import { clusterOf } from "../lib/cluster/spec_schema.ts";
import { ClusterrrError, messageOf } from "../lib/errors.ts";
import type { Address, OPERATOR_METHODS } from "../lib/protocol/control.ts";
import { writeManifest } from "../lib/recording/manifest.ts";
import {
  createRecordingDirectory,
  removeRecordingDirectory,
  verifySegments,
} from "../lib/recording/recording_directory.ts";
import { type ManifestPart, mergeManifests } from "./collected_manifest.ts";
import { fetchPart, type FileRpc, listPart, type RecordingPart } from "./remote_files.ts";

type Located = z.output<(typeof OPERATOR_METHODS)["recordings.locate"]["result"]>;

/** A part that can be reached. */
interface Reached {
  readonly host: string;
  readonly rpc: FileRpc;
  readonly part: RecordingPart;
}

/**
 * Collects.
 * @param partial also where a host cannot be reached
 * @throws {ClusterrrError} naming every host that cannot be reached and what it has; nothing is left then
 */
export async function collectRecording(
  { recording, sources }: Located,
  out: string,
  partial: boolean,
  { openFiles, progress, signal }: {
    readonly openFiles: (host: string, address: Address) => Promise<FileRpc>;
    readonly progress: Progress;
    readonly signal: AbortSignal;
  },
): Promise<CollectReport> {
  const directory = resolve(out);
  const reached: Reached[] = [];
  const away: string[] = [];
  const missing: number[] = [];
  try {
    for (const { host, address, vms } of sources) {
      if (vms.length === 0) continue;
      try {
        if (address === null) throw new ClusterrrError("not connected to the coordinator");
        const rpc = await openFiles(host, address);
        reached.push({ host, rpc, part: await listPart(rpc, recording.id) });
      } catch (error) {
        signal.throwIfAborted();
        away.push(`host ${host} with VM ${vms.join(", ")}: ${messageOf(error).split("\n")[0]}`);
        missing.push(...vms);
      }
    }
    if (reached.length === 0 || (away.length > 0 && !partial)) {
      throw new ClusterrrError(
        `Parts of recording ${recording.name} cannot be had:\n` +
          away.map((line) => `  - ${line}`).join("\n") +
          (reached.length === 0
            ? ""
            : "\nTry again when they are back, or take what there is with --partial."),
      );
    }
    createRecordingDirectory(directory);
    try {
      return await copyAll(recording, reached, missing, directory, progress, signal);
    } catch (error) {
      await removeRecordingDirectory(directory);
      throw error;
    }
  } finally {
    for (const { rpc } of reached) rpc.close();
  }
}

async function copyAll(
  recording: Located["recording"],
  reached: readonly Reached[],
  missing: readonly number[],
  directory: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<CollectReport> {
  const parts: ManifestPart[] = reached.map(({ host, part }) => ({
    host,
    manifest: part.manifest,
  }));
  const manifest = mergeManifests(parts);
  const total = reached.flatMap(({ part }) => part.files).reduce(
    (sum, { bytes }) => sum + bytes,
    0,
  );
  let bytes = 0;
  for (const { host, rpc, part } of reached) {
    await fetchPart(rpc, recording.id, part, directory, {
      signal,
      onBytes: (count) => {
        bytes += count;
        const fraction = total === 0 ? 1 : bytes / total;
        progress.show({ phase: `copying from host ${host}`, fraction, vms: [] });
      },
    });
  }
  for (const { name } of manifest.vms) {
    await Deno.mkdir(`${directory}/vms/${name}`, { recursive: true });
  }
  writeManifest(directory, missing.length === 0 ? manifest : { ...manifest, complete: false });
  if (manifest.state === "sealed") {
    progress.show({ phase: "checking digests", vms: [] });
    await verifySegments(directory, manifest);
  }
  const { vms } = clusterOf(manifest, directory);
  const names = new Map(vms.map(({ number, name }) => [number, name]));
  return {
    id: recording.id,
    name: recording.name,
    directory,
    bytes,
    hosts: reached.map(({ host, part }) => ({
      host,
      vms: part.manifest.vms.map(({ name }) => name),
    })),
    missing: missing.map((vm) => names.get(vm) ?? String(vm)),
  };
}
