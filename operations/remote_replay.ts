/** What the hosts of a replay found, put together into what one host's replay is reported as. */
import type { ReplayReport, StateCheck, VerifyRun, VmVerification } from "../lib/cli/ports.ts";
import { isIdentical, unreached } from "../lib/cli/verification.ts";
import type { Divergence } from "../lib/errors.ts";
import type { ReplayResult } from "../lib/protocol/control.ts";

export function replayReportOf(results: readonly ReplayResult[]): ReplayReport {
  const divergence = divergenceOf(results);
  const incomplete = results.find((each) => each.incomplete !== undefined)?.incomplete;
  const vms = vmsOf(results);
  return {
    ok: divergence === undefined && vms.every((vm) => vm.consoleEqual),
    vms: vms.map(({ checks: _checks, number: _number, ...vm }) => vm),
    ...timesOf(results),
    queueBytesMax: results.reduce((sum, each) => sum + each.queueBytesMax, 0),
    ...(incomplete === undefined ? {} : { incomplete }),
    ...(divergence === undefined ? {} : { divergence }),
  };
}

export function verifyRunOf(results: readonly ReplayResult[]): VerifyRun {
  const divergence = divergenceOf(results);
  const { recordS, replayS } = timesOf(results);
  const incomplete = results.some((each) => each.incomplete !== undefined);
  const vms = vmsOf(results).map((vm): VmVerification => ({
    name: vm.name,
    frames: { recorded: vm.framesRecorded, matched: vm.framesMatched },
    checks: checksFromWire(vm.checks),
    console: vm.consoleEqual,
    replayS: vm.replayS,
    recordS,
  }));
  return {
    ok: divergence === undefined && vms.every((vm) => isIdentical(vm, incomplete)),
    replayS,
    recordS,
    vms,
    ...(divergence === undefined ? {} : { divergence }),
  };
}

type WireCheck = ReplayResult["vms"][number]["checks"][number];

/** The checks of a VM as a result of one host has them. */
export function checksToWire(checks: readonly StateCheck[]): WireCheck[] {
  return checks.map(({ notReached: _, ...check }) => check);
}

/**
 * The checks of a VM. A result does not say which were not reached: they are the last ones, false in each. One
 * that was made is not: the VM was stopped at its very instruction count.
 */
export function checksFromWire(checks: readonly WireCheck[]): StateCheck[] {
  const made = checks.findLastIndex(({ icount, registers, ram }) => icount || registers || ram) + 1;
  return checks.map((check, i) => i < made ? check : unreached(check.at));
}

function vmsOf(results: readonly ReplayResult[]) {
  return results.flatMap(({ vms }) => vms).sort((a, b) => a.number - b.number);
}

function timesOf(results: readonly ReplayResult[]): { replayS: number; recordS: number } {
  return {
    replayS: Math.max(...results.map(({ replayS }) => replayS)),
    recordS: Math.max(...results.map(({ recordS }) => recordS)),
  };
}

function divergenceOf(results: readonly ReplayResult[]): Divergence | undefined {
  const found = results.find(({ divergence }) => divergence !== undefined)?.divergence;
  if (found === undefined) return undefined;
  return { ...found, instructionCount: BigInt(found.instructionCount) };
}
