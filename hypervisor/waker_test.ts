/** The wake-up line: one byte at a time, none to a monitor that has not read the last one. */
import assert from "node:assert/strict";
import { HostError } from "../lib/errors.ts";
import { ignoreSigpipe } from "../host/libc.ts";
import { Waker } from "./waker.ts";

const CTRL_A = 1;

async function withMonitor(
  work: (waker: Waker, monitor: Deno.UnixConn) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clrr-waker-" });
  const path = `${directory}/wake`;
  const listener = Deno.listen({ transport: "unix", path });
  const waker = new Waker(path);
  const monitor = await listener.accept();
  try {
    await work(waker, monitor);
  } finally {
    waker.close();
    hangUp(monitor);
    listener.close();
    await Deno.remove(directory, { recursive: true });
  }
}

function hangUp(monitor: Deno.UnixConn): void {
  try {
    monitor.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error; // the test did
  }
}

Deno.test("waker: a monitor that reads gets a byte a wake-up", () =>
  withMonitor(async (waker, monitor) => {
    const bytes = new Uint8Array(16);
    for (let i = 0; i < 3; i++) {
      waker.wake();
      assert.equal(await monitor.read(bytes), 1);
      assert.equal(bytes[0], CTRL_A);
    }
  }));

Deno.test("waker: no second wake-up while one is under way", () =>
  withMonitor(async (waker, monitor) => {
    for (let i = 0; i < 100; i++) waker.wake();
    const bytes = new Uint8Array(200);
    assert.equal(await monitor.read(bytes), 1);
    waker.wake();
    assert.equal(await monitor.read(bytes), 1, "once it was read, there is another one");
  }));

Deno.test("waker: a QEMU that has ended is not woken, and one without a monitor not connected to", () =>
  withMonitor((waker, monitor) => {
    ignoreSigpipe();
    waker.wake();
    monitor.close();
    waker.wake(); // the byte before was never read: ECONNRESET
    waker.wake(); // EPIPE
    assert.throws(() => new Waker("/nonexistent/wake"), HostError);
    return Promise.resolve();
  }));
