/**
 * `clusterrr boot`: runs a cluster without recording it, pauses all VMs at one moment and saves them as
 * a snapshot, frames in flight included. {@link record} starts there as often as wanted.
 *
 * ```
 * start, paused ─▶ run ─▶ ready ─▶ pause all ─▶ save each ─▶ marker into each tap ─▶ end, collect frames
 *                            ▲         │ QEMU has work under way
 *                            └─────────┘
 * ```
 */
import { chmodSync } from "node:fs";
import { inspectQemu } from "../hypervisor/qemu/capabilities.ts";
import { createFileOverlay, createOverlay, createStateFile } from "../hypervisor/qemu/overlay.ts";
import { tableForQemu } from "../hypervisor/rr_log/tables.ts";
import { BootedVm } from "../hypervisor/booted_vm.ts";
import { makeInheritable } from "../host/libc.ts";
import { digestOf } from "../host/file_digest.ts";
import { RunDirectory } from "../host/run_directory.ts";
import { ClusterrrError, InterruptedError } from "../lib/errors.ts";
import type { BootOptions, BootReport, Progress } from "../lib/cli/ports.ts";
import { directoryBytes } from "../lib/catalog/directories.ts";
import { loadClusterFile } from "../lib/cluster/cluster_file.ts";
import { makeUplinkMac } from "../lib/cluster/mac_address.ts";
import { placementNote } from "../lib/cluster/placement.ts";
import type { ClusterSpec } from "../lib/cluster/spec.ts";
import {
  encodeFrames,
  SNAPSHOT_FORMAT,
  SNAPSHOT_VERSION,
  type SnapshotFile,
  type SnapshotManifest,
  writeSnapshotManifest,
} from "../lib/snapshot/snapshot.ts";
import { settleAll } from "../lib/settle_all.ts";
import { nameTaken, SnapshotStore } from "../lib/snapshot/store.ts";
import { sendFrames } from "../net/frame_socket.ts";
import { openTap } from "../net/tap.ts";
import { createNetwork, type Network, TAP_QUEUE_FRAMES } from "../net/topology.ts";
import { hashImages } from "./images.ts";
import { logLag } from "./log_start.ts";
import { hardwareOf, requireRoot } from "./machine.ts";
import config from "../deno.json" with { type: "json" };

/** Between two moves of what the VMs hand out. */
const TURN_MS = 4;
/** What the VMs sent before they were paused has crossed the bridge by then. */
const SETTLE_MS = 50;
/** How long VMs run on where QEMU cannot save just now, and how often that is tried. */
const RUN_ON_MS = 20;
const SAVES_MAX = 50;
/** An EtherType for experiments (IEEE 802): no guest understands it. */
const MARKER_ETHERTYPE = [0x88, 0xb5];
const MARKER_BYTES = 60;

