/**
 * The window of a replay whose VMs are on several hosts: each host asks for its own VMs and hears from the
 * others how far theirs are. What it hears is late; that only holds a VM back for longer (CHECKPOINTS.md,
 * "Over several hosts").
 *
 * ```
 * census of own VMs ──┐                              ┌─▶ enter(vm, epoch)
 * epochs of others ───┴─▶ common epochs, window ─────┤
 * progress of others ───▶                            └─▶ progress of own VMs, for the others
 * ```
 */
import { ReplayWindow } from "../clocks/replay_window.ts";
import type { VmProgress } from "../protocol/link_messages.ts";
import type { VmNumber } from "../units.ts";
import { commonEpochs, epochsOfLog, type VmEpochs } from "./common_window.ts";
import type { LogCensus } from "./log_census.ts";
import type { ReplayWindowPort } from "./replaying_agent.ts";

/** What other hosts are told of a VM before the replay. */
export interface AnnouncedVm extends VmEpochs {
  readonly complete: boolean;
}

/** What other hosts are told of a VM's log. */
export function announcedVm(census: LogCensus): AnnouncedVm {
  return { ...epochsOfLog(census), complete: census.complete };
}

/** The window as one host sees it. */
export class SharedWindow implements ReplayWindowPort {
  readonly #window: ReplayWindow;
  readonly #announced: Map<VmNumber, AnnouncedVm>;
  readonly #own = new Map<VmNumber, VmProgress>();
  readonly #heard = new Map<VmNumber, VmProgress>();
  readonly #vms: number;
  #common: Set<number> | undefined;

  /**
   * @param own this host's VMs
   * @param others the VMs of all other hosts
   * @param changed hears which of the own VMs has news for the others
   */
  constructor(
    own: ReadonlyMap<VmNumber, AnnouncedVm>,
    others: readonly VmNumber[],
    windowEpochs: number,
    private readonly firstEpoch: number,
    private readonly changed: (vm: VmNumber) => void,
  ) {
    this.#window = new ReplayWindow([...own.keys(), ...others], windowEpochs, firstEpoch);
    this.#announced = new Map(own);
    this.#vms = own.size + others.length;
    const start = { serial: 0, epoch: firstEpoch, away: false, ended: false, sent: 0 };
    for (const vm of own.keys()) this.#own.set(vm, start);
    this.#learnCommon();
  }

  /** What is known of a VM's log, once it is. */
  announced(vm: VmNumber): AnnouncedVm | undefined {
    return this.#announced.get(vm);
  }

  /** A host has said what is in the log of a VM; once for all. */
  learn(vm: VmNumber, announced: AnnouncedVm): void {
    if (this.#announced.has(vm)) return;
    this.#announced.set(vm, announced);
    this.#learnCommon();
  }

  #learnCommon(): void {
    if (this.#announced.size === this.#vms) this.#common = commonEpochs(this.#announced);
  }

  /** As long as the epochs of some VM are not known, nobody enters one. */
  enter(vm: VmNumber, epoch: number): boolean {
    if (this.#common === undefined) return false;
    if (!this.#common.has(epoch)) return true;
    const may = this.#window.enter(vm, epoch);
    this.#note(vm, { epoch: this.#window.epochOf(vm) });
    return may;
  }

  leave(vm: VmNumber): void {
    this.#window.leave(vm);
    this.#note(vm, { away: true });
  }

  rejoin(vm: VmNumber): void {
    this.#window.rejoin(vm);
    this.#note(vm, { away: false });
  }

  /** A VM of this host has ended. */
  end(vm: VmNumber, sent: number): void {
    this.#window.leave(vm);
    this.#note(vm, { away: true, ended: true, sent });
  }

  #note(vm: VmNumber, news: Partial<VmProgress>): void {
    const before = this.#own.get(vm)!;
    const after = { ...before, ...news };
    if (
      after.epoch === before.epoch && after.away === before.away && after.ended === before.ended
    ) return;
    this.#own.set(vm, { ...after, serial: before.serial + 1 });
    this.changed(vm);
  }

  /** What the others are told of a VM of this host. */
  progress(vm: VmNumber): VmProgress {
    return this.#own.get(vm)!;
  }

  /** What was heard last of a VM of another host. */
  heard(vm: VmNumber): VmProgress | undefined {
    return this.#heard.get(vm);
  }

  /** Of each VM that has not ended, the epoch it is in, as far as is known here. */
  get epochs(): ReadonlyMap<VmNumber, number> {
    return this.#window.epochs;
  }

  /** The epoch of the VM that is farthest back, as far as is known here. */
  get slowest(): number {
    return this.#window.slowest;
  }

  /** A VM of another host has come so far; what is older than what was heard before is ignored. */
  observe(vm: VmNumber, progress: VmProgress): void {
    if (progress.serial <= (this.#heard.get(vm)?.serial ?? -1)) return;
    this.#heard.set(vm, progress);
    this.#window.place(vm, progress.epoch, progress.away);
  }

  /** A VM of another host is replayed anew, from the start. */
  restart(vm: VmNumber): void {
    this.#heard.delete(vm);
    this.#window.place(vm, this.firstEpoch, false);
  }
}
