/**
 * gdb's way into a replayed VM: a socket that speaks gdb's remote protocol, for one gdb at a time.
 *
 * ```
 *  gdb ──target remote──▶ GdbProxy ── session ──┬─ forward ──▶ QEMU's gdbstub
 *                                               └─ backward ─▶ seek, then forward
 * ```
 *
 * QEMU 7.2's own reverse execution needs an event log that it can seek in, which a FIFO is not, and hangs;
 * ours asks the replay session to bring the VM to an instruction count.
 */
import { ClusterrrError, messageOf } from "../../lib/errors.ts";
import { RspConnection } from "./connection.ts";
import type { DebuggedVm } from "./debugged_vm.ts";
import { GdbSession } from "./session.ts";
import { Target } from "./target.ts";
import type { TimelinePace } from "./timeline.ts";

/** A second gdb gets an answer to what it asks first; after that it need not stay. */
const TURNED_AWAY_WITHIN_MS = 3_000;

/** Where gdb connects: a port of 127.0.0.1 (0: any that is free), or a Unix socket. */
export type GdbAddress = { readonly port: number } | { readonly path: string };

export class GdbProxy {
  /** What gdb's `target remote` takes: `127.0.0.1:1234` or the socket's path. */
  readonly address: string;
  readonly #target: Target;
  readonly #listener: Deno.Listener;
  readonly #serving: Promise<void>;
  readonly #turnedAway = new Set<RspConnection>();
  #session: GdbSession | undefined;
  #visit: Promise<void> = Promise.resolve();

  private constructor(
    vm: DebuggedVm,
    listener: Deno.Listener,
    private readonly pace: TimelinePace | undefined,
  ) {
    this.#target = new Target(vm);
    this.#listener = listener;
    const { addr } = listener;
    this.address = addr.transport === "unix" || addr.transport === "unixpacket"
      ? addr.path
      : `127.0.0.1:${(addr as Deno.NetAddr).port}`;
    this.#serving = this.#serve();
  }

  /** @throws {ClusterrrError} where nothing can listen there */
  static listen(vm: DebuggedVm, address: GdbAddress, pace?: TimelinePace): GdbProxy {
    let listener: Deno.Listener;
    try {
      listener = "path" in address
        ? Deno.listen({ transport: "unix", path: address.path })
        : Deno.listen({ hostname: "127.0.0.1", port: address.port });
    } catch (cause) {
      const where = "path" in address ? address.path : `127.0.0.1:${address.port}`;
      throw new ClusterrrError(
        `Cannot listen for gdb of VM ${vm.name} at ${where}: ${messageOf(cause)}. ` +
          "Choose another port, or 0 for any.",
        { cause },
      );
    }
    return new GdbProxy(vm, listener, pace);
  }

  /** Ends gdb's connection, if there is one, and listens no more. The VM stays where it is. */
  async close(): Promise<void> {
    this.#listener.close();
    this.#session?.close();
    for (const gdb of this.#turnedAway) gdb.close();
    await this.#serving;
    await this.#visit;
  }

  #turnAway(conn: Deno.Conn): void {
    const answer = `E.clusterrr: another gdb debugs VM ${this.#target.vm.name}; detach that first`;
    const gdb = new RspConnection(conn, { packet: () => gdb.send(answer) });
    const timer = setTimeout(() => gdb.close(), TURNED_AWAY_WITHIN_MS);
    this.#turnedAway.add(gdb);
    gdb.closed.then(() => {
      clearTimeout(timer);
      this.#turnedAway.delete(gdb);
    });
  }

  async #serve(): Promise<void> {
    for await (const conn of this.#listener) {
      if (this.#session !== undefined && !this.#session.ending) {
        this.#turnAway(conn);
        continue;
      }
      await this.#visit;
      const session = new GdbSession(conn, this.#target, this.pace);
      this.#session = session;
      this.#visit = session.done.catch(() => {
        // The VM cannot be reached any more; the next gdb is told so.
      });
    }
  }
}
