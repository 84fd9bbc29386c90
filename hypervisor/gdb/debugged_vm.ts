/**
 * What the debugger needs of a replayed VM. The replay session fills it; instruction counts are QEMU's
 * `icount`.
 *
 * A VM cannot be made to stand anywhere: at the end of a run of instructions, where the log goes on with
 * something else, QEMU may already have taken that. So the VM says where it can stand, and the debugger
 * goes the last few instructions by single steps, which are exact.
 */
export interface DebuggedVm {
  readonly name: string;
  /** The lowest count one can seek to. */
  readonly firstIcount: number;
  /**
   * The highest count at which the VM can be made to stand. Where the guest powers off, below the log's
   * first SHUTDOWN event: QEMU's vCPU and main loop then race, and the VM may be gone any moment.
   */
  readonly lastIcount: number;

  /**
   * A fresh connection to the gdbstub of the VM's present QEMU. The VM stands still.
   * @throws where the VM has ended
   */
  connectStub(): Promise<Deno.Conn>;

  /** Instructions executed so far. The VM stands still. */
  icount(): Promise<number>;

  /**
   * The highest count up to `icount` at which the VM can be made to stand: strictly inside a run of
   * instructions, or {@link firstIcount}.
   */
  standBefore(icount: number): number;

  /**
   * The next forward run ends at `icount` if nothing ends it before; replaces an earlier call's.
   * @param icount one that {@link standBefore} named, above the present one
   */
  breakAt(icount: number): Promise<void>;

  /** The stub is about to be told to let the VM run: the VM, and its cluster, may move. */
  running(): Promise<void>;

  /** The VM has stopped again, or has ended. */
  stopped(): Promise<void>;

  /**
   * Stops a VM that {@link running} let go, somewhere it can stand; its stub then reports the stop. By a
   * break a little ahead: a stop may come where the CPU sleeps, or before the stub has let the VM run.
   */
  interrupt(): Promise<void>;

  /**
   * Brings the VM, and with it its cluster, to exactly `icount`, forward or backward. Its QEMU may be
   * another one afterwards. No breakpoint is set and no stub connected meanwhile.
   * @param icount one that {@link standBefore} named
   */
  seek(icount: number): Promise<void>;
}
