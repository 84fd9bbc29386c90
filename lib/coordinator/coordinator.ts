/**
 * The coordinator: knows the hosts and what runs on them, starts and stops recordings and replays over them,
 * and answers operators. Connections come as channels whose peer is proven; what must outlive it is in the store.
 */
import type { z } from "zod";
import { placeUplink, placeVms } from "../cluster/placement.ts";
import type { ClusterSpec } from "../cluster/spec.ts";
import { ClusterrrError, ProtocolError } from "../errors.ts";
import type { Channel, PeerIdentity, Role } from "../protocol/channel.ts";
import {
  AGENT_METHODS,
  AGENT_REPORTS,
  CONTROL_VERSION,
  type HostState,
  OPERATOR_METHODS,
  type PlacedVms,
  type RecordingEntry,
  type RecordPlan,
  type RunStatus,
} from "../protocol/control.ts";
import { type Handlers, startRpc } from "../protocol/rpc.ts";
import { sleepUnless } from "../sleep.ts";
import type { VmNumber } from "../units.ts";
import { ConnectedHost, type Hello } from "./connected_host.ts";
import { concludeLate } from "./late_host.ts";
import { pageOf } from "./recording_pages.ts";
import { RecordingRun } from "./recording_run.ts";
import { ReplayRun } from "./replay_run.ts";
import { NO_OBSERVER, type RunObserver, type RunOutcome } from "./run_observer.ts";
import type {
  CoordinatorStore,
  StoredHost,
  StoredRecord,
  StoredReplay,
  StoredRun,
} from "./store.ts";

/** Who may connect; `lib/identity` implements it. */
export interface Admissions {
  /** A token with which `name` can join once. */
  invite(role: Exclude<Role, "coordinator">, name: string, validMs: number): Promise<string>;
  /** Makes every certificate of `name` worthless. */
  revoke(role: Exclude<Role, "coordinator">, name: string): Promise<void>;
  /** A new certificate for who has proven the old one. @returns PEM */
  renew(peer: PeerIdentity, csr: string): Promise<string>;
  /** Whether `name` has ever had a certificate of this role. */
  isKnown(role: Exclude<Role, "coordinator">, name: string): Promise<boolean>;
  /** The serials of certificates that are worth nothing, as far as they have not expired. */
  revoked(): Promise<string[]>;
  /** The names that have had certificates of which none is worth anything now. */
  revokedNames(role: Exclude<Role, "coordinator">): Promise<ReadonlySet<string>>;
}

export interface CoordinatorOptions {
  readonly version: string;
  /** Between two signs of life of an agent. */
  readonly heartbeatMs?: number;
  /** A host that is not heard of for so long is lost. */
  readonly lostAfterMs?: number;
  /** How long a replay waits for a host that is lost. */
  readonly patienceMs?: number;
  /** The UDP port of the tunnels between hosts. */
  readonly tunnelPort?: number;
  /** Hears of runs and hosts. */
  readonly observer?: RunObserver;
}

const HEARTBEAT_MS = 1_000;
const LOST_AFTER_MS = 10_000;
const PATIENCE_MS = 60_000;
const STORE_RETRY_MS = 1_000;
/** What IANA gave to VXLAN. */
const TUNNEL_PORT = 4789;

type Run = RecordingRun | ReplayRun;
type Operator = Handlers<typeof OPERATOR_METHODS>;
type Wanted<K extends "runs.record" | "runs.replay"> = z.output<
  (typeof OPERATOR_METHODS)[K]["params"]
>;

export class Coordinator {
  readonly #hosts = new Map<string, ConnectedHost>();
  readonly #stored = new Map<string, StoredHost>();
  readonly #runs = new Map<string, Run>();
  readonly #channels = new Set<Channel>();
  /** Runs that are being written down. */
  readonly #beginning = new Set<string>();
  #revocations = 0;
  readonly #over = new AbortController();
  readonly #startedAt = performance.now();
  readonly #heartbeatMs: number;
  readonly #lostAfterMs: number;
  readonly #patienceMs: number;
  readonly #observer: RunObserver;
  readonly #watch: ReturnType<typeof setInterval>;

