/**
 * The values of all promises, once every one of them has ended: whoever cleans up behind a failure then finds what
 * the others have made.
 * @throws the first one's reason, in their order, that failed
 */
export async function settleAll<T>(promises: Iterable<Promise<T>>): Promise<T[]> {
  return (await Promise.allSettled(promises)).map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}
