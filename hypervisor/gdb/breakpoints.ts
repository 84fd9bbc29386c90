/**
 * The breakpoints and watchpoints that gdb has set, so that a new stub can be given them.
 *
 * They are gdb's own `Z` packets: `Z0,addr,kind` and `Z1` stop before an instruction, `Z2` after a write,
 * `Z3` after a read, `Z4` after either.
 */
export class BreakpointTable {
  /** By what follows the `Z`. */
  readonly #set = new Set<string>();

  /** Notes what a `Z…` or `z…` packet did, once the stub said OK. */
  note(payload: string): void {
    if (payload.startsWith("Z")) this.#set.add(payload.slice(1));
    else this.#set.delete(payload.slice(1));
  }

  clear(): void {
    this.#set.clear();
  }

  get size(): number {
    return this.#set.size;
  }

  /** Whether a breakpoint stops the VM before the instruction at `pc`, as the stub writes it. */
  stopsBefore(pc: string): boolean {
    const address = BigInt("0x" + (pc.match(/../g) ?? []).reverse().join(""));
    return [...this.#set].some((point) => {
      const [type, at] = point.split(",");
      return (type === "0" || type === "1") && BigInt(`0x${at}`) === address;
    });
  }

  /** The packets that set all of them. */
  get setting(): string[] {
    return [...this.#set].map((point) => `Z${point}`);
  }

  /** The packets that remove all of them. */
  get removing(): string[] {
    return [...this.#set].map((point) => `z${point}`);
  }
}

/** Whether a packet sets or removes a breakpoint or watchpoint. */
export function isBreakpointPacket(payload: string): boolean {
  return /^[Zz][0-4],/.test(payload);
}
