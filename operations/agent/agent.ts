/**
 * `clusterrr agent`: records and replays VMs on this host as the coordinator says.
 *
 * ```
 * coordinator ◀──hello, heartbeats── control ──▶ recordings, replays
 * agents, operators ──▶ link listener ──▶ files; frames of replays
 * ```
 * What goes on here outlives the connection to the coordinator. A coordinator that is away for too long is
 * lost: recordings are then ended from here, and kept.
 */
import { inspectQemu } from "../../hypervisor/qemu/capabilities.ts";
import { connectTls } from "../../host/tls/connector.ts";
import { listenTls, type TlsListener } from "../../host/tls/listener.ts";
import { ClusterrrError, messageOf } from "../../lib/errors.ts";
import { type Identity, loadIdentity } from "../../lib/identity/files.ts";
import { IdentityKeeper, renewIdentity } from "../../lib/identity/renewal.ts";
import type { CaCertificate } from "../../lib/identity/certificates.ts";
import { type Channel, serverNameOf } from "../../lib/protocol/channel.ts";
import {
  type Address,
  AGENT_METHODS,
  type AGENT_REPORTS,
  CONTROL_VERSION,
  linkOpening,
  openLink,
} from "../../lib/protocol/control.ts";
import { newRunId } from "../../lib/protocol/run_id.ts";
import { JSON_KIND } from "../../lib/protocol/framing.ts";
import type { Handlers, Rpc } from "../../lib/protocol/rpc.ts";
import { logOf } from "../../lib/telemetry/log.ts";
import { clean } from "../clean.ts";
import { describeHost } from "../host.ts";
import { openFiles } from "../remote_files.ts";
import { AgentRecording } from "./agent_recording.ts";
import { AgentReplay } from "./agent_replay.ts";
import { AgentState } from "./agent_state.ts";
import { type HelloParams, keepCoordinatorLink } from "./coordinator_link.ts";
import { serveFiles } from "./file_service.ts";

export interface AgentOptions {
  /** `host:port`. */
  readonly coordinator: string;
  /** Its state directory. */
  readonly state: string;
  /** Where its link listener is, for itself and for others: an IPv4 address. Port 0 takes a free one. */
  readonly link: Address;
  /** A coordinator that is away for so long is lost. */
  readonly lostAfterMs: number;
  readonly version: string;
}

/** Runs that have ended and whose outcome may still be asked for. */
const ENDED_MAX = 100;
/** A peer that has connected says what it wants within this time. */
const OPENING_MS = 5_000;

/** An agent at work. */
export class Agent {
  readonly #recordings = new Map<string, AgentRecording>();
  readonly #replays = new Map<string, AgentReplay>();
  readonly #stop = new AbortController();
  readonly #instance = newRunId();
  readonly #log = logOf("agent");
  #listener: TlsListener | undefined;
  readonly #revoked = new Set<string>();
  /** The coordinator has told what is revoked; until then, no peer is let in. */
  readonly #revokedKnown = Promise.withResolvers<void>();
  #addresses = new Map<string, Address>();
  #qemu: HelloParams["qemu"] = null;
  #loop: Promise<void> = Promise.resolve();

  /** The connection to the coordinator, while there is one. */
  #coordinator: Rpc<typeof AGENT_REPORTS> | undefined;
  readonly #identity: IdentityKeeper;

