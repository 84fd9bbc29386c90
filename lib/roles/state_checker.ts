/**
 * Compares a replayed VM with the short stops that were taken while it was recorded: the VM is stopped
 * at the same instruction, and instruction count, CPU registers and a digest of RAM must be equal.
 */
import type { CheckPoint } from "../recording/hybrid_log.ts";
import type { ReplayObserver } from "./replay_observer.ts";
import type { ReplayedVm } from "./ports.ts";

/** The comparison at one point. */
export interface CheckResult {
  /** The recorded instruction count. */
  readonly at: number;
  readonly icount: boolean;
  readonly registers: boolean;
  readonly ram: boolean;
  /** Which register lines differ, recorded and replayed; empty when none does. */
  readonly difference: string;
}

/** Stops one VM at each of its check points in turn. */
export class StateChecker {
  readonly results: CheckResult[] = [];

  /**
   * @param checks in rising order of their instruction counts
   * @param until where the VM stops for good, behind all checks; it is left standing there
   */
  constructor(
    private readonly vm: ReplayedVm,
    private readonly checks: readonly CheckPoint[],
    private readonly touch: () => void,
    private readonly until = Infinity,
    private readonly observer?: ReplayObserver,
  ) {}

  /** Sets the first break. Before the VM is resumed. */
  async arm(): Promise<void> {
    await this.#breakAt(0);
  }

  /** Where to stop at after `done` checks. */
  async #breakAt(done: number): Promise<void> {
    const next = this.checks[done]?.icount ?? this.until;
    if (next !== Infinity) await this.vm.breakAt(next);
  }

  /**
   * Goes through the points; ends early if the VM ends before.
   * @returns whether the VM stands at `until`
   */
  async run(): Promise<boolean> {
    for (const [index, check] of this.checks.entries()) {
      if (!await this.vm.stopped()) return false;
      this.touch();
      const state = await this.vm.state();
      await this.#breakAt(index + 1);
      const ram = await state.ram;
      const { icount, registers } = state;
      this.observer?.checked(this.vm.name, { icount, registers, ramSha256: ram.sha256 });
      this.results.push({
        at: check.icount,
        icount: state.icount === check.icount,
        registers: state.registers === check.registers,
        ram: ram.sha256 === check.ramSha256,
        difference: differingLines(check.registers, state.registers),
      });
      this.touch();
      await this.vm.resume();
    }
    return this.until !== Infinity && await this.vm.stopped();
  }
}

function differingLines(recorded: string, replayed: string): string {
  const before = recorded.split("\n");
  const after = replayed.split("\n");
  return before.flatMap((line, i) => line === after[i] ? [] : [`- ${line}`, `+ ${after[i] ?? ""}`])
    .join("\n");
}
