/**
 * Which VM of a replay may go on: none runs more than a number of epochs ahead of the slowest, so that
 * the retransmission queue holds no more than the frames of those epochs and what was in flight before.
 *
 * ```
 * VM's feed ──at its cut of E──▶ enter(vm, E) ──true──▶ goes on, is in E
 *                                     └──false──▶ holds, counts as in E - 1, asks again
 * ```
 *
 * It cannot deadlock (CHECKPOINTS.md) as long as it is asked only about epochs that have a cut in the log
 * of every VM; a VM whose log has ended may leave the later ones out.
 */
import type { VmNumber } from "../units.ts";

/** The window over the VMs of one replay. */
export class ReplayWindow {
  /** Of each VM that others wait for: the epoch it is in, or at the end of which it holds. */
  readonly #epochs: Map<VmNumber, number>;
  /** Of those that left. */
  readonly #away = new Map<VmNumber, number>();

  /**
   * @param windowEpochs from 1; `Infinity` sets no bound
   * @param firstEpoch in which every VM begins
   */
  constructor(
    vms: readonly VmNumber[],
    private readonly windowEpochs: number,
    firstEpoch = 0,
  ) {
    if (!(windowEpochs >= 1)) {
      throw new Error(`a window of ${windowEpochs} epochs: it takes at least 1`);
    }
    this.#epochs = new Map(vms.map((vm) => [vm, firstEpoch]));
  }

  /** The epoch of the VM that is farthest back; `Infinity` when all have left. */
  get slowest(): number {
    return Math.min(...this.#epochs.values());
  }

  /**
   * Whether `vm`, which has come to its cut of `epoch`, may run past it. If not, it asks again whenever
   * another VM has asked or left: a VM that holds at a cut has done with all epochs before it, which
   * may let others go on, and `false` for one epoch can be followed by `true` for the same one only.
   */
  enter(vm: VmNumber, epoch: number): boolean {
    const current = this.#epochs.get(vm);
    if (current === undefined) throw new Error(`VM ${vm} is not in the window`);
    if (epoch <= current) return true;
    this.#epochs.set(vm, epoch - 1);
    if (epoch - this.slowest > this.windowEpochs) return false;
    this.#epochs.set(vm, epoch);
    return true;
  }

  /** Of each VM that others wait for, the epoch it is in. */
  get epochs(): ReadonlyMap<VmNumber, number> {
    return this.#epochs;
  }

  /** The epoch that `vm` is in, or was in when it left. */
  epochOf(vm: VmNumber): number {
    const epoch = this.#epochs.get(vm) ?? this.#away.get(vm);
    if (epoch === undefined) throw new Error(`VM ${vm} is not in the window`);
    return epoch;
  }

  /** Says where a VM is that asks elsewhere. */
  place(vm: VmNumber, epoch: number, away: boolean): void {
    this.epochOf(vm);
    (away ? this.#epochs : this.#away).delete(vm);
    (away ? this.#away : this.#epochs).set(vm, epoch);
  }

  /** `vm` has ended, or stands where it was to stop: nobody waits for it. */
  leave(vm: VmNumber): void {
    const epoch = this.#epochs.get(vm);
    if (epoch === undefined) return;
    this.#away.set(vm, epoch);
    this.#epochs.delete(vm);
  }

  /** `vm` goes on where it left. */
  rejoin(vm: VmNumber): void {
    const epoch = this.#away.get(vm);
    if (epoch === undefined) return;
    this.#epochs.set(vm, epoch);
    this.#away.delete(vm);
  }
}
