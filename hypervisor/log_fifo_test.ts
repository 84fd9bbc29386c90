/** The FIFOs of the rr log, with `cat` and `dd` in the place of QEMU. */
import assert from "node:assert/strict";
import { HostError } from "../lib/errors.ts";
import { LogReader, LogWriter } from "./log_fifo.ts";

const DEADLINE_MS = 5_000;

async function withFifo(work: (path: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clrr-fifo-" });
  try {
    await work(`${directory}/rr`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Runs a shell script on the FIFO `$1`; it is ended if it takes too long. */
function shell(script: string, path: string): Deno.ChildProcess {
  return new Deno.Command("sh", {
    args: ["-c", script, "sh", path],
    stdin: "null",
    stdout: "piped",
    signal: AbortSignal.timeout(DEADLINE_MS),
  }).spawn();
}

/** Calls `look` every millisecond until it gives something. */
async function until<T>(look: () => T | undefined): Promise<T> {
  const deadline = performance.now() + DEADLINE_MS;
  while (performance.now() < deadline) {
    const seen = look();
    if (seen !== undefined) return seen;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error("nothing came in time");
}

function someBytes(length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => i * 7 + (i >> 8));
}

Deno.test("reader: everything that was written, then the end", () =>
  withFifo(async (path) => {
    const log = someBytes(3_000_000); // more than the pipe holds
    await Deno.writeFile(`${path}.log`, log);
    const reader = new LogReader(path);
    const writer = shell('cat "$1.log" > "$1"', path);
    const got = new Uint8Array(log.length);
    let at = 0;
    await until(() => {
      const chunk = reader.read(false);
      if (chunk === "closed") return true;
      if (chunk === "again") return undefined;
      assert.ok(chunk.length <= 1 << 20);
      got.set(chunk, at);
      at += chunk.length;
      return undefined;
    });
    assert.equal(at, log.length);
    assert.ok(got.every((byte, i) => byte === log[i]));
    assert.equal(reader.read(false), "closed", "for good");
    reader.close();
    await writer.output();
  }));

Deno.test("reader: before QEMU has opened the FIFO, it is empty; after it has gone, over", () =>
  withFifo((path) => {
    const reader = new LogReader(path);
    assert.equal(reader.read(false), "again");
    assert.equal(reader.read(false), "again");
    assert.equal(reader.read(true), "closed", "QEMU ended without a byte");
    reader.close();
    return Promise.resolve();
  }));

Deno.test("reader: a writer that is silent is no end", () =>
  withFifo(async (path) => {
    const reader = new LogReader(path);
    const writer = shell(
      'exec 3> "$1"; printf ab >&3; until [ -e "$1.go" ]; do sleep 0.01; done; printf c >&3',
      path,
    );
    const next = () =>
      until(() => {
        const chunk = reader.read(false);
        return chunk === "again" ? undefined : chunk === "closed" ? chunk : chunk.slice();
      });
    assert.deepEqual(await next(), new TextEncoder().encode("ab"));
    assert.equal(reader.read(true), "again");
    await Deno.writeTextFile(`${path}.go`, "");
    assert.deepEqual(await next(), new TextEncoder().encode("c"));
    assert.equal(await next(), "closed");
    await writer.output();
  }));

Deno.test("writer: takes what fits, says what waits, and goes on when there is room", () =>
  withFifo(async (path) => {
    const writer = new LogWriter(path);
    const log = someBytes(300_000);
    let at = 0;
    const write = () => {
      const went = writer.write(log.subarray(at));
      if (typeof went === "number") at += went;
      return went;
    };
    while (write() !== "again") assert.ok(at < log.length, "a FIFO has an end");
    assert.equal(writer.unread(), at);
    const qemu = shell('head -c 300000 "$1"', path);
    const output = qemu.output();
    await until(() => {
      assert.notEqual(write(), "closed");
      return at === log.length ? true : undefined;
    });
    const { stdout } = await output;
    assert.equal(stdout.length, log.length);
    assert.ok(stdout.every((byte, i) => byte === log[i]));
    assert.equal(writer.unread(), 0);
    writer.close();
    assert.equal(writer.write(log), "closed");
    assert.equal(writer.unread(), 0);
    writer.close();
  }));

Deno.test("a FIFO of another run is not taken over", () =>
  withFifo((path) => {
    const reader = new LogReader(path);
    assert.throws(
      () => new LogWriter(path),
      (error) => error instanceof HostError && error.code === 17 && error.message.includes(path),
    );
    reader.close();
    return Promise.resolve();
  }));
