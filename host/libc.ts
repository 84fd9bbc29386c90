/**
 * The system calls that Deno has no API for: non-blocking FIFOs, epoll, network namespaces, ioctl.
 *
 * Everything below `net/` and `hypervisor/` that touches a raw file descriptor goes through here.
 * Calls are synchronous FFI on the calling thread (about 0.1 µs each above the system call), except
 * {@link Epoll.wait}, which waits on one of Deno's blocking threads.
 */
import { HostError } from "../lib/errors.ts";
import { hasGone } from "./process_stat.ts";

const symbols = {
  open: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  fcntl: { parameters: ["i32", "i32", "i64"], result: "i32" },
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  mkfifo: { parameters: ["buffer", "u32"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setns: { parameters: ["i32", "i32"], result: "i32" },
  signal: { parameters: ["i32", "usize"], result: "usize" },
  epoll_create1: { parameters: ["i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  epoll_wait: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
  syscall: { parameters: ["i64", "i64", "buffer", "i64"], result: "i64" },
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  sched_setscheduler: { parameters: ["i32", "i32", "buffer"], result: "i32" },
  if_nametoindex: { parameters: ["buffer"], result: "u32" },
  __errno_location: { parameters: [], result: "pointer" },
} as const;

const nonblockingSymbols = {
  epoll_wait: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32", nonblocking: true },
} as const;

let library: Deno.DynamicLibrary<typeof symbols> | undefined;
let waiting: Deno.DynamicLibrary<typeof nonblockingSymbols> | undefined;

/** libc, opened at the first use: commands that touch no host (`--help`) need no FFI permission. */
export function libc(): Deno.DynamicLibrary<typeof symbols>["symbols"] {
  return (library ??= Deno.dlopen("libc.so.6", symbols)).symbols;
}

export const EAGAIN = 11;
export const EINTR = 4;
export const EPIPE = 32;
const ECONNRESET = 104;
export const ENXIO = 6;
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
const F_SETFD = 2;
const F_SETPIPE_SZ = 1031;
const FIONREAD = 0x541bn;
const SIOCOUTQ = 0x5411n;
const CLONE_NEWNET = 0x40000000;
const AF_UNIX = 1;
const SOCK_STREAM = 1;

/** Makes a write to a pipe without a reader an error (`EPIPE`) instead of the end of this process. */
export function ignoreSigpipe(): void {
  const SIGPIPE = 13;
  const SIG_IGN = 1n;
  libc().signal(SIGPIPE, SIG_IGN);
}

/**
 * CPU time that process `pid` has used, in ms; `undefined` once it is gone. The clock's number is
 * made as in the kernel's include/linux/posix-timers_types.h (`CPUCLOCK_SCHED`).
 */
export function cpuTimeMs(pid: number): number | undefined {
  const time = new BigInt64Array(2); // struct timespec
  const clock = (~pid << 3) | 2;
  if (libc().clock_gettime(clock, new Uint8Array(time.buffer)) < 0) return undefined;
  return Number(time[0]!) * 1e3 + Number(time[1]!) / 1e6;
}

const SCHED_POLICIES = { other: 0, batch: 3 } as const;

/**
 * Sets the policy of all threads of process `pid`, sched(7); those that they start inherit it. Returns whether all
 * have it: not where the process has ended, or we may not.
 */
export function setSchedulingPolicy(pid: number, policy: keyof typeof SCHED_POLICIES): boolean {
  const priority = new Uint8Array(4); // struct sched_param: 0
  return unlessGone(() =>
    Array.from(Deno.readDirSync(`/proc/${pid}/task`)).every(({ name }) =>
      libc().sched_setscheduler(Number(name), SCHED_POLICIES[policy], priority) === 0
    )
  );
}

/**
 * Whether a thread of process `pid` waits in a read of the file `path`. By proc_pid_syscall(5): the number
 * of the system call, 0 for read on x86-64, and its arguments, the descriptor first.
 */
export function isBlockedReading(pid: number, path: string): boolean {
  const waits = (thread: string) => {
    const call = Deno.readTextFileSync(`/proc/${pid}/task/${thread}/syscall`).split(" ");
    if (call[0] !== "0" || call[1] === undefined) return false;
    return Deno.readLinkSync(`/proc/${pid}/fd/${Number(call[1])}`) === path;
  };
  return unlessGone(() =>
    Array.from(Deno.readDirSync(`/proc/${pid}/task`)).some(({ name }) =>
      unlessGone(() => waits(name))
    )
  );
}

/** What `look` sees; false where what it looks at has ended meanwhile. */
function unlessGone(look: () => boolean): boolean {
  try {
    return look();
  } catch (error) {
    if (!hasGone(error)) throw error;
    return false;
  }
}

/** A NUL-terminated string for C. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text + "\0");
}

/** errno of the last call on this thread; meaningful only straight after a call that failed. */
export function errno(): number {
  const location = libc().__errno_location();
  return location === null ? 0 : new Deno.UnsafePointerView(location).getInt32();
}

/** A raw file descriptor. The owner closes it. */
export type Fd = number;

/**
 * Opens `path`; `O_CLOEXEC` is always added.
 * @throws {HostError} with errno
 */
export function openFd(path: string, flags: number): Fd {
  const fd = libc().open(cString(path), flags | O_CLOEXEC, 0o600);
  if (fd < 0) throw new HostError(`open ${path}`, errno(), "");
  return fd;
}

export function closeFd(fd: Fd): void {
  libc().close(fd);
}

/** Lets the processes that are started from now on inherit `fd`, under the same number. */
export function makeInheritable(fd: Fd): void {
  if (libc().fcntl(fd, F_SETFD, 0n) < 0) throw new HostError("fcntl F_SETFD", errno(), "");
}

/** What a non-blocking read or write did: a byte count, or why there is none. */
export type Transfer = number | "again" | "closed";

/** Reads what is there. `"closed"` is the end of the stream: every writer has gone. */
export function readFd(fd: Fd, into: Uint8Array<ArrayBuffer>): Transfer {
  const n = Number(libc().read(fd, into, BigInt(into.length)));
  if (n > 0) return n;
  if (n === 0) return "closed";
  const code = errno();
  if (code === EAGAIN || code === EINTR) return "again";
  if (code === ECONNRESET) return "closed"; // a peer that has gone without reading all
  throw new HostError(`read of descriptor ${fd}`, code, "");
}

/** Writes what fits. `"closed"`: the reader has gone. */
export function writeFd(fd: Fd, bytes: Uint8Array<ArrayBuffer>): Transfer {
  const n = Number(libc().write(fd, bytes, BigInt(bytes.length)));
  if (n >= 0) return n;
  const code = errno();
  if (code === EAGAIN || code === EINTR) return "again";
  if (code === EPIPE || code === ECONNRESET) return "closed";
  throw new HostError(`write to descriptor ${fd}`, code, "");
}

/** Makes a FIFO with mode 0600. @throws {HostError} */
export function makeFifo(path: string): void {
  if (libc().mkfifo(cString(path), 0o600) < 0) throw new HostError(`mkfifo ${path}`, errno(), "");
}

/** Asks for a pipe buffer of `bytes`; returns what the kernel gave, which may be less. */
export function setPipeSize(fd: Fd, bytes: number): number {
  return libc().fcntl(fd, F_SETPIPE_SZ, BigInt(bytes));
}

/** Bytes that wait in a pipe or socket, unread. */
export function unreadBytes(fd: Fd): number {
  return queued(fd, FIONREAD);
}

/** How much the peer of a Unix socket has yet to read, in the kernel's accounting: 0 once it has all. */
export function unreadByPeer(fd: Fd): number {
  return queued(fd, SIOCOUTQ);
}

function queued(fd: Fd, request: bigint): number {
  const out = new Int32Array(1);
  if (libc().ioctl(fd, request, new Uint8Array(out.buffer)) < 0) return 0;
  return out[0]!;
}

/**
 * Connects to a Unix stream socket; the descriptor comes back non-blocking.
 * @throws {HostError} with errno: 2 no such socket, 111 nobody listens
 */
export function connectUnix(path: string): Fd {
  const name = new TextEncoder().encode(path);
  if (name.length > 107) throw new Error(`socket path too long: ${path}`);
  const address = new Uint8Array(2 + 108); // struct sockaddr_un
  address[0] = AF_UNIX;
  address.set(name, 2);
  const fd = libc().socket(AF_UNIX, SOCK_STREAM | O_NONBLOCK | O_CLOEXEC, 0);
  if (fd < 0) throw new HostError("socket", errno(), "");
  if (libc().connect(fd, address, 2 + name.length + 1) < 0) {
    const code = errno();
    closeFd(fd);
    throw new HostError(`connect to ${path}`, code, "");
  }
  return fd;
}

/**
 * Runs `work` with this thread in the network namespace `netnsPath`, then goes back.
 * `work` must be synchronous: the namespace belongs to the thread.
 */
export function inNetns<T>(netnsPath: string, work: () => T): T {
  const home = openFd("/proc/thread-self/ns/net", O_RDONLY);
  try {
    const there = openFd(netnsPath, O_RDONLY);
    try {
      if (libc().setns(there, CLONE_NEWNET) < 0) {
        throw new HostError(`setns ${netnsPath}`, errno(), "");
      }
    } finally {
      closeFd(there);
    }
    try {
      return work();
    } finally {
      leaveNetns(home);
    }
  } finally {
    closeFd(home);
  }
}

function leaveNetns(home: Fd): void {
  if (libc().setns(home, CLONE_NEWNET) < 0) {
    throw new Error(`cannot leave a network namespace: errno ${errno()}`);
  }
}

export const EPOLLIN = 1;
export const EPOLLOUT = 4;
export const EPOLLHUP = 16;
const EPOLL_EVENT_BYTES = 12; // packed on x86-64: u32 events, u64 data

/** An epoll instance: which of many descriptors are ready, in one call for all of them. */
export class Epoll {
  readonly #fd: Fd;
  readonly #events = new Uint8Array(EPOLL_EVENT_BYTES * 256);
  readonly #view = new DataView(this.#events.buffer);

  constructor() {
    this.#fd = libc().epoll_create1(O_CLOEXEC);
    if (this.#fd < 0) throw new HostError("epoll_create1", errno(), "");
  }

  /** Watches `fd` (level-triggered); `op` 1 adds, 2 removes, 3 modifies. */
  #control(op: 1 | 2 | 3, fd: Fd, events: number): void {
    const event = new Uint8Array(EPOLL_EVENT_BYTES);
    const view = new DataView(event.buffer);
    view.setUint32(0, events, true);
    view.setUint32(4, fd, true);
    if (libc().epoll_ctl(this.#fd, op, fd, event) < 0) {
      throw new HostError(`epoll_ctl of descriptor ${fd}`, errno(), "");
    }
  }

  add(fd: Fd, events: number): void {
    this.#control(1, fd, events);
  }

  remove(fd: Fd): void {
    this.#control(2, fd, 0);
  }

  /** What is ready now, or within `timeoutMs`, for which it holds up the event loop. Default: without waiting. */
  poll(ready: (fd: Fd, events: number) => void, timeoutMs = 0): number {
    return this.#deliver(libc().epoll_wait(this.#fd, this.#events, 256, timeoutMs), ready);
  }

  /** Waits up to `timeoutMs` without holding up the event loop. */
  async wait(timeoutMs: number, ready: (fd: Fd, events: number) => void): Promise<number> {
    waiting ??= Deno.dlopen("libc.so.6", nonblockingSymbols);
    const n = await waiting.symbols.epoll_wait(this.#fd, this.#events, 256, timeoutMs);
    return this.#deliver(n, ready);
  }

  #deliver(n: number, ready: (fd: Fd, events: number) => void): number {
    for (let i = 0; i < n; i++) {
      const at = i * EPOLL_EVENT_BYTES;
      ready(this.#view.getUint32(at + 4, true), this.#view.getUint32(at, true));
    }
    return Math.max(n, 0);
  }

  close(): void {
    closeFd(this.#fd);
  }
}
