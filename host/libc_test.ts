/** System calls on real descriptors: FIFOs, sockets, epoll, network namespaces. */
import assert from "node:assert/strict";
import { HostError } from "../lib/errors.ts";
import { run } from "./command.ts";
import {
  closeFd,
  connectUnix,
  cpuTimeMs,
  ENXIO,
  Epoll,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  type Fd,
  inNetns,
  makeFifo,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  openFd,
  readFd,
  setPipeSize,
  unreadBytes,
  writeFd,
} from "./libc.ts";

const ENOENT = 2;
const EBADF = 9;
const EEXIST = 17;
const ECONNREFUSED = 111;

async function withDirectory(work: (directory: string) => Promise<void> | void): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clrr-libc-" });
  try {
    await work(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Gives `work` the two ends of a FIFO. */
function withFifo(work: (reader: Fd, writer: Fd) => Promise<void> | void): Promise<void> {
  return withDirectory(async (directory) => {
    const path = `${directory}/fifo`;
    makeFifo(path);
    const reader = openFd(path, O_RDONLY | O_NONBLOCK);
    const writer = openFd(path, O_WRONLY | O_NONBLOCK);
    try {
      await work(reader, writer);
    } finally {
      closeFd(reader);
      closeFd(writer);
    }
  });
}

const failsWith = (code: number, word: string) => (error: unknown) => {
  assert.ok(error instanceof HostError, String(error));
  assert.equal(error.code, code);
  assert.ok(error.command.includes(word), error.command);
  return true;
};

Deno.test("libc: a FIFO is empty, holds bytes, or has been left by its writer", () =>
  withDirectory((directory) => {
    const path = `${directory}/fifo`;
    makeFifo(path);
    assert.equal(Deno.statSync(path).mode! & 0o777, 0o600);
    assert.throws(() => openFd(path, O_WRONLY | O_NONBLOCK), failsWith(ENXIO, path));
    const reader = openFd(path, O_RDONLY | O_NONBLOCK);
    const buffer = new Uint8Array(8);
    assert.equal(readFd(reader, buffer), "closed", "nobody has opened it for writing");
    const writer = openFd(path, O_WRONLY | O_NONBLOCK);
    assert.equal(readFd(reader, buffer), "again");
    assert.equal(writeFd(writer, Uint8Array.of(1, 2, 3)), 3);
    assert.equal(unreadBytes(reader), 3);
    assert.equal(readFd(reader, buffer.subarray(0, 2)), 2);
    assert.deepEqual([...buffer.subarray(0, 2)], [1, 2]);
    closeFd(writer);
    assert.equal(readFd(reader, buffer), 1, "what was written comes before the end");
    assert.equal(readFd(reader, buffer), "closed");
    closeFd(reader);
  }));

Deno.test("libc: a full FIFO takes no more, one without a reader is closed", () =>
  withDirectory((directory) => {
    const path = `${directory}/fifo`;
    makeFifo(path);
    const reader = openFd(path, O_RDONLY | O_NONBLOCK);
    const writer = openFd(path, O_WRONLY | O_NONBLOCK);
    const size = setPipeSize(writer, 4096);
    assert.equal(size, 4096);
    assert.equal(writeFd(writer, new Uint8Array(10_000)), size);
    assert.equal(writeFd(writer, new Uint8Array(1)), "again");
    closeFd(reader);
    assert.equal(writeFd(writer, new Uint8Array(1)), "closed", "and this process lives on");
    closeFd(writer);
  }));

Deno.test("libc: what fails says on what, and with which errno", () =>
  withDirectory((directory) => {
    assert.throws(() => openFd(`${directory}/no`, O_RDONLY), failsWith(ENOENT, `${directory}/no`));
    assert.throws(() => readFd(-1, new Uint8Array(1)), failsWith(EBADF, "descriptor -1"));
    assert.throws(() => writeFd(-1, new Uint8Array(1)), failsWith(EBADF, "descriptor -1"));
    makeFifo(`${directory}/fifo`);
    assert.throws(() => makeFifo(`${directory}/fifo`), failsWith(EEXIST, `${directory}/fifo`));
  }));

Deno.test("libc: descriptors are not handed on to child processes", () =>
  withDirectory(async (directory) => {
    Deno.writeTextFileSync(`${directory}/secret`, "");
    const fd = openFd(`${directory}/secret`, O_RDWR);
    assert.equal(Deno.readLinkSync(`/proc/self/fd/${fd}`), `${directory}/secret`);
    assert.doesNotMatch(await run(["ls", "-l", "/proc/self/fd"]), /secret/);
    closeFd(fd);
  }));

Deno.test("libc: a Unix socket is connected to, or the reason is told", () =>
  withDirectory(async (directory) => {
    const path = `${directory}/socket`;
    assert.throws(() => connectUnix(path), failsWith(ENOENT, path));
    const listener = Deno.listen({ transport: "unix", path });
    const fd = connectUnix(path);
    const peer = await listener.accept();
    const buffer = new Uint8Array(4);
    assert.equal(readFd(fd, buffer), "again", "it does not block");
    await peer.write(Uint8Array.of(7));
    assert.equal(readFd(fd, buffer), 1);
    peer.close();
    assert.equal(readFd(fd, buffer), "closed");
    closeFd(fd);
    listener.close();
    Deno.writeTextFileSync(`${directory}/file`, "");
    assert.throws(() => connectUnix(`${directory}/file`), failsWith(ECONNREFUSED, "file"));
    assert.throws(() => connectUnix(`/${"x".repeat(107)}`), /socket path too long/);
  }));

Deno.test("libc: epoll tells which descriptors are ready, and for what", () =>
  withFifo((reader, writer) => {
    const epoll = new Epoll();
    const ready = () => {
      const seen = new Map<Fd, number>();
      assert.equal(epoll.poll((fd, events) => seen.set(fd, events)), seen.size);
      return seen;
    };
    try {
      epoll.add(reader, EPOLLIN);
      assert.deepEqual(ready(), new Map());
      writeFd(writer, Uint8Array.of(1));
      assert.deepEqual(ready(), new Map([[reader, EPOLLIN]]));
      assert.deepEqual(ready(), new Map([[reader, EPOLLIN]]), "until it is read");
      epoll.add(writer, EPOLLOUT);
      assert.deepEqual(ready(), new Map([[reader, EPOLLIN], [writer, EPOLLOUT]]));
      epoll.remove(reader);
      assert.deepEqual(ready(), new Map([[writer, EPOLLOUT]]));
      assert.throws(() => epoll.remove(reader), failsWith(ENOENT, `descriptor ${reader}`));
      assert.throws(() => epoll.add(writer, EPOLLOUT), failsWith(EEXIST, `descriptor ${writer}`));
    } finally {
      epoll.close();
    }
  }));

Deno.test("libc: epoll waits without holding up the event loop, no longer than asked", () =>
  withFifo(async (reader, writer) => {
    const epoll = new Epoll();
    try {
      epoll.add(reader, EPOLLIN);
      assert.equal(await epoll.wait(5, () => assert.fail("nothing is ready")), 0);
      const timer = setTimeout(() => writeFd(writer, Uint8Array.of(1)), 20);
      const seen: Fd[] = [];
      assert.equal(await epoll.wait(5_000, (fd) => seen.push(fd)), 1);
      assert.deepEqual(seen, [reader]);
      clearTimeout(timer);
    } finally {
      epoll.close();
    }
  }));

Deno.test("libc: epoll reports a writer that has gone", () =>
  withDirectory((directory) => {
    makeFifo(`${directory}/fifo`);
    const reader = openFd(`${directory}/fifo`, O_RDONLY | O_NONBLOCK);
    const writer = openFd(`${directory}/fifo`, O_WRONLY | O_NONBLOCK);
    const epoll = new Epoll();
    epoll.add(reader, EPOLLIN);
    closeFd(writer);
    let events = 0;
    epoll.poll((_fd, what) => events = what);
    assert.equal(events, EPOLLHUP);
    epoll.close();
    closeFd(reader);
  }));

Deno.test("libc: CPU time of a process, while there is one", async () => {
  const before = cpuTimeMs(Deno.pid)!;
  const until = performance.now() + 30;
  while (performance.now() < until);
  const used = cpuTimeMs(Deno.pid)! - before;
  assert.ok(used > 0 && used < 60_000, `${used} ms`);
  const child = new Deno.Command("true").spawn();
  await child.status;
  assert.equal(cpuTimeMs(child.pid), undefined);
});

Deno.test({
  name: "libc: a network namespace is left again, whatever happens in it",
  ignore: Deno.uid() !== 0 && (console.warn("skipped: network namespaces need root"), true),
  fn: async () => {
    const name = `clrr-t${crypto.randomUUID().slice(0, 6)}`;
    const current = () => Deno.readLinkSync("/proc/thread-self/ns/net");
    const home = current();
    await run(["ip", "netns", "add", name]);
    try {
      const path = `/run/netns/${name}`;
      const there = inNetns(path, current);
      assert.match(there, /^net:\[\d+\]$/);
      assert.notEqual(there, home);
      assert.equal(current(), home);
      assert.throws(
        () =>
          inNetns(path, () => {
            assert.equal(current(), there);
            throw new Error("thrown inside");
          }),
        /thrown inside/,
      );
      assert.equal(current(), home);
      const nested = inNetns(path, () => {
        inNetns(path, () => {});
        return current();
      });
      assert.equal(nested, there, "back to where it was called");
      assert.throws(() => inNetns("/run/netns/clrr-none", current), failsWith(ENOENT, "clrr-none"));
      assert.throws(() => inNetns("/dev/null", current), failsWith(22, "setns /dev/null"));
      assert.equal(current(), home);
    } finally {
      await run(["ip", "netns", "del", name]);
    }
  },
});
