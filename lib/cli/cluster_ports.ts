/** What commands need of a coordinator and its hosts; `operations/` implements it. */
import type { HostState, PlacedVms, RecordingEntry, RunStatus } from "../protocol/control.ts";
import type { Progress, RecordOptions, ReplayReport, VerifyReport } from "./ports.ts";

/** Where a coordinator is, and who asks. */
export interface ClusterAddress {
  /** `host:port`. */
  readonly coordinator: string;
  /** The directory with the operator's key and certificate. */
  readonly identity: string;
}

export interface ClusterRecordOptions extends Omit<RecordOptions, "out" | "from" | "spec"> {
  readonly spec: string;
}

export interface ClusterReplayOptions {
  /** The recording's name, or the beginning of its id. */
  readonly recording: string;
  readonly windowEpochs?: number;
  /** Where VMs are replayed; the others where they were recorded. */
  readonly placement: readonly PlacedVms[];
  /** Spreads the VMs over these hosts instead. */
  readonly hosts?: readonly string[];
}

/** A recording on the hosts, when it has ended. */
export type ClusterRecordReport = RecordingEntry;

/** What a host had of a recording that was collected. */
export interface CollectReport {
  readonly id: string;
  readonly name: string;
  readonly directory: string;
  readonly bytes: number;
  readonly hosts: readonly { readonly host: string; readonly vms: readonly string[] }[];
  /** VMs whose host could not be reached. */
  readonly missing: readonly string[];
}

export interface ClusterStatus {
  readonly version: string;
  readonly upS: number;
  readonly hosts: readonly HostState[];
  readonly runs: readonly RunStatus[];
}

/** A coordinator. The owner calls {@link close}. */
export interface ClusterClient {
  hosts(): Promise<readonly HostState[]>;
  invite(role: "agent" | "operator", name: string, validMs: number): Promise<string>;
  drain(name: string, drained: boolean): Promise<void>;
  remove(name: string): Promise<void>;
  revoke(role: "agent" | "operator", name: string): Promise<void>;
  status(): Promise<ClusterStatus>;
  /** Ends a run in order. */
  stop(run: string): Promise<void>;
  recordings(): Promise<readonly RecordingEntry[]>;
  removeRecording(reference: string): Promise<void>;
  /** Leaves its parts on their hosts. */
  forgetRecording(reference: string): Promise<void>;
  record(
    options: ClusterRecordOptions,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<ClusterRecordReport>;
  replay(
    options: ClusterReplayOptions,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<ReplayReport>;
  verify(
    options: ClusterReplayOptions & { readonly runs: number },
    progress: Progress,
    signal: AbortSignal,
  ): Promise<VerifyReport>;
  /** @param partial also where a host cannot be reached */
  collect(
    reference: string,
    directory: string,
    partial: boolean,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<CollectReport>;
  close(): void;
}

export interface CoordinatorRunOptions {
  /** `host:port`. */
  readonly listen: string;
  readonly state: string;
  /** A loopback address for health and metrics. */
  readonly metrics?: string;
  readonly logLevel?: string;
  readonly lostAfterMs?: number;
  readonly tunnelPort?: number;
}

export interface AgentRunOptions {
  readonly coordinator: string;
  readonly state: string;
  /** Where other hosts reach it: `IPv4:port`. */
  readonly link: string;
  readonly name?: string;
  /** Joins first, unless it has joined before. */
  readonly token?: string;
  readonly metrics?: string;
  readonly logLevel?: string;
  readonly lostAfterMs?: number;
}

export interface AuthorityReport {
  readonly fingerprint: string;
  readonly ca: string;
  readonly coordinator: string;
  readonly operator: string;
}

/** What `clusterrr` does besides being an operator. */
export interface ClusterOperations {
  initAuthority(options: {
    readonly state: string;
    readonly operator: string;
    readonly identity: string;
  }): Promise<AuthorityReport>;
  join(options: {
    readonly coordinator: string;
    readonly token: string;
    readonly name: string;
    readonly identity: string;
  }, signal: AbortSignal): Promise<"agent" | "operator" | "coordinator">;
  /** Runs until the signal; `ready` hears where it listens. */
  runCoordinator(
    options: CoordinatorRunOptions,
    ready: (line: string) => void,
    signal: AbortSignal,
  ): Promise<void>;
  runAgent(
    options: AgentRunOptions,
    ready: (line: string) => void,
    signal: AbortSignal,
  ): Promise<void>;
  connect(address: ClusterAddress, signal: AbortSignal): Promise<ClusterClient>;
}
