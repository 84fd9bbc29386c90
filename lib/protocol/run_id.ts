/** Ids of runs and recordings; apart from the protocol's schemas, which not every command has to load. */

/** An id that no other run has: random hex. */
export function newRunId(): string {
  return crypto.getRandomValues(new Uint8Array(8)).toHex();
}
