/** Processes and threads that end while they are looked at: between the open and the read of a file below /proc. */
import assert from "node:assert/strict";
import { closeFd, isBlockedReading, makeFifo, O_RDWR, openFd, writeFd } from "./libc.ts";
import { hasGone, statFields } from "./process_stat.ts";
import { startTicks } from "./run_directory.ts";
import { until } from "../lib/until_fixture.ts";

/** What Deno throws where a process has ended after its file was opened. */
async function errorOfRead(): Promise<unknown> {
  const child = new Deno.Command("sleep", { args: ["60"], stdin: "null" }).spawn();
  using file = await Deno.open(`/proc/${child.pid}/stat`);
  child.kill("SIGKILL");
  await child.status;
  try {
    file.readSync(new Uint8Array(1));
  } catch (error) {
    return error;
  }
  throw new Error("a process that has ended can be read");
}

/** Runs `work` while each read of a text file whose path `chosen` is true of throws `error`. */
function whileReadsFail(error: unknown, chosen: (path: string) => boolean, work: () => void) {
  const read = Deno.readTextFileSync;
  try {
    Deno.readTextFileSync = (path) => {
      if (chosen(String(path))) throw error;
      return read(path);
    };
    work();
  } finally {
    Deno.readTextFileSync = read;
  }
}

Deno.test("a process has gone, before its file is opened or after", async () => {
  const ended = await errorOfRead();
  assert.match(String(ended), /No such process \(os error 3\)/);
  assert.ok(!(ended instanceof Deno.errors.NotFound));
  assert.ok(hasGone(ended));
  const child = new Deno.Command("true").spawn();
  await child.status;
  assert.throws(() => statFields(child.pid), hasGone);
  assert.ok(!hasGone(new Deno.errors.PermissionDenied("Permission denied (os error 13)")));
  assert.ok(!hasGone(new Error("Read-only file system (os error 30)")));
  whileReadsFail(ended, () => true, () => assert.equal(startTicks(Deno.pid), undefined));
});

Deno.test("a thread waits in a read, whichever other thread ends meanwhile", async () => {
  const directory = await Deno.makeTempDir({ prefix: "clrr-process-" });
  const path = `${directory}/fifo`;
  makeFifo(path);
  const writer = openFd(path, O_RDWR);
  try {
    assert.equal(isBlockedReading(Deno.pid, path), false);
    using file = await Deno.open(path);
    const reading = file.read(new Uint8Array(1)); // one of Deno's blocking threads waits in it
    await until(() => isBlockedReading(Deno.pid, path));
    const ended = await errorOfRead();
    const syscallOf = (thread: string) => `/proc/${Deno.pid}/task/${thread}/syscall`;
    const threads = [...Deno.readDirSync(`/proc/${Deno.pid}/task`)].map(({ name }) => name);
    const seen = threads.filter((thread) => {
      let seen = false;
      whileReadsFail(
        ended,
        (of) => of === syscallOf(thread),
        () => seen = isBlockedReading(Deno.pid, path),
      );
      return seen;
    });
    assert.equal(seen.length, threads.length - 1, "all but the one that waits may end");
    writeFd(writer, Uint8Array.of(1));
    assert.equal(await reading, 1);
    assert.equal(isBlockedReading(Deno.pid, path), false);
  } finally {
    closeFd(writer);
    await Deno.remove(directory, { recursive: true });
  }
});
