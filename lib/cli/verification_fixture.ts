/** For tests: what a replay that is equal in everything reports of a VM. */
import type { VmVerification } from "./ports.ts";

export function verification(name: string, changes: Partial<VmVerification> = {}): VmVerification {
  return {
    name,
    frames: { recorded: 1364, matched: 1364 },
    checks: [
      { at: 1_000_000, icount: true, registers: true, ram: true },
      { at: 2_000_000, icount: true, registers: true, ram: true },
    ],
    console: true,
    replayS: 5,
    recordS: 12.4,
    ...changes,
  };
}
