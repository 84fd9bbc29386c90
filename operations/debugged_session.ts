/**
 * A VM of a stopped replay as gdb's proxy sees it. While gdb lets it run, the others stand; where it waits
 * for a frame, they are brought to the cut at which that has just been sent. So wherever gdb stops the VM,
 * the cluster stands in a consistent state with it.
 *
 * ```
 * gdb ─ GdbProxy ─▶ DebuggedSessionVm ─▶ ReplaySession: seek, follow
 * ```
 */
import type { DebuggedVm } from "../hypervisor/gdb/debugged_vm.ts";
import { replayBreak } from "../hypervisor/qmp/commands.ts";
import { ClusterrrError, QmpError } from "../lib/errors.ts";
import { RunEnds } from "../lib/roles/run_ends.ts";
import type { VmNumber } from "../lib/units.ts";
import { openLog } from "../lib/recording/recording_directory.ts";
import { runsOf, startIcount, vmNamed } from "./open_recording.ts";
import type { ReplaySession } from "./replay_session.ts";
import type { WorldVm } from "./replay_world.ts";

/** How far ahead a running VM is stopped, in instructions: a millisecond of its time. */
const INTERRUPT_AHEAD = 1 << 18;

/** One VM under gdb. */
export class DebuggedSessionVm implements DebuggedVm {
  readonly firstIcount: number;
  readonly lastIcount: number;
  readonly #runs: RunEnds;
  #following: Promise<void> | undefined;
  #stopped = false;
  /** Where the next run is to end. */
  #until: number | undefined;

  constructor(private readonly session: ReplaySession, readonly name: string) {
    const { recording } = session;
    const vm = vmNamed(recording.manifest, name);
    this.firstIcount = startIcount(recording, vm);
    const reader = openLog(recording.directory, vm, recording.manifest);
    try {
      this.#runs = new RunEnds(reader, runsOf(vm));
    } finally {
      reader.close();
    }
    const { icount, poweroffAt } = recording.censuses.get(vm.number)!;
    this.lastIcount = this.standBefore(Math.min(icount, poweroffAt));
  }

  get #vm(): WorldVm {
    return this.session.world.vms.find(({ vm }) => vm.name === this.name)!;
  }

  get #number(): VmNumber {
    return this.#vm.vm.number;
  }

  async connectStub(): Promise<Deno.Conn> {
    if (this.session.world.hasEnded(this.#number)) {
      throw new ClusterrrError(`VM ${this.name} has ended; seek back first.`);
    }
    return await Deno.connect({ transport: "unix", path: this.#vm.vm.gdbPath });
  }

  async icount(): Promise<number> {
    return await this.#vm.vm.icount();
  }

  standBefore(icount: number): number {
    return this.#runs.insideBefore(icount, this.firstIcount);
  }

  async breakAt(icount: number): Promise<void> {
    if (this.#following === undefined) this.#until = icount; // it may be moved before it runs
    else await this.#break(icount);
  }

  async #break(icount: number): Promise<void> {
    await replayBreak(this.#vm.vm.qmp, icount);
  }

  async running(): Promise<void> {
    const number = this.#number;
    const until = this.#until;
    this.#until = undefined;
    await this.session.letRun(this.name, async () => {
      if (until !== undefined) await this.#break(until);
    });
    this.#stopped = false;
    this.#following = this.session.follow(number, () => this.#stopped);
    this.#following.catch(() => {}); // told by `stopped`: the session has ended the VM
  }

  async stopped(): Promise<void> {
    this.#stopped = true;
    try {
      await this.#following;
    } finally {
      this.#following = undefined;
    }
  }

  async interrupt(): Promise<void> {
    for (let ahead = INTERRUPT_AHEAD;; ahead *= 2) {
      const at = this.#runs.insideAfter(await this.icount() + ahead);
      if (at === undefined || at >= this.lastIcount) return; // it stops there anyway
      try {
        return await this.breakAt(at);
      } catch (error) {
        // The VM was past it already.
        if (!(error instanceof QmpError) || error.errorClass !== "GenericError") throw error;
      }
    }
  }

  async seek(icount: number): Promise<void> {
    if (icount === this.firstIcount) await this.session.goToStart();
    else await this.session.bringTo({ kind: "instruction", vm: this.name, icount });
  }
}
