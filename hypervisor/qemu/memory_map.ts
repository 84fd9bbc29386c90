/** Where a machine's RAM lies in guest-physical memory: what a RAM digest covers. */
import { ClusterrrError } from "../../lib/errors.ts";
import type { MemoryRange } from "../qmp/commands.ts";

const MIB = 1 << 20;
const GIB_4 = 2 ** 32;
/** The hole from 640 KiB to 768 KiB belongs to a VGA card. */
const HOLE_START = 0xa0000;
const HOLE_END = 0xc0000;

/** A range of RAM. */
export interface RamRange extends MemoryRange {
  /**
   * Whether what the guest sees there is a BIOS or RAM, piece by piece, as the chipset is told (PAM). Otherwise it is one piece
   * of QEMU's own memory.
   */
  readonly shadowed: boolean;
}

/**
 * The ranges of RAM of a `pc` or `q35` machine, rising; `machine` may have properties. RAM that does not fit below the PCI hole
 * continues at 4 GiB.
 *
 * Mirrors `pc_init1` in QEMU's hw/i386/pc_piix.c and `pc_q35_init` in hw/i386/pc_q35.c; the
 * split is part of the guest's machine and has not moved since 2013.
 * @throws {ClusterrrError} for another machine
 */
export function ramRanges(machine: string, memoryMiB: number): RamRange[] {
  const total = memoryMiB * MIB;
  const below = Math.min(total, lowMemoryMax(machine, total));
  const ranges = [
    { address: 0, size: HOLE_START, shadowed: false },
    { address: HOLE_END, size: MIB - HOLE_END, shadowed: true },
    { address: MIB, size: below - MIB, shadowed: false },
  ];
  if (total > below) ranges.push({ address: GIB_4, size: total - below, shadowed: false });
  return ranges;
}

/** How much of `total` bytes may lie below 4 GiB. */
function lowMemoryMax(machineWithProperties: string, total: number): number {
  const machine = machineWithProperties.split(",", 1)[0]!;
  if (machine === "pc" || machine.startsWith("pc-i440fx-")) {
    return total >= 0xe0000000 ? 0xc0000000 : 0xe0000000;
  }
  if (machine === "q35" || machine.startsWith("pc-q35-")) {
    return total >= 0xb0000000 ? 0x80000000 : 0xb0000000;
  }
  throw new ClusterrrError(
    `Machine type "${machine}" is not supported: use pc or q35, whose memory layout is known.`,
  );
}
