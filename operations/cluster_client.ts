/** An operator's side of a coordinator: what `--coordinator` does. */
import type { z } from "zod";
import { connectTls } from "../host/tls/connector.ts";
import type {
  ClusterAddress,
  ClusterClient,
  ClusterRecordOptions,
  ClusterReplayOptions,
  CollectReport,
} from "../lib/cli/cluster_ports.ts";
import type { Progress, ReplayReport, VerifyReport, VerifyRun } from "../lib/cli/ports.ts";
import { summarizeRuns } from "../lib/cli/verification.ts";
import { loadClusterFile } from "../lib/cluster/cluster_file.ts";
import { allPages } from "../lib/coordinator/recording_pages.ts";
import { ClusterrrError, InterruptedError, RemoteError } from "../lib/errors.ts";
import type { CaCertificate } from "../lib/identity/certificates.ts";
import { needsRenewal } from "../lib/identity/joining.ts";
import { renewIdentity } from "../lib/identity/renewal.ts";
import { type Identity, loadIdentity } from "../lib/identity/files.ts";
import { type Channel, serverNameOf } from "../lib/protocol/channel.ts";
import {
  type Address,
  OPERATOR_METHODS,
  type PlacedVms,
  type RecordingEntry,
  type ReplayResult,
  type RunStatus,
} from "../lib/protocol/control.ts";
import { newRunId } from "../lib/protocol/run_id.ts";
import { type Rpc, startRpc } from "../lib/protocol/rpc.ts";
import { sleep } from "../lib/sleep.ts";
import { collectRecording } from "./collect.ts";
import { hashImages } from "./images.ts";
import { type FileRpc, missingImages, openFiles, sendImage } from "./remote_files.ts";
import { showRun } from "./run_progress.ts";
import { replayReportOf, verifyRunOf } from "./remote_replay.ts";

type Methods = typeof OPERATOR_METHODS;
type OperatorRpc = Rpc<Methods>;

const POLL_MS = 250;
/** A coordinator that is started again is waited for, once it has been there. */
const RECONNECT_MS = 60_000;

/** Connects as the operator whose identity is in `address.identity`. */
export async function connectCluster(
  { coordinator, identity: directory }: ClusterAddress,
  signal: AbortSignal,
): Promise<ClusterClient> {
  const { identity, ca } = await loadIdentity(directory);
  if (identity.peer.role !== "operator") {
    throw new ClusterrrError(
      `${directory} has the identity of an ${identity.peer.role}, not of an operator.`,
    );
  }
  const client = new CoordinatorClient(coordinator, identity, ca, signal);
  await client.connect();
  if (needsRenewal(identity, ca)) await client.renew(directory);
  return client;
}

class CoordinatorClient implements ClusterClient {
  #rpc: OperatorRpc | undefined;
  /** Ctrl-C ends a run on the hosts: from then on it does not end this client, which waits for that. */
  #ending = false;

  constructor(
    private readonly address: string,
    private readonly identity: Identity,
    private readonly ca: CaCertificate,
    private readonly signal: AbortSignal,
  ) {}