  private constructor(
    private readonly options: AgentOptions,
    identity: Identity,
    private readonly ca: CaCertificate,
    readonly state: AgentState,
  ) {
    this.#identity = new IdentityKeeper(identity, ca, {
      renew: async () => {
        const rpc = this.#coordinator;
        return rpc && await renewIdentity(state.identity, (csr) => rpc.call("identity.renew", csr));
      },
      onRenewed: (identity) => {
        this.#listener?.useIdentity(identity);
        this.#coordinator?.close(); // it would be cut off when the old certificate expires: it is made anew
      },
      log: this.#log,
    });
  }

  /** @throws {ClusterrrError} where it has no identity yet, or cannot listen */
  static async start(options: AgentOptions): Promise<Agent> {
    const state = new AgentState(options.state);
    const { identity, ca } = await loadIdentity(state.identity);
    const agent = new Agent(options, identity, ca, state);
    await agent.#clean();
    agent.#qemu = await inspectQemu("qemu-system-x86_64").catch(() => null);
    agent.#listener = await listenTls({
      ...options.link,
      identity,
      ca,
      isRevoked: (serial) => agent.#isRevoked(serial),
      onChannel: (channel) => void agent.#acceptLink(channel),
      onRefused: ({ remote, reason }) =>
        agent.#log.warning("refused {remote}: {reason}", { remote, reason }),
    });
    agent.#loop = agent.#keepLink();
    return agent;
  }

  /** What cannot be removed is in nobody's way: runs have names of their own. */
  async #clean(): Promise<void> {
    try {
      for (const line of await clean()) this.#log.info("removed what a run left: {line}", { line });
    } catch (error) {
      this.#log.warning("not all that runs left is gone: {reason}", { reason: messageOf(error) });
    }
  }

  get name(): string {
    return this.#identity.current.peer.name;
  }

  get link(): Address {
    return { host: this.options.link.host, port: this.#listener!.port };
  }

  get connected(): boolean {
    return this.#coordinator !== undefined;
  }

  get recordings(): ReadonlyMap<string, AgentRecording> {
    return this.#recordings;
  }

  get replays(): ReadonlyMap<string, AgentReplay> {
    return this.#replays;
  }

  /** Ends everything in order: recordings are kept. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    const why = `The agent on host ${this.name} was stopped.`;
    await Promise.allSettled([...this.#recordings.values()].map((each) => each.endAlone(why)));
    await Promise.allSettled([...this.#replays.values()].map((each) => each.suspend()));
    await this.#listener?.close();
  }

  async #keepLink(): Promise<void> {
    const serverName = serverNameOf({ role: "coordinator", name: "coordinator" });
    this.#identity.start();
    await keepCoordinatorLink({
      connect: (signal) =>
        connectTls({
          address: this.options.coordinator,
          identity: this.#identity.current,
          ca: this.ca,
          serverName,
          signal,
        }),
      handlers: this.#handlers,
      hello: () => this.#hello(),
      onHello: ({ revoked }, rpc) => {
        this.#revoke(revoked);
        this.#coordinator = rpc;
        void this.#identity.check();
      },
      lostAfterMs: this.options.lostAfterMs,
      onLost: () => void this.#endRecordings(),
      onState: ({ connected, reason }) => {
        if (connected) this.#log.info("connected to the coordinator");
        else if (this.connected) this.#log.warning("lost the coordinator: {reason}", { reason });
        else this.#log.debug("no coordinator: {reason}", { reason });
        if (!connected) this.#coordinator = undefined;
      },
    }, this.#stop.signal).finally(() => this.#identity.close());
  }

  async #endRecordings(): Promise<void> {
    const seconds = this.options.lostAfterMs / 1000;
    const why = `Host ${this.name} has not heard of the coordinator for ${seconds} s.`;
    for (const recording of this.#recordings.values()) {
      if (recording.phase === "concluded") continue;
      this.#log.warning("ending a recording: the coordinator is lost", { run: recording.plan.run });
      try {
        await recording.endAlone(why);
      } catch (error) {
        const { run } = recording.plan;
        this.#log.warning("a recording did not end well: {reason}", {
          run,
          reason: messageOf(error),
        });
      }
    }
  }

  #hello(): HelloParams {
    const { kernel, cpu, cores } = describeHost();
    const left = this.state.replays().filter((run) => !this.#replays.has(run));
    return {
      protocol: CONTROL_VERSION,
      toolVersion: this.options.version,
      instance: this.#instance,
      link: this.link,
      host: { kernel, cpu, cores, memoryMiB: Math.floor(Deno.systemMemoryInfo().total / 2 ** 20) },
      qemu: this.#qemu,
      runs: [
        ...[...this.#recordings].map(([run, { phase }]) => ({
          run,
          kind: "record" as const,
          phase,
        })),
        ...[...this.#replays].map(([run, { phase }]) => ({ run, kind: "replay" as const, phase })),
        ...left.map((run) => ({ run, kind: "replay" as const, phase: "left" })),
      ],
    };
  }

  /** What has been revoked stays so: of two lists that cross, the older one may come last. */
  #revoke(serials: readonly string[]): void {
    for (const serial of serials) {
      this.#revoked.add(serial);
      this.#listener?.cutOff(serial);
    }
    this.#revokedKnown.resolve();
  }

  async #isRevoked(serial: string): Promise<boolean> {
    await this.#revokedKnown.promise;
    return this.#revoked.has(serial);
  }

  #recording(run: string): AgentRecording {
    const recording = this.#recordings.get(run);
    if (recording !== undefined) return recording;
    throw new ClusterrrError(`Host ${this.name} has no recording ${run} under way.`);
  }

  #replay(run: string): AgentReplay {
    const replay = this.#replays.get(run);
    if (replay !== undefined) return replay;
    throw new ClusterrrError(`Host ${this.name} has no replay ${run} under way.`);
  }

  readonly #handlers: Handlers<typeof AGENT_METHODS> = {
    "record.prepare": async (plan) => {
      let recording = this.#recordings.get(plan.run);
      if (recording === undefined) {
        this.#log.info("preparing a recording", { run: plan.run, name: plan.name });
        recording = new AgentRecording(plan, this.name, this.state);
        this.#recordings.set(plan.run, recording);
        forgetOldest(this.#recordings, ({ phase }) => phase === "concluded");
      }
      await recording.prepare();
      return {};
    },
    "record.arm": async ({ run }) => (await this.#recording(run).arm(), {}),
    "record.run": async ({ run }) => (await this.#recording(run).run(), {}),
    "record.tick": ({ run, epoch }) => this.#recording(run).tick(epoch),
    "record.status": ({ run }) => this.#recording(run).status(),
    "record.quiesce": async ({ run }) => (await this.#recording(run).quiesce(), {}),
    "record.seal": async ({ run }) => (await this.#recording(run).seal(), {}),
    "record.abort": async ({ run }) => (await this.#recording(run).abort(), {}),
    "record.conclude": async ({ run, end: { by, message }, recordS }) => {
      const error = new ClusterrrError(message ?? "The recording failed.");
      const end = by === "failure" ? { by, error } : { by };
      const part = await this.#recording(run).conclude(end, recordS);
      this.#log.info("a recording has ended: {by}", { run, by, message });
      return part;
    },
    "replay.prepare": async (plan) => {
      for (const { host, address } of [...plan.placement, ...plan.sources]) {
        this.#addresses.set(host, address);
      }
      let replay = this.#replays.get(plan.run);
      if (replay === undefined) {
        this.#log.info("preparing a replay", { run: plan.run, recording: plan.recording });
        replay = new AgentReplay(plan, this.name, this.state, {
          openFiles: async (host) => await openFiles(await this.#connect(host)),
          openLink: (host, run) => this.#openLink(host, run),
        });
        this.#replays.set(plan.run, replay);
      }
      await replay.prepare();
      return {};
    },
    "replay.start": async ({ run }) => (await this.#replay(run).start(), {}),
    "replay.status": ({ run }) => this.#replay(run).status(),
    "replay.stop": async ({ run }) => {
      const replay = this.#replays.get(run);
      if (replay === undefined) await this.state.removeReplay(run);
      else {
        await replay.stop();
        this.#replays.delete(run);
        this.#log.info("a replay is over", { run });
      }
      return {};
    },
    "recordings.remove": async ({ recording }) => {
      if ((this.#recordings.get(recording)?.phase ?? "concluded") !== "concluded") {
        throw new ClusterrrError(`Recording ${recording} is still going on; stop it first.`);
      }
      await this.state.removeRecording(recording);
      return {};
    },
    "revoked": ({ serials }) => {
      this.#revoke(serials);
      return {};
    },
  };

  async #connect(host: string): Promise<Channel> {
    const address = this.#addresses.get(host);
    if (address === undefined) throw new ClusterrrError(`Where host ${host} is, is not known.`);
    return await connectTls({
      address: `${address.host}:${address.port}`,
      identity: this.#identity.current,
      ca: this.ca,
      serverName: serverNameOf({ role: "agent", name: host }),
      signal: this.#stop.signal,
      isRevoked: (serial) => this.#isRevoked(serial),
    });
  }

  async #openLink(host: string, run: string): Promise<Channel> {
    const channel = await this.#connect(host);
    await openLink(channel, { open: "replay", run });
    return channel;
  }

  /** A peer has connected: it says what it wants first. */
  async #acceptLink(channel: Channel): Promise<void> {
    const late = setTimeout(() => channel.close(), OPENING_MS);
    try {
      const first = await channel.receive();
      if (first === undefined) return;
      if (first.kind !== JSON_KIND) throw new ClusterrrError("it does not say what it wants");
      const opening = linkOpening.parse(JSON.parse(new TextDecoder().decode(first.body)));
      if (opening.open === "files") serveFiles(channel, this.state);
      else {
        const replay = channel.peer.role === "agent" ? this.#replays.get(opening.run) : undefined;
        if (replay === undefined) channel.close(); // not prepared yet, or over: the peer tries again
        else replay.accept(channel);
      }
    } catch (error) {
      const { name } = channel.peer;
      this.#log.warning("closed a link of {name}: {reason}", { name, reason: messageOf(error) });
      channel.close();
    } finally {
      clearTimeout(late);
    }
  }
}

/** Keeps a map from growing: of what has ended, the oldest go. */
function forgetOldest<T>(map: Map<string, T>, ended: (value: T) => boolean): void {
  const old = [...map].filter(([, value]) => ended(value));
  for (const [key] of old.slice(0, Math.max(0, old.length - ENDED_MAX))) map.delete(key);
}
