/** Waits for all VMs of a replay at once: captured frames to read, room in a log's FIFO to write. */
import { Epoll, EPOLLIN, EPOLLOUT, type Fd } from "../host/libc.ts";
import type { VmNumber } from "../lib/units.ts";
import type { ReadinessPort } from "../lib/roles/ports.ts";

/** One epoll instance for the descriptors of one host's replay. */
export class Readiness implements ReadinessPort {
  readonly #epoll = new Epoll();
  readonly #logs = new Map<VmNumber, { fd: Fd; wanted: boolean }>();

  /** Watches a VM's capture for frames. */
  addCapture(fd: Fd): void {
    this.#epoll.add(fd, EPOLLIN);
  }

  removeCapture(fd: Fd): void {
    this.#epoll.remove(fd);
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

  async wait(timeoutMs: number): Promise<void> {
    await this.#epoll.wait(timeoutMs, () => {});
  }

  close(): void {
    this.#epoll.close();
  }
}
