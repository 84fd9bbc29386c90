/**
 * A worker for tests: writes `count` broadcast frames into a tap that is open already, as fast as it
 * can, so that several VMs send at the same time on several CPUs.
 */
import { FramePort, macOf, testFrame } from "./tap_fixture.ts";

/** What to send: frame i carries the text `<vm>:<i>`. */
export interface WriterOrder {
  /** One Int32 that counts the writers that are ready; nobody starts before it is `writers`. */
  readonly gate: SharedArrayBuffer;
  readonly writers: number;
  readonly fd: number;
  readonly vm: number;
  readonly count: number;
  /** Bytes of a frame. Default 60. */
  readonly bytes?: number;
}

declare const self: { postMessage(message: "done"): void };

addEventListener("message", (event) => {
  const { gate, writers, fd, vm, count, bytes = 60 } = (event as MessageEvent<WriterOrder>).data;
  const port = new FramePort(fd);
  const ready = new Int32Array(gate);
  Atomics.add(ready, 0, 1);
  Atomics.notify(ready, 0);
  for (let n = Atomics.load(ready, 0); n < writers; n = Atomics.load(ready, 0)) {
    if (Atomics.wait(ready, 0, n, 10_000) === "timed-out") throw new Error("a writer is missing");
  }
  const frame = new Uint8Array(bytes);
  for (let i = 0; i < count; i++) {
    frame.set(testFrame(macOf(vm), `${vm}:${i}`));
    port.send(frame);
  }
  self.postMessage("done");
});
