/**
 * Steps that are taken once, however often they are asked for: a coordinator that lost its connection, or
 * that was started again, asks again.
 */

/** The steps of one run. */
export class Once {
  readonly #taken = new Map<string, Promise<unknown>>();

  /** Takes step `name`; a later call gets what the first one came to. */
  take<T>(name: string, step: () => Promise<T>): Promise<T> {
    const taken = this.#taken.get(name) as Promise<T> | undefined;
    if (taken !== undefined) return taken;
    const taking = step();
    taking.catch(() => {}); // whoever asks hears of it
    this.#taken.set(name, taking);
    return taking;
  }

  has(name: string): boolean {
    return this.#taken.has(name);
  }
}
