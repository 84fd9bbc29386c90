import assert from "node:assert/strict";
import { HostError, QmpError } from "../../lib/errors.ts";
import { queryReplay, queryStatus } from "../qmp/commands.ts";
import { nextEvent } from "../qmp/next_event_fixture.ts";
import { bareVm, endsWithin, hasEnded, withBareVm, withDirectory } from "./bare_vm.ts";
import { QemuProcess } from "./process.ts";

Deno.test("a QEMU starts paused, runs, stops and quits", async () => {
  await withBareVm([], async (qemu) => {
    assert.deepEqual(await queryStatus(qemu.qmp), { running: false, status: "prelaunch" });
    await qemu.cont();
    assert.deepEqual(await queryStatus(qemu.qmp), { running: true, status: "running" });
    await qemu.stop();
    assert.deepEqual(await queryStatus(qemu.qmp), { running: false, status: "paused" });
    assert.deepEqual(await queryReplay(qemu.qmp), { mode: "none", icount: 0 });
    assert.deepEqual(await qemu.end(5_000), { code: 0, signal: null });
    assert.deepEqual(await qemu.exited, { code: 0, signal: null });
    assert.deepEqual(await qemu.end(10), { code: 0, signal: null }, "end after the end");
    await assert.rejects(qemu.cont(), QmpError);
  });
});

Deno.test("a recording counts instructions", async () => {
  await withDirectory(async (directory) => {
    const rr = ["-icount", `shift=3,rr=record,rrfile=${directory}/rr`];
    const qemu = await QemuProcess.start(await bareVm(directory, rr));
    try {
      assert.deepEqual(await queryReplay(qemu.qmp), { mode: "record", icount: 0 });
      await qemu.cont();
      await new Promise((resume) => setTimeout(resume, 200));
      await qemu.stop();
      const first = await queryReplay(qemu.qmp);
      assert(first.icount > 10_000, `${first.icount}`);
      assert.deepEqual(await queryReplay(qemu.qmp), first, "a paused VM stands still");
    } finally {
      assert.deepEqual(await qemu.end(5_000), { code: 0, signal: null });
    }
    assert((await Deno.stat(`${directory}/rr`)).size > 100, "quit writes the log out");
  });
});

Deno.test("a refused option fails the start with QEMU's own words", async () => {
  for (
    const [extra, words] of [
      [["-device", "no-such-device"], /no-such-device/],
      [["-drive", "file=/nonexistent.img,format=raw,if=none,id=d"], /\/nonexistent\.img/],
      [["-kernel", "/nonexistent/vmlinuz"], /\/nonexistent\/vmlinuz/],
    ] as const
  ) {
    await withDirectory(async (directory) => {
      const options = await bareVm(directory, extra);
      await assert.rejects(QemuProcess.start(options), (error: unknown) => {
        assert(error instanceof HostError, `${error}`);
        assert.equal(error.code, 1);
        assert.match(error.stderr, words);
        assert(error.message.includes(options.logPath), error.message);
        return true;
      });
      const log = await Deno.readTextFile(options.logPath);
      assert.match(log, /^\$ setpriv --pdeathsig KILL -- .*qemu-system-x86_64/);
      assert.match(log, words);
    });
  }
});

Deno.test("of much output the end is in the error, all of it in the log", async () => {
  await withDirectory(async (directory) => {
    const script = "head -c 100000 /dev/zero | tr '\\0' x >&2; echo the reason >&2; exit 3";
    const options = { ...await bareVm(directory, []), argv: ["sh", "-c", script] };
    await assert.rejects(QemuProcess.start(options), (error: unknown) => {
      assert(error instanceof HostError);
      assert.equal(error.code, 3);
      assert.equal(error.stderr, "x".repeat(4096 - 11) + "the reason\n");
      return true;
    });
    const log = await Deno.readTextFile(options.logPath);
    assert(log.endsWith(`\n${"x".repeat(100_000)}the reason\n`));
  });
});

Deno.test("a missing program is a failed start", async () => {
  await withDirectory(async (directory) => {
    const options = { ...await bareVm(directory, []), argv: ["/nonexistent/qemu"] };
    await assert.rejects(QemuProcess.start(options), (error: unknown) => {
      assert(error instanceof HostError);
      assert.match(error.stderr, /\/nonexistent\/qemu/);
      return true;
    });
  });
});

