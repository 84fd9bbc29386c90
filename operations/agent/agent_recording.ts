/**
 * An agent's part of one recording, as the coordinator calls for it.
 *
 * ```
 * preparing ──▶ prepared ──arm──▶ armed ──run──▶ running ──quiesce──▶ quiet ──seal──▶ sealed ──▶ concluded
 *                 └────────────────┴──────────── the coordinator is lost, or aborts ────────────▶ concluded
 * ```
 * Before the VMs run there is nothing to keep: what ends the recording then removes it.
 */
import { inspectQemu } from "../../hypervisor/qemu/capabilities.ts";
import type { TunnelPlan } from "../../net/tunnel.ts";
import { makeUplinkMac } from "../../lib/cluster/mac_address.ts";
import { ClusterrrError, messageOf } from "../../lib/errors.ts";
import type { RecordedPart, RecordPlan, RecordStatus } from "../../lib/protocol/control.ts";
import type { RecordingEnd } from "../../lib/roles/recording_coordinator.ts";
import type { VmNumber } from "../../lib/units.ts";
import { type Log, logOf } from "../../lib/telemetry/log.ts";
import type { RecordingValues } from "../../lib/telemetry/role_values.ts";
import { HostRecording } from "../host_recording.ts";
import { locateImages, withLocalImages } from "../images.ts";
import type { AgentState } from "./agent_state.ts";
import { Once } from "./once.ts";
import { logTunnelLosses } from "./tunnel_losses.ts";

/** One recording on this host. */
export class AgentRecording {
  readonly #once = new Once();
  readonly #log: Log;
  readonly #stop = new AbortController();
  #recording: HostRecording | undefined;
  #phase: RecordStatus["phase"] = "preparing";
  #doing = "preparing";
  #epoch = 0;
  #finished = false;
  #failure: string | undefined;
  #crash: string | undefined;
  #runningSince = 0;
  /** What was seen last of the VMs, also once they are gone. */
  #vms: RecordStatus["vms"] = [];

  constructor(
    readonly plan: RecordPlan,
    private readonly host: string,
    private readonly state: AgentState,
  ) {
    this.#log = logOf("agent", { run: plan.run, host });
  }

  get phase(): RecordStatus["phase"] {
    return this.#phase;
  }

