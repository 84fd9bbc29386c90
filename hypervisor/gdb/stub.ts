/**
 * QEMU's gdbstub: a request goes out, its answer comes back; or the VM is let go and its stop comes back.
 *
 * ```
 *  standing ──resume()──▶ running ──stop reply──▶ standing
 *     │ ▲                    │
 *     └─┘ request()          └ connection ends, the guest powers off ──▶ closed: every call fails
 * ```
 *
 * A VM that was moved by someone else reports its stop here too, unasked: that is nobody's answer.
 * Source of the stub's ways: QEMU 7.2 gdbstub/gdbstub.c.
 */
import { ClusterrrError, ProtocolError } from "../../lib/errors.ts";
import { RspConnection } from "./connection.ts";

const ANSWER_TIMEOUT_MS = 30_000;

/** A stop reply: `T05thread:p01.01;`, `W00` when the guest has powered off. */
export interface Stop {
  readonly reply: string;
  /** The signal; 0 where the VM has ended. */
  readonly signal: number;
  /** The VM has ended: there is no stub any more. */
  readonly exited: boolean;
  /** `watch:200348;` (or `rwatch`, `awatch`), empty where no watchpoint was hit. */
  readonly watch: string;
}

/** The signal of a stop that was asked for, in QEMU's stub. */
export const SIGNAL_INTERRUPT = 2;

/** Reads a stop reply. */
export function parseStop(reply: string): Stop {
  const signal = /^[TS]([0-9a-fA-F]{2})/.exec(reply)?.[1];
  return {
    reply,
    signal: signal === undefined ? 0 : parseInt(signal, 16),
    exited: /^[WX]/.test(reply),
    watch: /[ra]?watch:[^;]*;/.exec(reply)?.[0] ?? "",
  };
}

/** The connection to the stub has ended. */
export class StubClosedError extends ClusterrrError {
  override name = "StubClosedError";
}

interface Waiter {
  readonly wantsStop: boolean;
  /** Gets the console text that a monitor command prints before its answer. */
  readonly console: ((hex: string) => void) | undefined;
  resolve(payload: string): void;
  reject(error: Error): void;
}

export class Stub {
  readonly #connection: RspConnection;
  #waiter: Waiter | undefined;

  /** Takes over a connection to the stub of a VM that stands still. */
  constructor(conn: Deno.Conn) {
    this.#connection = new RspConnection(conn, { packet: (payload) => this.#take(payload) });
    this.#connection.closed.then(() => this.#waiter?.reject(closedError()));
  }

  get ended(): boolean {
    return this.#connection.ended;
  }

  /**
   * Asks the stub of a VM that stands still.
   * @throws {StubClosedError}
   * @throws {ProtocolError} where it does not answer within 30 s
   */
  async request(payload: string, console?: (hex: string) => void): Promise<string> {
    const timeout = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => timeout.reject(new ProtocolError(`QEMU's gdbstub does not answer ${payload}`)),
      ANSWER_TIMEOUT_MS,
    );
    try {
      return await Promise.race([this.#ask(payload, payload === "?", console), timeout.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Lets the VM run, by `c`, `s` or `vCont;…`, until it stops. @throws {StubClosedError} */
  async resume(payload: string): Promise<Stop> {
    return parseStop(await this.#ask(payload, true));
  }

  close(): void {
    this.#connection.close();
  }

  #ask(payload: string, wantsStop: boolean, console?: (hex: string) => void): Promise<string> {
    if (this.ended) return Promise.reject(closedError());
    if (this.#waiter !== undefined) throw new Error("gdbstub: the answer before is not there yet");
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    this.#waiter = { wantsStop, console, resolve, reject };
    this.#connection.send(payload);
    return promise.finally(() => this.#waiter = undefined);
  }

  #take(payload: string): void {
    const waiter = this.#waiter;
    if (waiter === undefined) return;
    const isStop = /^[TSWX][0-9a-fA-F]{2}/.test(payload);
    if (waiter.wantsStop) {
      if (isStop) waiter.resolve(payload);
      else if (payload === "" || payload.startsWith("E")) {
        waiter.reject(new ProtocolError(`QEMU's gdbstub refuses to run the VM: ${payload || "?"}`));
      }
      return;
    }
    if (isStop) return;
    if (waiter.console !== undefined && /^O[0-9a-fA-F]+$/.test(payload)) {
      waiter.console(payload.slice(1));
    } else {
      waiter.resolve(payload);
    }
  }
}

function closedError(): StubClosedError {
  return new StubClosedError("QEMU's gdbstub has closed the connection: the VM has ended");
}
