/**
 * Quantities that must not be mixed: each is a `bigint` with a brand, so that adding an instruction
 * count to a Lamport time does not compile.
 */

declare const unit: unique symbol;
type Quantity<Name extends string> = bigint & { readonly [unit]: Name };

/** Guest instructions executed since the start of a VM (QEMU's icount). */
export type InstructionCount = Quantity<"instructions">;
/** A Lamport time: the epoch in the bits from 40 up, the counter below. */
export type LamportTime = Quantity<"lamport">;
/** Nanoseconds of the host's monotonic clock. */
export type Nanoseconds = Quantity<"ns">;

export const instructionCount = (n: bigint | number): InstructionCount =>
  BigInt(n) as InstructionCount;
export const lamportTime = (n: bigint | number): LamportTime => BigInt(n) as LamportTime;
export const nanoseconds = (n: bigint | number): Nanoseconds => BigInt(n) as Nanoseconds;

/** The number of the VM in its cluster file, from 1; 0 stands for anything that is not recorded. */
export type VmNumber = number;
