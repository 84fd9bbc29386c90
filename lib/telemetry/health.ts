/**
 * What is wrong with a process at the moment, for `/healthz` and for people. Roles raise and clear
 * problems; a problem has a key, so that it is there once however often it is raised.
 */
import type { Role } from "./definitions.ts";

/** The body of `/healthz`. */
export interface HealthReport {
  readonly status: "ok" | "unhealthy";
  readonly role: Role;
  readonly version: string;
  readonly uptimeS: number;
  /** Sentences for a person; empty when the status is `ok`. */
  readonly problems: readonly string[];
}

/** The health of this process. */
export class Health {
  readonly #problems = new Map<string, string>();
  readonly #startedAt = performance.now();

  constructor(readonly role: Role, readonly version: string) {}

  /** Something is wrong. `key` names what, e.g. `coordinator` or `run a38df86f`; `problem` is for people. */
  raise(key: string, problem: string): void {
    this.#problems.set(key, problem);
  }

  /** It is well again, or does not matter any more. */
  clear(key: string): void {
    this.#problems.delete(key);
  }

  report(): HealthReport {
    return {
      status: this.#problems.size === 0 ? "ok" : "unhealthy",
      role: this.role,
      version: this.version,
      uptimeS: Math.floor((performance.now() - this.#startedAt) / 1000),
      problems: [...this.#problems.values()],
    };
  }
}
