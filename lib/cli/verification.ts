/** Several replays of one recording as one verdict: per VM the worst of what the runs showed. */
import type { StateCheck, VerifyReport, VerifyRun, VmVerification } from "./ports.ts";

/**
 * The report of a verification. A frame, check or console counts as equal only if it was in every
 * run; times are those of the slowest run.
 */
export function summarizeRuns(perRun: readonly VerifyRun[], incomplete?: string): VerifyReport {
  const names = perRun[0]?.vms.map((vm) => vm.name) ?? [];
  return {
    ok: perRun.length > 0 && perRun.every((run) => run.ok),
    runs: perRun.length,
    vms: names.map((name) =>
      worstOf(
        perRun.map((run) => {
          const vm = run.vms.find((v) => v.name === name);
          if (vm === undefined) throw new Error(`VM ${name} is missing from a run's report`);
          return vm;
        }),
      )
    ),
    perRun,
    ...(incomplete === undefined ? {} : { incomplete }),
  };
}

function worstOf(runs: readonly VmVerification[]): VmVerification {
  const first = runs[0]!;
  return {
    name: first.name,
    frames: {
      recorded: first.frames.recorded,
      matched: Math.min(...runs.map((vm) => vm.frames.matched)),
    },
    checks: first.checks.map((check) => worstCheck(check, runs)),
    console: runs.every((vm) => vm.console),
    replayS: Math.max(...runs.map((vm) => vm.replayS)),
    recordS: first.recordS,
  };
}

/** A difference is worse than a check that a run did not reach, and that is worse than an equal state. */
function worstCheck({ at }: StateCheck, runs: readonly VmVerification[]): StateCheck {
  const made = runs.flatMap((vm) => vm.checks.find((c) => c.at === at && !c.notReached) ?? []);
  if (made.length < runs.length && made.every(passed)) return unreached(at);
  return {
    at,
    icount: made.every((c) => c.icount),
    registers: made.every((c) => c.registers),
    ram: made.every((c) => c.ram),
  };
}

/** The check at instruction `at`, of a replay that ended before. */
export function unreached(at: number): StateCheck {
  return { at, icount: false, registers: false, ram: false, notReached: true };
}

/** Whether a VM's state was equal at a check. */
export function passed(check: StateCheck): boolean {
  return check.icount && check.registers && check.ram;
}

/**
 * Whether a VM's replay was the same as its recording.
 * @param incomplete the recording was cut off: the last sends and checks may lie behind the last whole block
 */
export function isIdentical(vm: VmVerification, incomplete: boolean): boolean {
  if (!vm.console) return false;
  if (!vm.checks.every((check) => passed(check) || (incomplete && check.notReached))) return false;
  return incomplete || vm.frames.matched === vm.frames.recorded;
}