/** Boots a cluster and saves it; see {@link BootOptions}. */
export async function boot(
  options: BootOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<BootReport> {
  requireRoot("Booting");
  const store = new SnapshotStore();
  if (store.has(options.save) && !options.force) throw nameTaken(options.save);
  const { spec, text } = await loadClusterFile(options.spec);
  const placement = placementNote(spec);
  if (placement !== undefined) progress.note(placement);
  await using cleanup = new AsyncDisposableStack();
  const run = RunDirectory.create(`boot ${options.save}`);
  cleanup.defer(() => run.remove());
  cleanup.defer(() => store.abandon(run.run));
  const directory = store.begin(run.run);
  await Deno.writeTextFile(`${directory}/cluster.yaml`, text);
  const startedAt = performance.now();
  const manifest = await bootInto(directory, run, spec, options, progress, signal);
  writeSnapshotManifest(directory, manifest);
  const path = store.finish(run.run, options.save, options.force);
  return {
    name: options.save,
    directory: path,
    bytes: await directoryBytes(path),
    bootS: (performance.now() - startedAt) / 1000,
    vms: manifest.vms.map((vm) => ({
      name: vm.name,
      instructions: vm.icount,
      stateBytes: vm.state.bytes,
      framesInFlight: vm.inFlight.frames,
    })),
  };
}

/** Boots the cluster, saves it into `directory`, and ends it. */
async function bootInto(
  directory: string,
  run: RunDirectory,
  spec: ClusterSpec,
  options: BootOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<SnapshotManifest> {
  const createdAt = new Date().toISOString();
  const qemu = await inspectQemu(spec.qemu.program);
  const table = tableForQemu(qemu.version);
  await using cleanup = new AsyncDisposableStack();
  progress.show({ phase: "building the network", vms: [] });
  // Guests remember the address of the uplink's host end: it has to be there again.
  const uplinkMac = makeUplinkMac(spec);
  const { uplink } = spec.network;
  const network = await createNetwork({
    run: run.run,
    vms: spec.vms,
    ...(uplink === undefined ? {} : { uplink: { ...uplink, mac: uplinkMac } }),
  });
  cleanup.defer(() => network.remove());
  for (const note of network.notes) progress.note(note);

  const common = {
    qemu,
    enter: network.enter,
    signal,
    started: (pid: number) => run.ownChild(pid),
  };
  const vms = await settleAll(spec.vms.map(async (vm) => {
    const vmDir = `${directory}/vms/${vm.name}`;
    await Deno.mkdir(vmDir, { recursive: true });
    const overlays = await Promise.all(vm.disks.map(async ({ image, format }, i) => {
      await createOverlay(image, format, `${vmDir}/disk${i}.qcow2`);
      return `${vmDir}/disk${i}.qcow2`;
    }));
    const state = `${vmDir}/state.qcow2`;
    await createStateFile(state);
    const tap = openTap(network.netns, network.tapOf(vm.number));
    makeInheritable(tap);
    const booted = new BootedVm(
      {
        ...common,
        hardware: hardwareOf(spec, vm, createdAt),
        directory: run.path,
        console: `${vmDir}/console.log`,
        overlays,
        state,
      },
      tap,
      vm.serialInput,
    );
    cleanup.defer(() => booted.close());
    return booted;
  }));
  progress.show({ phase: "starting the VMs", vms: [] });
  await settleAll(vms.map((vm) => vm.start()));
  const moved = Promise.withResolvers<never>();
  moved.promise.catch(() => {}); // its failure shows where it is awaited
  const timer = setInterval(() => {
    try {
      vms.forEach((vm) => vm.move());
    } catch (cause) { // such as a console for which there is no room
      clearInterval(timer);
      moved.reject(cause);
    }
  }, TURN_MS);
  cleanup.defer(() => clearInterval(timer));

  progress.show({ phase: "booting", vms: vms.map(({ name }) => ({ name, status: "running" })) });
  await settleAll(vms.map((vm) => vm.resume()));
  const save = async () => {
    await untilReady(vms, directory, options, signal);
    progress.show({ phase: "saving", vms: vms.map(({ name }) => ({ name, status: "paused" })) });
    await saveTogether(vms, signal);
  };
  await Promise.race([save(), moved.promise]);
  const icounts = await Promise.all(vms.map((vm) => vm.icount()));
  const frames = await collectInFlight(vms, network);
  clearInterval(timer);
  await settleAll(vms.map((vm) => vm.close())); // their taps are free now
  await network.cut(); // nobody shall hear what the VMs say once more
  const lags = await settleAll(spec.vms.map((vm) => {
    let attempts = 0;
    return logLag(async () => {
      const attempt = `${vm.number}.${attempts++}`;
      const [sockets, scratch] = [run.file(attempt), run.scratch(attempt)];
      await Promise.all([Deno.mkdir(sockets), Deno.mkdir(scratch)]);
      const overlayOf = async (file: string) => {
        await createFileOverlay(`${directory}/vms/${vm.name}/${file}`, `${scratch}/${file}`);
        return `${scratch}/${file}`;
      };
      const console = `${scratch}/console`;
      return {
        run: {
          ...common,
          hardware: hardwareOf(spec, vm, createdAt),
          directory: sockets,
          console,
          state: await overlayOf("state.qcow2"),
          overlays: await Promise.all(vm.disks.map((_, i) => overlayOf(`disk${i}.qcow2`))),
        },
        tap: network.tapOf(vm.number),
        ...(vm.serialInput === undefined ? {} : { serialInput: "" }),
      };
    }, table);
  }));
  return {
    format: SNAPSHOT_FORMAT,
    formatVersion: SNAPSHOT_VERSION,
    name: options.save,
    createdAt,
    savedAt: new Date().toISOString(),
    toolVersion: config.version,
    uplinkMac,
    cluster: spec,
    vms: await Promise.all(spec.vms.map(async (vm, i) => {
      const at = `vms/${vm.name}`;
      await Deno.writeFile(`${directory}/${at}/in-flight`, encodeFrames(frames[i]!));
      return {
        number: vm.number,
        name: vm.name,
        qemu: { ...qemu, rrLogVersion: table.version },
        images: await hashImages(vm),
        icount: icounts[i]!,
        logIcount: icounts[i]! - lags[i]!,
        state: await seal(directory, `${at}/state.qcow2`),
        disks: await Promise.all(vm.disks.map((_, n) => seal(directory, `${at}/disk${n}.qcow2`))),
        inFlight: {
          ...await seal(directory, `${at}/in-flight`),
          frames: frames[i]!.length,
        },
      };
    })),
  };
}

/** Waits for the text on every console, then for the time. */
async function untilReady(
  vms: readonly BootedVm[],
  directory: string,
  { until, afterMs = 0, timeoutMs }: BootOptions,
  signal: AbortSignal,
): Promise<void> {
  const latest = performance.now() + timeoutMs;
  let waiting = until === undefined ? [] : [...vms];
  while (waiting.length > 0) {
    await pause(TURN_MS * 5, vms, signal);
    waiting = waiting.filter((vm) => !consoleShows(`${directory}/vms/${vm.name}`, until!));
    if (waiting.length > 0 && performance.now() > latest) {
      const { name } = waiting[0]!;
      throw new ClusterrrError(
        `VM ${name} has not printed "${until}" within ${timeoutMs / 1000} s. ` +
          `It printed last:\n${lastLines(`${directory}/vms/${name}`)}`,
      );
    }
  }
  const end = performance.now() + afterMs;
  while (performance.now() < end) {
    await pause(Math.min(end - performance.now(), TURN_MS * 5), vms, signal);
  }
}

/** @throws {InterruptedError} when the user ends it; {ClusterrrError} when a VM ends meanwhile */
async function pause(ms: number, vms: readonly BootedVm[], signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
  if (signal.aborted) throw new InterruptedError("Interrupted; no snapshot was saved.");
  for (const { name, end } of vms) {
    if (end === undefined) continue;
    if (end.failure !== undefined) throw end.failure;
    const how = end.code === 0 ? "powered off" : `ended: ${end.stderr.trim()}`;
    throw new ClusterrrError(`VM ${name} ${how} before the cluster was saved.`);
  }
}

function consoleShows(vmDir: string, text: string): boolean {
  return readConsole(vmDir).includes(text);
}

function lastLines(vmDir: string): string {
  return readConsole(vmDir).trimEnd().split("\n").slice(-5).join("\n") || "(nothing)";
}

function readConsole(vmDir: string): string {
  try {
    return Deno.readTextFileSync(`${vmDir}/console.log`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

/** Pauses all VMs and saves each; where one cannot be saved just now, all run on for a moment. */
async function saveTogether(vms: readonly BootedVm[], signal: AbortSignal): Promise<void> {
  for (let attempt = 0; attempt < SAVES_MAX; attempt++) {
    await settleAll(vms.map((vm) => vm.pause()));
    const saved = await Promise.all(vms.map((vm) => vm.save()));
    if (saved.every((done) => done)) return;
    await settleAll(vms.map((vm) => vm.resume()));
    await pause(RUN_ON_MS, vms, signal);
  }
  throw new ClusterrrError(`QEMU did not get to save the VMs in ${SAVES_MAX} attempts. Try again.`);
}

/** Ends the paused VMs and returns for each the frames that were on their way to it. */
async function collectInFlight(
  vms: readonly BootedVm[],
  network: Network,
): Promise<Uint8Array[][]> {
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const marker = new Uint8Array(MARKER_BYTES);
  crypto.getRandomValues(marker);
  marker.set([0x02, 0, 0, 0, 0, 0], 0); // locally administered; no guest's
  marker.set([0x02, 0, 0, 0, 0, 1], 6);
  marker.set(MARKER_ETHERTYPE, 12);
  for (const vm of vms) sendFrames(network.netns, network.tapOf(vm.number), [marker]);
  return await Promise.all(vms.map((vm) => vm.endInFlight(marker, TAP_QUEUE_FRAMES)));
}

/** Makes a file of the snapshot read-only, and describes it. */
async function seal(directory: string, path: string): Promise<SnapshotFile> {
  chmodSync(`${directory}/${path}`, 0o400);
  return { path, ...await digestOf(`${directory}/${path}`) };
}
