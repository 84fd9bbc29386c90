/** For tests: waiting for an event of a monitor. */
import { QmpError } from "../../lib/errors.ts";
import type { QmpClient } from "./client.ts";

/** The next event of that name. Call it before the command that causes the event. */
export function nextEvent(qmp: QmpClient, name: string, timeoutMs: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(
    () => reject(new QmpError(`event ${name}`, "Timeout", `none within ${timeoutMs} ms`)),
    timeoutMs,
  );
  qmp.on(name, () => resolve());
  qmp.closed.then(() => reject(new QmpError(`event ${name}`, "Disconnected", "closed")));
  return promise.finally(() => clearTimeout(timer));
}
