/** What a guest of `examples/images` says of its work: the last `GUEST role=` line of its console. */

/**
 * The status that a guest ended with; `undefined` where it did not say, because it is of another kind,
 * or never came that far.
 */
export function guestStatusOf(console: string): number | undefined {
  const status = [...console.matchAll(/^GUEST role=\S* status=(\d+)/gm)].at(-1)?.[1];
  return status === undefined ? undefined : Number(status);
}

/** Why the work of a guest is not what was to be measured; `undefined` where it says nothing of it. */
export function failureOf(console: string): string | undefined {
  const status = guestStatusOf(console);
  if (status === undefined || status === 0) return undefined;
  return reasonOf(console) ?? `its guest ended with status ${status}`;
}

/** What a guest that failed said of it. */
export function reasonOf(console: string): string | undefined {
  return /^FAIL .*$/m.exec(console)?.[0]?.trim();
}