  async connect(): Promise<void> {
    const channel = await connectTls({
      address: this.address,
      identity: this.identity,
      ca: this.ca,
      serverName: serverNameOf({ role: "coordinator", name: "coordinator" }),
      signal: this.#ending ? undefined : this.signal,
    });
    const rpc = startRpc(channel, { serves: {}, handlers: {}, calls: OPERATOR_METHODS });
    this.#rpc = rpc;
    void rpc.closed.then(() => {
      if (this.#rpc === rpc) this.#rpc = undefined;
    });
  }

  /** A new certificate in place of the old one; where it cannot be had now, it is asked for again next time. */
  async renew(directory: string): Promise<void> {
    await renewIdentity(directory, (params) => this.#call("identity.renew", params)).catch(
      () => {},
    );
  }

  /** Calls; where the connection is lost meanwhile, connects again and calls again. */
  async #call<K extends keyof Methods>(
    method: K,
    params: z.input<Methods[K]["params"]>,
  ): Promise<z.output<Methods[K]["result"]>> {
    const deadline = performance.now() + RECONNECT_MS;
    for (;;) {
      try {
        if (this.#rpc === undefined) await this.connect();
        // deno-lint-ignore no-explicit-any -- the table's types are lost in a generic call
        return await (this.#rpc!.call as any)(method, params);
      } catch (error) {
        const lost = !(error instanceof RemoteError) && this.#rpc === undefined;
        const givenUp = this.signal.aborted && !this.#ending;
        if (!lost || givenUp || performance.now() > deadline) throw error;
        await sleep(POLL_MS);
      }
    }
  }

  hosts = async () => (await this.#call("hosts.list", {})).hosts;
  invite = async (role: "agent" | "operator", name: string, validMs: number) =>
    (await this.#call("hosts.invite", { role, name, validMs })).token;
  drain = async (name: string, drained: boolean) =>
    void await this.#call("hosts.drain", { name, drained });
  remove = async (name: string) => void await this.#call("hosts.remove", { name });
  revoke = async (role: "agent" | "operator", name: string) =>
    void await this.#call("hosts.revoke", { role, name });
  status = async () => await this.#call("status", {});
  stop = async (run: string) => void await this.#call("runs.stop", { run });
  recordings = () => allPages((behind) => this.#call("recordings.page", { behind }));
  removeRecording = async (recording: string) =>
    void await this.#call("recordings.remove", { recording });
  forgetRecording = async (recording: string) =>
    void await this.#call("recordings.forget", { recording });

  async record(
    options: ClusterRecordOptions,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<RecordingEntry> {
    const { spec: cluster, text } = await loadClusterFile(options.spec);
    progress.show({ phase: "preparing", vms: [] });
    const { placement, uplinkHost } = await this.#call("runs.place", { cluster });
    const images = await Promise.all(
      cluster.vms.map(async (vm) => ({ vm: vm.number, images: await hashImages(vm) })),
    );
    for (const { host, address, vms } of placement) {
      const needed = images.filter(({ vm }) => vms.includes(vm)).flatMap(({ images }) => images);
      await this.#sendImages(host, address, needed, progress, signal);
    }
    const { run } = await this.#call("runs.record", {
      run: newRunId(),
      name: options.name ?? cluster.name,
      createdAt: new Date().toISOString(),
      cluster,
      text,
      images,
      placement: placement.map(({ host, vms }) => ({ host, vms })),
      ...(uplinkHost === undefined ? {} : { uplinkHost }),
      digestEveryMs: options.digestEveryMs,
      epochMs: options.epochMs,
      ...(options.forMs === undefined ? {} : { forMs: options.forMs }),
    });
    const { recording, failure } = await this.#follow(run, progress, signal);
    if (recording !== undefined) return recording;
    if (signal.aborted) throw new InterruptedError("Interrupted before the recording began.");
    throw new ClusterrrError(failure ?? "The recording left nothing.");
  }

  async #sendImages(
    host: string,
    address: Address,
    images: readonly { readonly path: string; readonly sha256: string }[],
    progress: Progress,
    signal: AbortSignal,
  ): Promise<void> {
    if (images.length === 0) return;
    const rpc = await this.openFiles(host, address, signal);
    try {
      progress.show({ phase: `looking for images on host ${host}`, vms: [] });
      for (const sha256 of await missingImages(rpc, images, signal)) {
        const { path } = images.find((each) => each.sha256 === sha256)!;
        progress.show({ phase: `sending ${path} to host ${host}`, vms: [] });
        await sendImage(rpc, path, sha256, signal);
      }
    } finally {
      rpc.close();
    }
  }

  /** Opens the file service of a host. */
  async openFiles(host: string, address: Address, signal: AbortSignal): Promise<FileRpc> {
    return await openFiles(await this.#connectHost(host, address, signal));
  }

  async #connectHost(host: string, address: Address, signal: AbortSignal): Promise<Channel> {
    return await connectTls({
      address: `${address.host}:${address.port}`,
      identity: this.identity,
      ca: this.ca,
      serverName: serverNameOf({ role: "agent", name: host }),
      signal,
    });
  }

  /** Shows a run until it has ended; `signal` ends it. */
  async #follow(run: string, progress: Progress, signal: AbortSignal): Promise<RunStatus> {
    for (;;) {
      if (signal.aborted) {
        this.#ending = true;
        // Each time: a coordinator that was killed meanwhile may not have written it down.
        await this.#call("runs.stop", { run });
      }
      const status = await this.#call("runs.status", { run });
      if (status.ended) return status;
      progress.show(showRun(status));
      await sleep(POLL_MS);
    }
  }

  async #replayOnce(
    { recording, windowEpochs, placement, hosts }: ClusterReplayOptions,
    checks: boolean,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<readonly ReplayResult[]> {
    const places = hosts === undefined
      ? placement
      : await this.#spread(recording, hosts, placement);
    const { run } = await this.#call("runs.replay", {
      run: newRunId(),
      recording,
      checks,
      placement: [...places],
      ...(windowEpochs === undefined ? {} : { windowEpochs }),
    });
    const { results, failure } = await this.#follow(run, progress, signal);
    if (results !== undefined && results.length > 0) return results;
    if (signal.aborted) throw new InterruptedError("interrupted");
    throw new ClusterrrError(failure ?? "The replay has no result.");
  }

  /** VMs that `placement` leaves open go to `hosts`, one after the other. */
  async #spread(
    reference: string,
    hosts: readonly string[],
    placement: readonly PlacedVms[],
  ): Promise<PlacedVms[]> {
    const { recording } = await this.#call("recordings.locate", { recording: reference });
    const placed = new Set(placement.flatMap(({ vms }) => vms));
    const open = recording.placement.flatMap(({ vms }) => vms).filter((vm) => !placed.has(vm))
      .sort((a, b) => a - b);
    return [
      ...placement,
      ...hosts.map((host, i) => ({ host, vms: open.filter((_, j) => j % hosts.length === i) })),
    ].filter(({ vms }) => vms.length > 0);
  }

  async replay(
    options: ClusterReplayOptions,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<ReplayReport> {
    return replayReportOf(await this.#replayOnce(options, false, progress, signal));
  }

  async verify(
    options: ClusterReplayOptions & { readonly runs: number },
    progress: Progress,
    signal: AbortSignal,
  ): Promise<VerifyReport> {
    const perRun: VerifyRun[] = [];
    let incomplete: string | undefined;
    for (let run = 1; run <= options.runs; run++) {
      const results = await this.#replayOnce(options, true, progress, signal);
      incomplete = results.find((each) => each.incomplete !== undefined)?.incomplete;
      const verified = verifyRunOf(results);
      perRun.push(verified);
      if (options.runs > 1) {
        const verdict = verified.ok ? "identical" : "DIFFERENT";
        progress.note(
          `run ${run} of ${options.runs}: ${verdict}, ${verified.replayS.toFixed(1)} s`,
        );
      }
    }
    return summarizeRuns(perRun, incomplete);
  }

  async collect(
    reference: string,
    directory: string,
    partial: boolean,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<CollectReport> {
    const located = await this.#call("recordings.locate", { recording: reference });
    return await collectRecording(located, directory, partial, {
      openFiles: (host, address) => this.openFiles(host, address, signal),
      progress,
      signal,
    });
  }

  close(): void {
    this.#rpc?.close();
  }
}