  #vmNumbers(): readonly VmNumber[] {
    return this.plan.placement.find(({ host }) => host === this.host)?.vms ?? [];
  }

  /** Makes everything; the VMs stand paused. */
  prepare(): Promise<void> {
    return this.#once.take("prepare", async () => {
      const { plan } = this;
      const vms = this.#vmNumbers();
      const qemu = await inspectQemu(plan.cluster.qemu.program);
      const images = new Map(plan.images.map(({ vm, images }) => [vm, images]));
      const own = plan.cluster.vms.filter(({ number }) => vms.includes(number));
      const directory = this.state.recording(plan.run);
      const located = await locateImages(
        own.map(({ number, name }) => ({ name, images: images.get(number) ?? [] })),
        directory,
        this.state.images,
      );
      this.#recording = await HostRecording.prepare(
        {
          id: plan.run,
          name: plan.name,
          createdAt: plan.createdAt,
          directory,
          start: { spec: plan.cluster, text: plan.text },
          vms,
          hosts: plan.placement.map(({ host, vms }) => ({ name: host, vms })),
          localSpec: withLocalImages({ ...plan.cluster, vms: own }, located),
          images,
          qemu,
          uplink: plan.uplinkHost === this.host,
          ...this.#tunnel(),
          digestEveryMs: plan.digestEveryMs,
          epochMs: plan.epochMs,
        },
        (doing) => this.#doing = doing,
        this.#stop.signal,
      );
      for (const note of this.#recording.notes) this.#log.warning("{note}", { note });
      this.#enter("prepared");
      for (const { name, number } of own) {
        this.#log.with({ vm: name }).info("VM {vm} is created, paused", { number });
      }
    });
  }

  #tunnel(): { tunnel?: TunnelPlan } {
    const { tunnel, placement, cluster, uplinkHost } = this.plan;
    if (tunnel === undefined) return {};
    const addressOf = new Map(tunnel.addresses.map(({ host, address }) => [host, address]));
    const macOf = new Map(cluster.vms.map(({ number, mac }) => [number, mac]));
    return {
      tunnel: {
        local: addressOf.get(this.host)!,
        port: tunnel.port,
        vni: tunnel.vni,
        cookie: BigInt(`0x${tunnel.cookie}`),
        remotes: tunnel.addresses.filter(({ host }) => host !== this.host).map((
          { host, address },
        ) => ({
          address,
          vms: (placement.find((each) => each.host === host)?.vms ?? [])
            .map((number) => ({ number, mac: macOf.get(number)! })),
          ...(host === uplinkHost ? { uplinkMac: makeUplinkMac(cluster) } : {}),
        })),
      },
    };
  }

  #enter(phase: RecordStatus["phase"]): void {
    this.#phase = phase;
    this.#doing = phase;
  }

  #prepared(): HostRecording {
    // It has ended by itself while the coordinator was away: there is nothing that could take another step.
    if (this.#once.has("conclude")) {
      throw new ClusterrrError(`Host ${this.host} has ended its part of ${this.plan.run} already.`);
    }
    if (this.#recording === undefined) {
      throw new ClusterrrError(`The recording ${this.plan.run} is not prepared on ${this.host}.`);
    }
    return this.#recording;
  }

  arm(): Promise<void> {
    // deno-lint-ignore require-await -- a step is asynchronous
    return this.#once.take("arm", async () => {
      const recording = this.#prepared();
      recording.arm();
      recording.finished.then(
        () => this.#finished = true,
        (error) => this.#failure = messageOf(error),
      );
      recording.crashed().then((error) => {
        this.#crash = error.message;
        this.#log.error("{reason}", { reason: error.message });
      });
      this.#enter("armed");
    });
  }

  run(): Promise<void> {
    return this.#once.take("run", async () => {
      await this.#prepared().run();
      this.#runningSince = performance.now();
      this.#enter("running");
    });
  }

  /** Begins an epoch; one that is not above the last changes nothing. */
  tick(epoch: number): RecordStatus {
    if (this.#phase === "running" && epoch > this.#epoch) {
      this.#prepared().tick(epoch);
      this.#epoch = epoch;
    }
    return this.status();
  }

  quiesce(): Promise<void> {
    return this.#once.take("quiesce", async () => {
      await this.#prepared().quiesce();
      this.#enter("quiet");
    });
  }

  seal(): Promise<void> {
    return this.#once.take("seal", async () => {
      this.#doing = "sealing";
      await this.#prepared().seal();
      this.#enter("sealed");
    });
  }

  /** Ends the VMs at once. */
  abort(): Promise<void> {
    return this.#once.take("abort", async () => {
      this.#stop.abort();
      await this.prepare().catch(() => {});
      if (this.#once.has("arm")) await this.#recording?.abort();
    });
  }

  /** Closes the logs, writes the manifest, takes everything else away. */
  conclude(end: RecordingEnd, recordS: number): Promise<RecordedPart> {
    return this.#once.take("conclude", async () => {
      this.#doing = "closing the logs";
      await this.prepare().catch(() => {});
      const recording = this.#recording;
      const begun = this.#once.has("run");
      let manifest;
      try {
        manifest = begun ? recording?.conclude(end, recordS) : undefined;
        this.#vms = this.#seen();
        const tunnel = this.values()?.recorder.tunnel;
        if (tunnel !== undefined) logTunnelLosses(this.#log, tunnel, this.plan.tunnel!.port);
      } finally {
        // Whatever cannot be written: VMs, network and processes go.
        await recording?.close().catch((error) =>
          this.#log.error("not all of the recording could be taken away: {reason}", {
            reason: messageOf(error),
          })
        );
        this.#recording = undefined; // its buffers are large; what it came to may be asked for long after
        this.#enter("concluded");
        for (const { name, framesSent, icount, ended } of this.#vms) {
          this.#log.with({ vm: name }).info("VM {vm} is recorded", { framesSent, icount, ended });
        }
      }
      return {
        vms: manifest?.vms ?? [],
        ...(manifest?.recorder === undefined ? {} : { recorder: manifest.recorder }),
        complete: manifest?.complete ?? false,
      };
    });
  }

  /** Ends the recording without a coordinator: as well as it can be ended from here. */
  async endAlone(why: string): Promise<void> {
    if (this.#phase === "concluded") return;
    try {
      if (!this.#once.has("run")) await this.abort();
      else {
        await this.quiesce();
        await this.seal();
      }
    } catch {
      await this.abort().catch(() => {}); // its part is concluded all the same
    }
    const recordS = this.#runningSince === 0 ? 0 : (performance.now() - this.#runningSince) / 1000;
    await this.conclude({ by: "failure", error: new ClusterrrError(why) }, recordS);
  }

  #seen(): RecordStatus["vms"] {
    if (this.#recording === undefined || !this.#once.has("arm")) return this.#vms;
    return this.#phase === "concluded" ? this.#vms : this.#recording.progress();
  }

  /** For metrics, while the VMs are there. */
  values(): RecordingValues | undefined {
    if (!this.#once.has("arm") || this.#phase === "concluded") return undefined;
    return this.#recording?.values();
  }

  status(): RecordStatus {
    return {
      phase: this.#phase,
      doing: this.#doing,
      epoch: this.#epoch,
      finished: this.#finished,
      ...(this.#failure === undefined ? {} : { failure: this.#failure }),
      ...(this.#crash === undefined ? {} : { crash: this.#crash }),
      vms: this.#seen(),
    };
  }
}