  private constructor(
    private readonly store: CoordinatorStore,
    private readonly admissions: Admissions,
    private readonly options: CoordinatorOptions,
  ) {
    this.#lostAfterMs = options.lostAfterMs ?? LOST_AFTER_MS;
    this.#heartbeatMs = options.heartbeatMs ??
      Math.min(HEARTBEAT_MS, Math.ceil(this.#lostAfterMs / 5));
    this.#patienceMs = options.patienceMs ?? PATIENCE_MS;
    this.#observer = options.observer ?? NO_OBSERVER;
    this.#watch = setInterval(() => {
      for (const host of this.#hosts.values()) host.checkAlive();
    }, this.#heartbeatMs);
  }

  /** Starts, and takes up the runs that a coordinator before this one left. */
  static async open(
    store: CoordinatorStore,
    admissions: Admissions,
    options: CoordinatorOptions,
  ): Promise<Coordinator> {
    const coordinator = new Coordinator(store, admissions, options);
    for (const host of await store.hosts()) coordinator.#stored.set(host.name, host);
    for (const run of await store.runs()) {
      if (!run.ended) coordinator.#takeOver(run);
    }
    return coordinator;
  }

  #takeOver(stored: StoredRun): void {
    for (const { host } of stored.placement) this.#host(host).expect();
    this.#add(
      stored.kind === "record"
        ? RecordingRun.takeOver(stored, this.store, this.#hosts, this.#observer)
        : new ReplayRun(stored, this.store, this.#hosts, this.#patienceMs),
    );
  }

  #add(run: Run): void {
    const { run: id } = run.stored;
    this.#runs.set(id, run);
    void run.ended.then(() => this.#forget(run));
  }

  /** Forgets a run that has ended, once the store has that: until then whoever asks is told from here. */
  async #forget(run: Run): Promise<void> {
    const { stored } = run;
    while (stored.ended) {
      try {
        await this.store.putRun(stored);
        break;
      } catch { // the disk may be full
        if (!await sleepUnless(STORE_RETRY_MS, this.#over.signal)) return;
      }
    }
    this.#runs.delete(stored.run);
    if (stored.ended) this.#observer.ended(stored.run, outcomeOf(stored));
  }

  #host(name: string): ConnectedHost {
    let host = this.#hosts.get(name);
    if (host === undefined) {
      this.#hosts.set(name, host = new ConnectedHost(name, this.#lostAfterMs));
    }
    return host;
  }

  /** Hosts and runs in a few words: for metrics and health. */
  overview(): {
    readonly hosts: readonly {
      readonly name: string;
      readonly connected: boolean;
      /** Has a part in a run. */
      readonly busy: boolean;
    }[];
    readonly runs: readonly { readonly kind: string; readonly phase: string }[];
  } {
    const busy = new Set(
      [...this.#runs.values()].flatMap(({ stored }) => stored.placement.map(({ host }) => host)),
    );
    return {
      hosts: [...this.#stored.keys()].map((name) => ({
        name,
        connected: this.#hosts.get(name)?.connected ?? false,
        busy: busy.has(name),
      })),
      runs: [...this.#runs.values()].map(({ stored: { kind, phase } }) => ({ kind, phase })),
    };
  }

  /** Ends without ending what runs: the next coordinator takes it up. */
  close(): void {
    this.#over.abort();
    clearInterval(this.#watch);
    for (const channel of this.#channels) channel.close();
    for (const host of this.#hosts.values()) host.disconnect();
  }

  /** Takes over a connection of an agent or an operator. */
  accept(channel: Channel): void {
    this.#channels.add(channel);
    void channel.closed.then(() => this.#channels.delete(channel));
    if (channel.peer.role === "operator") {
      startRpc(channel, { serves: OPERATOR_METHODS, handlers: this.#operator, calls: {} });
    } else if (channel.peer.role === "agent") {
      this.#acceptAgent(channel);
    } else channel.close();
  }

  #acceptAgent(channel: Channel): void {
    const { name } = channel.peer;
    const handlers: Handlers<typeof AGENT_REPORTS> = {
      hello: async (hello) => {
        if (hello.protocol !== CONTROL_VERSION) {
          throw new ProtocolError(
            `The agent speaks version ${hello.protocol} of the protocol, the coordinator ` +
              `${CONTROL_VERSION}: install the same clusterrr on both.`,
          );
        }
        const known = this.#stored.get(name);
        const { link } = hello;
        if (known?.link?.host !== link.host || known.link.port !== link.port) {
          const { addedAt = new Date().toISOString(), drained = false } = known ?? {};
          const stored = { name, addedAt, drained, link };
          this.#stored.set(name, stored);
          await this.store.putHost(stored);
        }
        const revoked = await this.#revokedNow();
        const host = this.#host(name);
        host.attach(rpc, hello); // whoever is revoked from now on is told to it
        void this.#reconcile(host, hello);
        return { heartbeatMs: this.#heartbeatMs, lostAfterMs: this.#lostAfterMs, revoked };
      },
      "identity.renew": async ({ csr }, { peer }) => ({
        certificate: await this.admissions.renew(peer, csr),
      }),
      heartbeat: () => {
        this.#hosts.get(name)?.heard();
        return {};
      },
    };
    const rpc = startRpc(channel, { serves: AGENT_REPORTS, handlers, calls: AGENT_METHODS });
  }

  /**
   * Ends what an agent still has of runs that are over: also of one that ends just now, without this host, because it
   * was given up before it came back.
   */
  async #reconcile(host: ConnectedHost, hello: Hello): Promise<void> {
    await Promise.all(hello.runs.map(async ({ run, kind }) => {
      await this.#runs.get(run)?.ended;
      try {
        if (kind === "replay") await host.call("replay.stop", { run });
        else await concludeLate(host, run, this.store);
      } catch {
        // It is gone again, or ends its part by itself: there is nothing more to do from here.
      }
    }));
  }

  readonly #operator: Operator = {
    "identity.renew": async ({ csr }, { peer }) => ({
      certificate: await this.admissions.renew(peer, csr),
    }),
    "hosts.list": async () => ({ hosts: await this.#hostStates() }),
    "hosts.invite": async ({ role, name, validMs }) => ({
      token: await this.admissions.invite(role, name, validMs),
    }),
    "hosts.drain": async ({ name, drained }) => {
      const stored = { ...this.#known(name), drained };
      this.#stored.set(name, stored);
      await this.store.putHost(stored);
      return {};
    },
    "hosts.remove": async ({ name }) => {
      this.#known(name);
      const busy = [...this.#runs.values()].find(({ stored }) =>
        stored.placement.some(({ host }) => host === name)
      );
      if (busy !== undefined) {
        throw new ClusterrrError(
          `Host ${name} has a part in run ${busy.stored.run} (${busy.stored.name}). ` +
            `Stop it first, or drain the host and wait.`,
        );
      }
      await this.#revoke("agent", name);
      this.#stored.delete(name);
      this.#hosts.delete(name);
      await this.store.removeHost(name);
      this.#observer.removed(name);
      return {};
    },
    "hosts.revoke": async ({ role, name }) => {
      if (role === "agent") this.#known(name);
      else if (!await this.admissions.isKnown(role, name)) {
        throw new ClusterrrError(`There is no operator ${name}.`);
      }
      await this.#revoke(role, name);
      return {};
    },
    status: async () => ({
      version: this.options.version,
      upS: (performance.now() - this.#startedAt) / 1000,
      hosts: await this.#hostStates(),
      runs: [...this.#runs.values()].map((run) => this.#statusOf(run.stored, run)),
    }),
    "runs.place": ({ cluster }) => {
      const { placement, uplinkHost } = this.#place(cluster);
      return {
        placement: placement.map((placed) => ({
          ...placed,
          address: this.#addressOf(placed.host),
        })),
        ...(uplinkHost === undefined ? {} : { uplinkHost }),
      };
    },
    "runs.record": (wanted) => this.#once(wanted.run, () => this.#record(wanted)),
    "runs.replay": (wanted) => this.#once(wanted.run, () => this.#replay(wanted)),
    "runs.status": async ({ run: id }) => {
      const run = this.#runs.get(id);
      const stored = run?.stored ?? await this.store.run(id);
      if (stored === undefined) throw new ClusterrrError(`There is no run ${id}.`);
      const recording = stored.kind === "record" && stored.ended
        ? await this.store.recording(id)
        : undefined;
      return {
        ...this.#statusOf(stored, run),
        ...(recording === undefined ? {} : { recording }),
        ...(stored.kind === "replay" && stored.results ? { results: stored.results } : {}),
      };
    },
    "runs.stop": ({ run }) => {
      this.#runs.get(run)?.stop();
      return {};
    },
    "recordings.page": async ({ behind }) => pageOf(await this.store.recordings(), behind),
    "recordings.locate": async ({ recording: reference }) => {
      const recording = await this.store.findRecording(reference);
      const sources = recording.placement.map((placed) => ({
        ...placed,
        address: this.#hosts.get(placed.host)?.connected ? this.#addressOf(placed.host) : null,
      }));
      return { recording, sources };
    },
    "recordings.remove": async ({ recording: reference }) => {
      const recording = await this.store.findRecording(reference);
      const { id } = recording;
      for (const host of await this.#hostsOf(recording)) {
        await host.call("recordings.remove", { recording: id });
      }
      await this.store.removeRecording(id);
      return {};
    },
    "recordings.forget": async ({ recording: reference }) => {
      const { id } = await this.store.findRecording(reference);
      await this.store.removeRecording(id);
      return {};
    },
  };

  /**
   * The hosts that have parts of a recording; those that are away are waited for. Not those that have been removed:
   * what they have is out of reach.
   * @throws {ClusterrrError} naming those that are lost
   */
  async #hostsOf({ id, name, placement }: RecordingEntry): Promise<ConnectedHost[]> {
    const hosts = placement.filter(({ host }) => this.#stored.has(host))
      .map(({ host }) => this.#host(host));
    const asked = await Promise.allSettled(hosts.map((host) => host.whenConnected()));
    const lost = hosts.filter((_, i) => asked[i]!.status === "rejected").map(({ name }) => name);
    if (lost.length === 0) return hosts;
    throw new ClusterrrError(
      `Nothing was deleted: recording ${name} (${id}) has parts on ${lost.join(", ")}, not ` +
        "connected. Look at clusterrr-agent there and try again. A host that is gone for good: " +
        "`clusterrr hosts remove NAME` first. `rm --keep-files` forgets the recording alone.",
    );
  }

  /** Begins a run, unless it has begun: an operator whose connection was lost asks again. */
  async #once(run: string, begin: () => Promise<void>): Promise<{ run: string }> {
    if (this.#runs.has(run) || this.#beginning.has(run)) return { run };
    this.#beginning.add(run);
    try {
      if (await this.store.run(run) === undefined) await begin();
      return { run };
    } finally {
      this.#beginning.delete(run);
    }
  }

  async #record({ forMs, ...wanted }: Wanted<"runs.record">): Promise<void> {
    const plan: RecordPlan = { ...wanted, ...this.#tunnelFor(wanted.placement) };
    this.#requireReady(plan.placement);
    const stored: StoredRecord = {
      kind: "record",
      run: plan.run,
      name: plan.name,
      cluster: plan.cluster.name,
      startedAt: plan.createdAt,
      phase: "preparing",
      placement: plan.placement,
      ended: false,
      epochMs: plan.epochMs,
      ...(forMs === undefined ? {} : { forMs }),
    };
    await this.store.putRun(stored);
    this.#add(RecordingRun.begin(stored, plan, this.store, this.#hosts, this.#observer));
  }

  async #replay(
    { run, recording: reference, checks, windowEpochs, placement: wanted }: Wanted<"runs.replay">,
  ): Promise<void> {
    const recording = await this.store.findRecording(reference);
    const reachable = (placed: PlacedVms) => ({ ...placed, address: this.#addressOf(placed.host) });
    const placement = this.#placeReplay(recording.placement, wanted);
    this.#requireReady(placement);
    const stored: StoredReplay = {
      kind: "replay",
      run,
      name: recording.name,
      startedAt: new Date().toISOString(),
      phase: "preparing",
      placement,
      ended: false,
      plan: {
        run,
        recording: recording.id,
        placement: placement.map(reachable),
        // A host that had only the uplink has nothing of the recording.
        sources: recording.placement.filter(({ vms }) => vms.length > 0).map(reachable),
        checks,
        ...(windowEpochs === undefined ? {} : { windowEpochs }),
      },
    };
    await this.store.putRun(stored);
    this.#add(new ReplayRun(stored, this.store, this.#hosts, this.#patienceMs));
  }

  #known(name: string): StoredHost {
    const stored = this.#stored.get(name);
    if (stored !== undefined) return stored;
    const names = [...this.#stored.keys()].sort().join(", ");
    throw new ClusterrrError(
      `There is no host ${name}. There ${names ? `are: ${names}` : "is none"}.`,
    );
  }

  /** What is revoked, with all that came while it was read. */
  async #revokedNow(): Promise<string[]> {
    for (;;) {
      const before = this.#revocations;
      const serials = await this.admissions.revoked();
      if (before === this.#revocations) return serials;
    }
  }

  async #revoke(role: Exclude<Role, "coordinator">, name: string): Promise<void> {
    await this.admissions.revoke(role, name);
    this.#revocations++;
    for (const channel of this.#channels) {
      if (channel.peer.role === role && channel.peer.name === name) channel.close();
    }
    const serials = await this.admissions.revoked();
    for (const host of this.#hosts.values()) {
      if (host.connected) host.call("revoked", { serials }).catch(() => {}); // it asks at its next hello
    }
  }

  async #hostStates(): Promise<HostState[]> {
    const revoked = await this.admissions.revokedNames("agent");
    const vms = this.#vmsOnHosts();
    const states = [...this.#stored.values()].map((stored): HostState => {
      const host = this.#hosts.get(stored.name);
      const hello = host?.hello;
      return {
        name: stored.name,
        connected: host?.connected ?? false,
        drained: stored.drained,
        revoked: revoked.has(stored.name),
        addedAt: stored.addedAt,
        lastSeen: host?.lastSeen?.toISOString() ?? null,
        link: stored.link,
        toolVersion: hello?.toolVersion ?? null,
        host: hello?.host ?? null,
        qemu: hello?.qemu ?? null,
        vms: vms.get(stored.name) ?? 0,
      };
    });
    return states.sort((a, b) => a.name < b.name ? -1 : 1);
  }

  /** How many VMs run on each host. */
  #vmsOnHosts(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const { stored } of this.#runs.values()) {
      for (const { host, vms } of stored.placement) {
        counts.set(host, (counts.get(host) ?? 0) + vms.length);
      }
    }
    return counts;
  }

  #statusOf(stored: StoredRun, run: Run | undefined): RunStatus {
    const { failure } = stored;
    return {
      run: stored.run,
      kind: stored.kind,
      name: stored.name,
      phase: stored.phase,
      startedAt: stored.startedAt,
      placement: stored.placement,
      ended: stored.ended,
      ...(failure === undefined ? {} : { failure }),
      hosts: run?.status() ?? [],
    };
  }

  #place(cluster: ClusterSpec): { placement: PlacedVms[]; uplinkHost: string | undefined } {
    const capacities = [...this.#hosts.values()].filter(({ connected }) => connected)
      .map(({ name, hello }) => ({
        name,
        cores: hello!.host.cores,
        memoryMiB: hello!.host.memoryMiB,
        drained: this.#stored.get(name)?.drained ?? false,
      }));
    const places = placeVms(cluster, capacities);
    const uplinkHost = placeUplink(cluster, capacities, places);
    const placement = grouped(places);
    // The uplink may be on a host without VMs.
    if (uplinkHost !== undefined && !placement.some(({ host }) => host === uplinkHost)) {
      placement.push({ host: uplinkHost, vms: [] });
    }
    return { placement, uplinkHost };
  }

  /** Where VMs are replayed: as wanted, else where they were recorded, else wherever there is room. */
  #placeReplay(recorded: readonly PlacedVms[], wanted: readonly PlacedVms[]): PlacedVms[] {
    const places = new Map<VmNumber, string>();
    const connected = [...this.#hosts.values()]
      .filter(({ name, connected }) => connected && !this.#stored.get(name)?.drained)
      .map(({ name }) => name).sort();
    for (const { host, vms } of wanted) {
      this.#known(host);
      for (const vm of vms) places.set(vm, host);
    }
    for (const { host, vms } of recorded) {
      for (const vm of vms) {
        if (places.has(vm)) continue;
        const here = connected.includes(host) ? host : connected[places.size % connected.length];
        if (here === undefined) throw new ClusterrrError("No host is connected to replay on.");
        places.set(vm, here);
      }
    }
    return grouped(places);
  }

  #addressOf(name: string) {
    const link = this.#stored.get(name)?.link;
    if (link) return link;
    throw new ClusterrrError(`Host ${name} is not known: it was removed, or has never connected.`);
  }

  #requireReady(placement: readonly PlacedVms[]): void {
    const away = placement.filter(({ host }) => !this.#hosts.get(host)?.connected);
    if (away.length === 0) return;
    throw new ClusterrrError(
      `Not connected: ${away.map(({ host }) => host).join(", ")}. ` +
        "Look at clusterrr-agent there, or place the VMs elsewhere.",
    );
  }

  /** How the hosts of a recording carry the frames of its VMs to each other. */
  #tunnelFor(placement: readonly PlacedVms[]): Pick<RecordPlan, "tunnel"> {
    if (placement.length < 2) return {};
    const addresses = placement.map(({ host }) => ({ host, address: this.#addressOf(host).host }));
    const wrong = addresses.find(({ address }) => !/^\d{1,3}(\.\d{1,3}){3}$/.test(address));
    if (wrong !== undefined) {
      throw new ClusterrrError(
        `Host ${wrong.host} links as ${wrong.address}: the network between hosts needs an IPv4 ` +
          "address. Start its agent with --link IPV4:PORT.",
      );
    }
    const random = crypto.getRandomValues(new Uint8Array(11));
    random[0]! |= 1; // no cookie is 0
    return {
      tunnel: {
        port: this.options.tunnelPort ?? TUNNEL_PORT,
        vni: 1 + ((random[8]! << 16 | random[9]! << 8 | random[10]!) % 0xfffffe),
        cookie: random.subarray(0, 8).toHex(),
        addresses,
      },
    };
  }
}

function grouped(places: ReadonlyMap<VmNumber, string>): PlacedVms[] {
  const hosts = new Map<string, VmNumber[]>();
  for (const [vm, host] of places) hosts.set(host, [...hosts.get(host) ?? [], vm]);
  return [...hosts].map(([host, vms]) => ({ host, vms: vms.sort((a, b) => a - b) }))
    .sort((a, b) => a.host < b.host ? -1 : 1);
}

function outcomeOf(stored: StoredRun): RunOutcome {
  if (stored.failure === undefined) return "completed";
  const begun = stored.kind === "record" ? stored.runningSince : stored.results;
  return begun === undefined ? "aborted" : "failed";
}
