/**
 * An agent's part of one replay, as the coordinator calls for it.
 *
 * ```
 * preparing ──▶ prepared ──start──▶ running ──▶ ended
 *     └────────────┴──────stop───────┴───────────┴──▶ gone, with all its files
 * ```
 * The frames that came from other hosts are in spools below its directory: an agent that was killed, and is asked
 * to prepare the same run again, replays its VMs anew from these.
 */
import { type LinkCounters, ReplayLinks } from "../../net/retransmit/replay_links.ts";
import type { ProgressState } from "../../lib/cli/ports.ts";
import { ClusterrrError, type Divergence, messageOf, PeerFailedError } from "../../lib/errors.ts";
import type { Channel } from "../../lib/protocol/channel.ts";
import type { ReplayPlan, ReplayResult, ReplayStatus } from "../../lib/protocol/control.ts";
import { type OpenRecording, openRecording } from "../open_recording.ts";
import { checksToWire } from "../remote_replay.ts";
import { checksOf, replayOnce, type ReplayOutcome } from "../replay_outcome.ts";
import { WINDOW_EPOCHS } from "../replay_world.ts";
import type { AgentState } from "./agent_state.ts";
import { Once } from "./once.ts";
import { assembleRecording, type OpenFiles } from "./replay_recording.ts";

/** How an agent reaches others. */
export interface Peers {
  readonly openFiles: OpenFiles;
  /** Opens a channel for the frames of replay `run`. */
  openLink(host: string, run: string): Promise<Channel>;
}

/** One replay on this host. */
export class AgentReplay {
  readonly #once = new Once();
  readonly #stop = new AbortController();
  #phase: ReplayStatus["phase"] = "preparing";
  #shown: ProgressState = { phase: "preparing", vms: [] };
  #recording: OpenRecording | undefined;
  #links: ReplayLinks | undefined;
  #failure: string | undefined;
  #failedElsewhere = false;
  /** Resolves when the VMs have ended; never rejects. */
  #replaying: Promise<void> | undefined;
  #result: ReplayResult | undefined;

  constructor(
    readonly plan: ReplayPlan,
    private readonly host: string,
    private readonly state: AgentState,
    private readonly peers: Peers,
  ) {}

  get phase(): ReplayStatus["phase"] {
    return this.#phase;
  }

  readonly #progress = {
    show: (state: ProgressState) => void (this.#shown = state),
    note: () => {},
    clear: () => {},
  };

