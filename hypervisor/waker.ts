/**
 * Wakes the main loop of a replaying QEMU, which may sleep out a guest timer in real time although its
 * log already has what comes next.
 *
 * A human monitor reads on QEMU's main loop (a QMP monitor has a thread of its own) and takes Ctrl-A,
 * "go to the start of the line", without a word on an empty line. Next to a QMP command a wake-up
 * costs one byte and no reply: replays used a fifth less CPU with it.
 * Source: QEMU monitor/monitor.c (`monitor_init_hmp`), util/readline.c (`readline_handle_byte`).
 */
import { closeFd, connectUnix, type Fd, unreadByPeer, writeFd } from "../host/libc.ts";

const CTRL_A = Uint8Array.of(1);

/** The wake-up line of one QEMU. */
export class Waker {
  readonly #fd: Fd;

  /** @throws {HostError} where no monitor listens at `path` */
  constructor(path: string) {
    this.#fd = connectUnix(path);
  }

  /** Wakes QEMU's main loop unless a wake-up is under way. A QEMU that has ended is not woken. */
  wake(): void {
    if (unreadByPeer(this.#fd) === 0) writeFd(this.#fd, CTRL_A);
  }

  close(): void {
    closeFd(this.#fd);
  }
}