Deno.test("a monitor that does not come is a timeout, an interrupt its reason; nothing is left", async () => {
  await withDirectory(async (directory) => {
    const argv = ["sh", "-c", `echo $$ > ${directory}/pid; exec sleep 60`];
    const options = { ...await bareVm(directory, []), argv };
    const pidOf = async () => Number(await Deno.readTextFile(`${directory}/pid`));
    await assert.rejects(
      QemuProcess.start({ ...options, timeoutMs: 3_000 }),
      (error: unknown) => error instanceof QmpError && error.errorClass === "Timeout",
    );
    assert(hasEnded(await pidOf()));
    const why = new Error("the user has had enough");
    const abort = new AbortController();
    setTimeout(() => abort.abort(why), 3_000);
    await assert.rejects(QemuProcess.start({ ...options, signal: abort.signal }), why);
    assert(hasEnded(await pidOf()));
    await assert.rejects(QemuProcess.start({ ...options, signal: abort.signal }), why);
  });
});

Deno.test("a killed QEMU fails pending calls and tells its signal", async () => {
  await withBareVm([], async (qemu) => {
    const waiting = assert.rejects(nextEvent(qemu.qmp, "STOP", 20_000), QmpError);
    Deno.kill(qemu.pid, "SIGKILL");
    assert.deepEqual(await qemu.exited, { code: 137, signal: "SIGKILL" });
    await waiting;
  });
});

Deno.test("a QEMU that somebody else asked to end tells who, not one that we end", async () => {
  await withBareVm([], async (qemu) => {
    await qemu.cont();
    Deno.kill(qemu.pid, "SIGTERM");
    assert.deepEqual(await qemu.exited, { code: 0, signal: null });
    assert.match(qemu.endedBy ?? "", /^signal 15 from pid \d+/);
  });
  await withBareVm([], async (qemu) => {
    assert.deepEqual(await qemu.end(5_000), { code: 0, signal: null });
    assert.equal(qemu.endedBy, undefined);
  });
});

Deno.test("end gets through to a QEMU that does not answer", async () => {
  await withBareVm([], async (qemu) => {
    Deno.kill(qemu.pid, "SIGSTOP");
    const start = performance.now();
    assert.deepEqual(await qemu.end(200), { code: 137, signal: "SIGKILL" });
    assert(performance.now() - start < 5_000);
    assert(hasEnded(qemu.pid));
  });
});

Deno.test("end is shared by those who call it", async () => {
  await withBareVm([], async (qemu) => {
    assert.equal(qemu.end(5_000), qemu.end(0));
    assert.deepEqual(await qemu.exited, { code: 0, signal: null });
  });
});

Deno.test("QEMU runs inside what the prefix enters, and is our own child", async () => {
  await withDirectory(async (directory) => {
    const options = {
      ...await bareVm(directory, []),
      enter: ["nsenter", "--net=/proc/self/ns/net"],
    };
    const qemu = await QemuProcess.start(options);
    try {
      assert.match(await Deno.readTextFile(`/proc/${qemu.pid}/comm`), /^qemu-system/);
    } finally {
      await qemu.end(2_000);
    }
  });
});

Deno.test("QEMU dies with us when we are killed", async () => {
  await withDirectory(async (directory) => {
    const script = `
      import { bareVm } from ${JSON.stringify(import.meta.resolve("./bare_vm.ts"))};
      import { QemuProcess } from ${JSON.stringify(import.meta.resolve("./process.ts"))};
      const qemu = await QemuProcess.start(await bareVm(${JSON.stringify(directory)}, []));
      console.log(qemu.pid);
      setInterval(() => {}, 1000);
    `;
    await Deno.writeTextFile(`${directory}/parent.ts`, script);
    const config = new URL(import.meta.resolve("../../deno.json")).pathname;
    const parent = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "--config", config, `${directory}/parent.ts`],
      stdout: "piped",
    }).spawn();
    const output = parent.stdout.getReader();
    const { value } = await output.read();
    const pid = Number(new TextDecoder().decode(value));
    try {
      assert(pid > 0 && !hasEnded(pid), "QEMU runs");
    } finally {
      parent.kill("SIGKILL");
      await parent.status;
      await output.cancel();
    }
    assert(await endsWithin(pid, 5_000), `QEMU ${pid} survived`);
  });
});