  /** Gets what it needs of the recording, and reads it. */
  prepare(): Promise<void> {
    return this.#once.take("prepare", async () => {
      const { plan, host, state } = this;
      const say = (phase: string) => this.#progress.show({ phase, vms: [] });
      const { signal } = this.#stop;
      const { openFiles } = this.peers;
      const directory = await assembleRecording(plan, host, state, openFiles, say, signal);
      this.#recording = await openRecording(directory, this.#progress, signal, {
        store: state.images,
        part: true,
      });
      const spoolDirectory = `${state.replay(plan.run)}/spool`;
      await Deno.mkdir(spoolDirectory, { recursive: true });
      this.#links = new ReplayLinks({
        runId: plan.run,
        name: host,
        peers: plan.placement.filter((each) => each.host !== host)
          .map(({ host, vms }) => ({ name: host, vms })),
        censuses: this.#recording.censuses,
        spoolDirectory,
        windowEpochs: plan.windowEpochs ?? WINDOW_EPOCHS,
        connect: (peer) => this.peers.openLink(peer, plan.run),
      });
      this.#phase = "prepared";
    });
  }

  /** Lets the VMs run; the result is in the status when it is there. */
  start(): Promise<void> {
    // deno-lint-ignore require-await -- a step is asynchronous
    return this.#once.take("start", async () => {
      if (this.#links === undefined) throw new ClusterrrError("The replay is not prepared.");
      this.#phase = "running";
      this.#links.start();
      this.#replaying = this.#replay();
    });
  }

  async #replay(): Promise<void> {
    const recording = this.#recording!;
    const links = this.#links!;
    try {
      const { checks } = this.plan;
      const options = { progress: this.#progress, signal: this.#stop.signal, links };
      const outcome = await replayOnce(recording, options, checks);
      this.#result = resultOf(recording, outcome, countersOf(links), checks);
      if (outcome.divergence !== undefined) await links.fail(describe(outcome.divergence));
      else links.done();
    } catch (error) {
      this.#failure = messageOf(error);
      this.#failedElsewhere = error instanceof PeerFailedError;
      await links.fail(this.#failure);
    } finally {
      this.#phase = "ended";
    }
  }

  /** A channel that another host has opened. */
  accept(channel: Channel): void {
    if (this.#links === undefined) channel.close(); // it tries again
    else this.#links.accept(channel);
  }

  /** The counters of its links. */
  links(): LinkCounters[] {
    return this.#links?.counters() ?? [];
  }

  /** The epochs of all VMs that have not ended, by name: for metrics. */
  epochs(): Map<string, number> {
    const names = new Map(this.#recording?.spec.vms.map(({ number, name }) => [number, name]));
    return new Map(
      [...this.#links?.epochs ?? []].map(([vm, epoch]) => [names.get(vm) ?? String(vm), epoch]),
    );
  }

  status(): ReplayStatus {
    return {
      phase: this.#phase,
      doing: this.#shown.phase,
      vms: this.#shown.vms.map(({ name, fraction = 0, frames = 0 }) => ({
        name,
        percent: 100 * fraction,
        framesMatched: frames,
      })),
      links: this.#links === undefined ? [] : countersOf(this.#links),
      ...(this.#failure === undefined ? {} : { failure: this.#failure }),
      failedElsewhere: this.#failedElsewhere,
      ...(this.#result === undefined ? {} : { result: this.#result }),
    };
  }

  /** Ends it, but for what another agent on this host needs to go on with it. */
  suspend(): Promise<void> {
    return this.#once.take("suspend", async () => {
      this.#stop.abort(new ClusterrrError("The replay was stopped."));
      await this.prepare().catch(() => {});
      await this.#replaying;
      this.#links?.close();
      this.#phase = "ended";
    });
  }

  /** Ends it and removes all that it has. */
  async stop(): Promise<void> {
    await this.suspend();
    await this.state.removeReplay(this.plan.run);
  }
}

/** A divergence as other hosts hear of it. */
function describe({ vm, what, instructionCount }: Divergence): string {
  return `VM ${vm} diverged at instruction ${instructionCount}: ${what}`;
}

function countersOf(links: ReplayLinks): ReplayStatus["links"] {
  return links.counters().map((link: LinkCounters) => ({
    peer: link.peer,
    frames: link.framesSent,
    bytes: link.bytesSent,
    retransmissions: link.retransmissions,
    reconnects: link.reconnects,
    unacknowledgedBytes: link.unacknowledgedBytes,
    ...(link.roundTripMs > 0 ? { roundTripMs: link.roundTripMs } : {}),
  }));
}

function resultOf(
  recording: OpenRecording,
  outcome: ReplayOutcome,
  links: ReplayStatus["links"],
  withChecks: boolean,
): ReplayResult {
  const { divergence, results } = outcome;
  return {
    vms: recording.manifest.vms.map(({ name, number }) => {
      const vm = results.find((each) => each.number === number);
      const census = recording.censuses.get(number)!;
      return {
        number,
        name,
        framesRecorded: census.sendTimes.length,
        framesMatched: vm?.framesMatched ?? 0,
        instructions: census.icount,
        consoleEqual: outcome.consoleEqual.get(name) ?? false,
        replayS: vm?.replayS ?? outcome.replayS,
        endedBy: vm === undefined
          ? "stopped"
          : vm.cutOff ?? (vm.end === undefined ? "stopped" : "end of log"),
        checks: withChecks ? checksToWire(checksOf(census, outcome.checks.get(name))) : [],
      };
    }),
    replayS: outcome.replayS,
    recordS: recording.manifest.timing.recordS,
    queueBytesMax: outcome.queueBytesMax,
    ...(recording.incomplete === undefined ? {} : { incomplete: recording.incomplete }),
    ...(divergence === undefined ? {} : {
      divergence: { ...divergence, instructionCount: String(divergence.instructionCount) },
    }),
    links,
  };
}
