import assert from "node:assert/strict";
import { closeFd, connectUnix, type Fd, readFd } from "../host/libc.ts";
import { LogWriter } from "./log_fifo.ts";
import { Readiness } from "./readiness.ts";

/** Longer than any test takes: a wait that should not return at once would fail by it. */
const LONG_MS = 5000;

interface Bench {
  readonly readiness: Readiness;
  readonly directory: string;
  /** A capture's socket and its other end. */
  readonly fd: Fd;
  readonly peer: Deno.UnixConn;
  /** Closes the other end. */
  readonly hangUp: () => void;
}

async function withBench(work: (bench: Bench) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clrr-ready-" });
  const listener = Deno.listen({ transport: "unix", path: `${directory}/capture` });
  const readiness = new Readiness();
  const fd = connectUnix(`${directory}/capture`);
  const peer = await listener.accept();
  let open = true;
  const hangUp = () => {
    if (open) peer.close();
    open = false;
  };
  try {
    await work({ readiness, directory, fd, peer, hangUp });
  } finally {
    readiness.close();
    closeFd(fd);
    hangUp();
    listener.close();
    await Deno.remove(directory, { recursive: true });
  }
}

/** How long a wait of up to `timeoutMs` takes. */
async function waitMs(readiness: Readiness, timeoutMs: number, alone = false): Promise<number> {
  const startedAt = performance.now();
  await readiness.wait(timeoutMs, alone);
  return performance.now() - startedAt;
}

Deno.test("a captured frame ends the wait, until it has been read", () =>
  withBench(async ({ readiness, fd, peer }) => {
    readiness.addCapture(fd);
    assert.ok(await waitMs(readiness, 60) >= 50);
    const waiting = waitMs(readiness, LONG_MS);
    await peer.write(Uint8Array.of(1, 2, 3));
    assert.ok(await waiting < LONG_MS / 2);
    assert.ok(await waitMs(readiness, LONG_MS) < LONG_MS / 2, "it is still there");
    assert.equal(readFd(fd, new Uint8Array(8)), 3);
    assert.ok(await waitMs(readiness, 60) >= 50);
  }));

Deno.test("a wait on this thread ends at a frame too, and lets others work in between", () =>
  withBench(async ({ readiness, fd, peer }) => {
    readiness.addCapture(fd);
    assert.ok(await waitMs(readiness, 60, true) >= 50);
    const written = peer.write(Uint8Array.of(1, 2, 3));
    let waits = 0;
    let done = false;
    written.then(() => done = true);
    while (!done && waits++ < 1000) await readiness.wait(1, true);
    assert.ok(done, "the write has ended between two waits");
    assert.ok(await waitMs(readiness, LONG_MS, true) < LONG_MS / 2);
  }));

Deno.test("a capture whose QEMU has gone ends one wait, not every one", () =>
  withBench(async ({ readiness, fd, hangUp }) => {
    readiness.addCapture(fd);
    hangUp();
    assert.ok(await waitMs(readiness, LONG_MS) < LONG_MS / 2);
    assert.ok(await waitMs(readiness, 60) >= 50);
    readiness.removeCapture(fd); // as at the VM's end: it is no error
  }));

Deno.test("room in a log ends the wait only while it is wanted", () =>
  withBench(async ({ readiness, directory }) => {
    const log = new LogWriter(`${directory}/rr`);
    readiness.addLog(7, log.fd);
    assert.ok(await waitMs(readiness, 60) >= 50);
    readiness.wantWrite(7, true);
    readiness.wantWrite(7, true);
    assert.ok(await waitMs(readiness, LONG_MS) < LONG_MS / 2);
    while (typeof log.write(new Uint8Array(4096)) === "number");
    assert.ok(await waitMs(readiness, 60) >= 50, "it is full");
    readFd(log.fd, new Uint8Array(1 << 20));
    assert.ok(await waitMs(readiness, LONG_MS) < LONG_MS / 2);
    readiness.removeLog(7);
    assert.ok(await waitMs(readiness, 60) >= 50);
    readiness.wantWrite(7, true); // a log that is gone wants nothing
    assert.ok(await waitMs(readiness, 60) >= 50);
    log.close();
  }));
