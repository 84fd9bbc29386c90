/** Quantities that must not be mixed with others. */

declare const unit: unique symbol;

/** A Lamport time: the epoch in the bits from 40 up, the counter below. */
export type LamportTime = bigint & { readonly [unit]: "lamport" };

export const lamportTime = (n: bigint | number): LamportTime => BigInt(n) as LamportTime;

/** The number of the VM in its cluster file, from 1; 0 stands for anything that is not recorded. */
export type VmNumber = number;
