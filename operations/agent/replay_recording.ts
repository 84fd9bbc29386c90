/**
 * Puts together what a host needs of a recording to replay some of its VMs: logs that are here already, logs of
 * other hosts, images of either.
 *
 * ```
 * STATE/replays/RUN/recording/
 *   manifest.json   of these VMs
 *   vms/NAME        a link to this host's own part, or copied from the host that has it
 * ```
 */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { ClusterrrError } from "../../lib/errors.ts";
import type { ReplayPlan } from "../../lib/protocol/control.ts";
import { type ManifestVm, readManifest, writeManifest } from "../../lib/recording/manifest.ts";
import type { VmNumber } from "../../lib/units.ts";
import { type ManifestPart, mergeManifests } from "../collected_manifest.ts";
import { isOnHost } from "../images.ts";
import { fetchPart, type FileRpc, listPart, readImage } from "../remote_files.ts";
import type { AgentState } from "./agent_state.ts";

/** Opens the file service of another host. */
export type OpenFiles = (host: string) => Promise<FileRpc>;

/**
 * Makes the directory, unless an agent before this one has made it.
 * @returns its path
 * @throws {ClusterrrError} where a part is nowhere
 */
export async function assembleRecording(
  plan: ReplayPlan,
  host: string,
  state: AgentState,
  openFiles: OpenFiles,
  say: (doing: string) => void,
  signal: AbortSignal,
): Promise<string> {
  const whole = `${state.replay(plan.run)}/recording`;
  if (existsSync(`${whole}/manifest.json`)) return whole;
  // What an agent before this one left half-made cannot be told from what is right: it is made anew.
  const directory = `${whole}.partial`;
  for (const left of [whole, directory]) {
    await rm(left, { recursive: true, force: true });
  }
  await Deno.mkdir(`${directory}/vms`, { recursive: true });
  const own = new Set(plan.placement.find((each) => each.host === host)?.vms ?? []);
  const parts: ManifestPart[] = [];
  for (const source of plan.sources) {
    const needed = new Set(source.vms.filter((vm) => own.has(vm)));
    parts.push(
      source.host === host
        ? await linkOwn(plan, source.host, needed, state, directory)
        : await copyFrom(plan, source.host, needed, state, directory, openFiles, say, signal),
    );
  }
  const merged = mergeManifests(parts, own);
  if (merged.vms.length < own.size) {
    const there = new Set(merged.vms.map(({ number }) => number));
    const missing = [...own].filter((vm) => !there.has(vm)).join(", ");
    throw new ClusterrrError(`No host has the logs of the VMs number ${missing}.`);
  }
  writeManifest(directory, merged);
  await Deno.rename(directory, whole);
  return whole;
}

async function linkOwn(
  plan: ReplayPlan,
  host: string,
  needed: ReadonlySet<VmNumber>,
  state: AgentState,
  directory: string,
): Promise<ManifestPart> {
  const recording = state.recording(plan.recording);
  const manifest = readManifest(recording);
  for (const { name, number } of manifest.vms) {
    if (!needed.has(number)) continue;
    await Deno.symlink(`${recording}/vms/${name}`, `${directory}/vms/${name}`);
  }
  return { host, manifest };
}

async function copyFrom(
  plan: ReplayPlan,
  host: string,
  needed: ReadonlySet<VmNumber>,
  state: AgentState,
  directory: string,
  openFiles: OpenFiles,
  say: (doing: string) => void,
  signal: AbortSignal,
): Promise<ManifestPart> {
  say(`reading what host ${host} has`);
  const rpc = await openFiles(host);
  try {
    const part = await listPart(rpc, plan.recording);
    const vms = part.manifest.vms.filter(({ number }) => needed.has(number));
    const wanted = (path: string) => vms.some(({ name }) => path.startsWith(`vms/${name}/`));
    say(`copying logs from host ${host}`);
    await fetchPart(rpc, plan.recording, part, directory, { wanted, signal });
    for (const vm of vms) await fetchImages(rpc, vm, state, signal);
    return { host, manifest: part.manifest };
  } finally {
    rpc.close();
  }
}

/** Fetches the images of a VM that are nowhere on this host. */
async function fetchImages(
  rpc: FileRpc,
  vm: ManifestVm,
  state: AgentState,
  signal: AbortSignal,
): Promise<void> {
  for (const image of vm.images) {
    signal.throwIfAborted();
    if (await isOnHost(image, state.images)) continue;
    const bytes = readImage(rpc, image.sha256, image.bytes, signal);
    await state.images.add(bytes, image.sha256, signal);
  }
}
