/**
 * Compares a replayed VM with the short stops that were taken while it was recorded: the VM is stopped
 * at the same instruction, and instruction count, CPU registers and a digest of RAM must be equal.
 *
 * A recorded stop is always at the end of a run of instructions. A replay that stops there while its vCPU
 * is idle may take more of its log meanwhile and lose the timer that would wake it. So where the run ends
 * in a HLT, the replay stops before that instruction, strictly inside the run, and what the HLT does is
 * reckoned: it changes nothing but the program counter and two flags.
 */
import type { CheckPoint } from "../recording/hybrid_log.ts";
import { ramAlgorithmOf } from "../recording/ram_digest.ts";
import type { ReplayObserver } from "./replay_observer.ts";
import type { MachineState, ReplayedVm } from "./ports.ts";

const TOUCH_MS = 500;

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
   * @param touch told again and again while it works: the VM stands, and there is no stall
   * @param until where the VM stops for good, not before the last comparison; it is left standing there
   * @param isInside whether a count lies strictly inside a run of instructions
   */
  constructor(
    private readonly vm: ReplayedVm,
    private readonly checks: readonly CheckPoint[],
    private readonly touch: () => void,
    private readonly until = Infinity,
    private readonly observer?: ReplayObserver,
    private readonly isInside: (icount: number) => boolean = () => false,
  ) {}

  /** Where the VM stops for the check `index`. */
  #stopOf(index: number): number {
    const check = this.checks[index]!;
    const last = this.checks[index - 1]?.icount ?? -1;
    const stop = comparedAt(check, this.isInside);
    return stop > last ? stop : check.icount;
  }

  /** Whether the VM stands at `until` once the check `index` has been compared. */
  #staysAfter(index: number): boolean {
    return index >= 0 && index === this.checks.length - 1 && this.#stopOf(index) === this.until;
  }

  /** Sets the first break. Before the VM is resumed. */
  async arm(): Promise<void> {
    await this.#breakAt(0);
  }

  /** Where to stop at after `done` checks. */
  async #breakAt(done: number): Promise<void> {
    const next = done < this.checks.length ? this.#stopOf(done) : this.until;
    if (next !== Infinity && !this.#staysAfter(done - 1)) await this.vm.breakAt(next);
  }

  /**
   * Goes through the points; ends early if the VM ends before.
   * @returns whether the VM stands at `until`
   */
  async run(): Promise<boolean> {
    for (const [index, check] of this.checks.entries()) {
      if (!await this.vm.stopped()) return false;
      this.touch();
      const state = await this.#stateFor(check);
      await this.#breakAt(index + 1);
      this.#compare(index, state);
      if (this.#staysAfter(index)) return true;
      await this.vm.resume();
    }
    return this.until !== Infinity && await this.vm.stopped();
  }

  /** To look at a large RAM takes a while, in which the VM does not move: that is no stall. */
  async #stateFor({ ramDigest }: CheckPoint): Promise<MachineState> {
    const busy = setInterval(this.touch, TOUCH_MS);
    try {
      return await this.vm.state(ramAlgorithmOf(ramDigest));
    } finally {
      clearInterval(busy);
    }
  }

  #compare(index: number, state: MachineState): void {
    const check = this.checks[index]!;
    const reckoned = this.#stopOf(index) < check.icount;
    const icount = state.icount + (reckoned ? 1 : 0);
    const registers = reckoned ? afterHalt(state.registers) : state.registers;
    this.observer?.checked(this.vm.name, { icount, registers, ramDigest: state.ramDigest });
    this.results[index] = {
      at: check.icount,
      icount: icount === check.icount,
      registers: registers === check.registers,
      ram: state.ramDigest === check.ramDigest,
      difference: differingLines(check.registers, registers),
    };
    this.touch();
  }
}

/**
 * The instruction count at which a recorded state is compared: one before its own where the run of
 * instructions ends there in a HLT.
 * @param isInside whether a count lies strictly inside a run of instructions
 */
export function comparedAt(
  { icount, registers }: Pick<CheckPoint, "icount" | "registers">,
  isInside: (icount: number) => boolean,
): number {
  return isHalted(registers) && isInside(icount - 1) ? icount - 1 : icount;
}

/** Whether the vCPU has executed a HLT and waits, by QEMU's text of its registers. */
function isHalted(registers: string): boolean {
  return /\bHLT=1\b/.test(registers);
}

/**
 * QEMU's text of the registers after a HLT (opcode F4, one byte), from the text before: the program counter
 * is behind it, interrupts are no longer held back (`II`), the vCPU is halted. A text that does not say
 * that a HLT can come next is returned as it is.
 * Source: QEMU target/i386/tcg/sysemu/misc_helper.c (`helper_hlt`, `do_hlt`).
 */
export function afterHalt(registers: string): string {
  if (!/\bHLT=0\b/.test(registers)) return registers;
  return registers
    .replace(
      /\b([RE]IP)=([0-9a-f]+)/,
      (_, name: string, value: string) =>
        `${name}=${(BigInt(`0x${value}`) + 1n).toString(16).padStart(value.length, "0")}`,
    )
    .replace(/\bII=[01]\b/, "II=0")
    .replace(/\bHLT=0\b/, "HLT=1");
}

function differingLines(recorded: string, replayed: string): string {
  const before = recorded.split("\n");
  const after = replayed.split("\n");
  return before.flatMap((line, i) => line === after[i] ? [] : [`- ${line}`, `+ ${after[i] ?? ""}`])
    .join("\n");
}
