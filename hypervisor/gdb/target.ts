/**
 * The debugged VM, whichever QEMU it is in just now: the stub is connected when it is needed and told anew
 * what gdb had told the one before.
 *
 * ```
 *  session, timeline ──▶ Target ──▶ Stub ──▶ gdbstub of the present QEMU
 *                          └──────▶ DebuggedVm (seek, icount, breakAt)
 * ```
 */
import { ProtocolError } from "../../lib/errors.ts";
import { BreakpointTable, isBreakpointPacket } from "./breakpoints.ts";
import type { DebuggedVm } from "./debugged_vm.ts";
import { parseStop, SIGNAL_INTERRUPT, type Stop, Stub, StubClosedError } from "./stub.ts";

/** What gdb asks first, with what it can do; QEMU's thread names depend on it. */
const HANDSHAKE_DEFAULT = "qSupported:multiprocess+;xmlRegisters=i386";

/** A stub that has shown its registers answers `p`, a single register. */
const READ_REGISTERS = "qXfer:features:read:target.xml:0,ffb";

/** rip is register 16 of QEMU's x86-64 description. */
const READ_PC = "p10";

/**
 * A place in the VM's execution. An interrupt or exception is delivered between two instructions: there
 * are then two places with the same count, before and after, told apart by the program counter.
 */
export interface Place {
  readonly icount: number;
  /** As the stub writes it: hex, little-endian. */
  readonly pc: string;
}

export function isSamePlace(a: Place, b: Place): boolean {
  return a.icount === b.icount && a.pc === b.pc;
}

export class Target {
  readonly breakpoints = new BreakpointTable();
  #stub: Stub | undefined;
  #handshake = HANDSHAKE_DEFAULT;
  /** The last `Hg…` and `Hc…`. */
  readonly #threads = new Map<string, string>();
  #running = false;
  #interrupted = false;

  constructor(readonly vm: DebuggedVm) {}

  /** Whether Ctrl-C came since the last {@link takeInterrupt}. */
  get interrupted(): boolean {
    return this.#interrupted;
  }

  takeInterrupt(): boolean {
    const interrupted = this.#interrupted;
    this.#interrupted = false;
    return interrupted;
  }

  /** A new gdb has come, which knows of nothing. */
  async reset(): Promise<void> {
    await this.leave();
    this.#handshake = HANDSHAKE_DEFAULT;
    this.#threads.clear();
  }

  /**
   * Takes a request of gdb's to the stub, and notes what a new stub would have to know.
   * @param console gets what a monitor command prints, in hex
   * @throws where the VM has ended
   */
  async request(payload: string, console?: (hex: string) => void): Promise<string> {
    if (payload.startsWith("qSupported")) this.#handshake = payload;
    const answer = await this.#ask(payload, console);
    if (answer === "OK") {
      if (isBreakpointPacket(payload)) this.breakpoints.note(payload);
      if (/^H[gc]/.test(payload)) this.#threads.set(payload.slice(0, 2), payload);
    }
    return answer;
  }

  async place(): Promise<Place> {
    const pc = await this.#ask(READ_PC);
    if (!/^([0-9a-fA-F]{2})+$/.test(pc)) {
      throw new ProtocolError(`QEMU's gdbstub does not tell the program counter: ${pc}`);
    }
    return { icount: await this.vm.icount(), pc };
  }

  /** One instruction, or the delivery of an interrupt or exception. */
  async step(): Promise<Stop> {
    return await this.resume("s");
  }

  /** Runs, with the breakpoints, to `until` at most. */
  async run(until: number): Promise<Stop> {
    await this.vm.breakAt(until);
    return await this.resume("c");
  }

  /** Runs to `until`, with no breakpoint or watchpoint on the way. */
  async runThrough(until: number): Promise<Stop> {
    for (const payload of this.breakpoints.removing) await this.#ask(payload);
    const stop = await this.run(until);
    for (const payload of this.breakpoints.setting) await this.#ask(payload);
    return stop;
  }

  /** Sends a packet that lets the VM run, and waits until it has stopped. */
  async resume(payload: string): Promise<Stop> {
    const stub = await this.#connected();
    await this.vm.running();
    this.#running = true;
    if (this.#interrupted) this.#interruptVm();
    try {
      return await stub.resume(payload);
    } catch (cause) {
      if (!(cause instanceof StubClosedError)) throw cause;
      return parseStop("X09"); // QEMU has gone without a word
    } finally {
      this.#running = false;
      await this.vm.stopped();
    }
  }

  /** gdb's Ctrl-C. */
  interrupt(): void {
    this.#interrupted = true;
    if (this.#running) this.#interruptVm();
  }

  /** Brings the VM to a count where it can stand; the breakpoints are set there too. */
  async seek(icount: number): Promise<void> {
    await this.#disconnect();
    await this.vm.seek(icount);
  }

  /** Takes gdb's breakpoints out of the VM and hangs up; the VM stays where it is. */
  async leave(): Promise<void> {
    await this.#disconnect();
    this.breakpoints.clear();
  }

  #interruptVm(): void {
    this.vm.interrupt().catch(() => {
      // It has stopped or ended meanwhile, which the stub tells.
    });
  }

  async #ask(payload: string, console?: (hex: string) => void): Promise<string> {
    const stub = await this.#connected();
    try {
      return await stub.request(payload, console);
    } catch (cause) {
      if (!(cause instanceof StubClosedError)) throw cause;
      // The session has put the VM into another QEMU since the last request.
      return await (await this.#connected()).request(payload, console);
    }
  }

  async #connected(): Promise<Stub> {
    if (this.#stub !== undefined && !this.#stub.ended) return this.#stub;
    const stub = new Stub(await this.vm.connectStub());
    try {
      await stub.request(this.#handshake);
      await stub.request("?"); // clears what a former connection left set
      await stub.request(READ_REGISTERS);
      for (const payload of this.#threads.values()) await stub.request(payload);
      for (const payload of this.breakpoints.setting) {
        const answer = await stub.request(payload);
        if (answer !== "OK") {
          throw new ProtocolError(`QEMU's gdbstub does not set ${payload} again: ${answer}`);
        }
      }
    } catch (cause) {
      stub.close();
      throw cause;
    }
    return this.#stub = stub;
  }

  async #disconnect(): Promise<void> {
    const stub = this.#stub;
    this.#stub = undefined;
    if (stub === undefined || stub.ended) return;
    try {
      for (const payload of this.breakpoints.removing) await stub.request(payload);
    } catch (cause) {
      if (!(cause instanceof StubClosedError)) throw cause;
    } finally {
      stub.close();
    }
  }
}

/** Whether a run ended because it was stopped from outside: Ctrl-C, a break, the session. */
export function wasPaused(stop: Stop): boolean {
  return stop.signal === SIGNAL_INTERRUPT;
}
