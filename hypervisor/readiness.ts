/** Waits for all VMs of a replay at once: captured frames to read, room in a log's FIFO to write. */
import { setImmediate } from "node:timers/promises";
import { Epoll, EPOLLHUP, EPOLLIN, EPOLLOUT, type Fd } from "../host/libc.ts";
import type { VmNumber } from "../lib/units.ts";
import type { ReadinessPort } from "../lib/roles/ports.ts";

/** One epoll instance for the descriptors of one host's replay. */
export class Readiness implements ReadinessPort {
  readonly #epoll = new Epoll();
  readonly #captures = new Set<Fd>();
  readonly #logs = new Map<VmNumber, { fd: Fd; wanted: boolean }>();

  /** Watches a VM's capture for frames. */
  addCapture(fd: Fd): void {
    this.#epoll.add(fd, EPOLLIN);
    this.#captures.add(fd);
  }

  removeCapture(fd: Fd): void {
    if (this.#captures.delete(fd)) this.#epoll.remove(fd);
  }

  /** Names the FIFO of a VM's log; it is watched only while room in it is wanted. */
  addLog(vm: VmNumber, fd: Fd): void {
    this.#logs.set(vm, { fd, wanted: false });
  }

  /** Forgets a VM's log before its descriptor is closed. */
  removeLog(vm: VmNumber): void {
    this.wantWrite(vm, false);
    this.#logs.delete(vm);
  }

  wantWrite(vm: VmNumber, wanted: boolean): void {
    const log = this.#logs.get(vm);
    if (log === undefined || log.wanted === wanted) return;
    if (wanted) this.#epoll.add(log.fd, EPOLLOUT);
    else this.#epoll.remove(log.fd);
    log.wanted = wanted;
  }

  /**
   * A wait on this thread takes a third of the CPU time: 47 µs instead of 133 µs on a virtual machine where
   * waking another thread is dear, and a replay waits 700 times a second.
   */
  async wait(timeoutMs: number, alone = false): Promise<void> {
    if (!alone) return void await this.#epoll.wait(timeoutMs, this.#forgetIfGone);
    this.#epoll.poll(this.#forgetIfGone, timeoutMs);
    await setImmediate(); // what else has come meanwhile
  }

  readonly #forgetIfGone = (fd: Fd, events: number) => {
    // Its QEMU has gone: ready for ever, it would turn every later wait into none.
    if ((events & EPOLLHUP) !== 0) this.removeCapture(fd);
  };

  close(): void {
    this.#epoll.close();
  }
}
