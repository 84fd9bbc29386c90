import assert from "node:assert/strict";
import { ProtocolError, QmpError } from "../../lib/errors.ts";
import { QmpClient } from "./client.ts";
import { queryReplay, registers } from "./commands.ts";
import { type FakeCommand, GREETING, withFakeMonitor } from "./fake_monitor.ts";

const EVENT = '{"timestamp":{"seconds":1,"microseconds":0},"event":"STOP","data":{"n":1}}\r\n';
const QUICK = { timeoutMs: 5_000 };

function refusal(errorClass: string, command?: string) {
  return (error: unknown) => {
    assert(error instanceof QmpError, `not a QmpError: ${error}`);
    assert.equal(error.errorClass, errorClass);
    if (command !== undefined) assert.equal(error.command, command);
    return true;
  };
}

Deno.test("replies are routed by id, in whatever order they come", async () => {
  await withFakeMonitor(async (peer) => {
    await peer.greet();
    const commands: FakeCommand[] = [];
    for (let i = 0; i < 3; i++) commands.push(await peer.command());
    for (const command of commands.reverse()) await peer.reply(command, command.arguments);
  }, async (path) => {
    const qmp = await QmpClient.connect(path, QUICK);
    const values = await Promise.all([1, 2, 3].map((n) => qmp.execute("echo", { n }, QUICK)));
    assert.deepEqual(values, [{ n: 1 }, { n: 2 }, { n: 3 }]);
    await qmp.close();
  });
});

Deno.test("a refused command is a QmpError with QEMU's class and words", async () => {
  await withFakeMonitor(async (peer) => {
    await peer.greet();
    const { id } = await peer.command();
    await peer.send(`{"id":${id},"error":{"class":"CommandNotFound","desc":"no such thing"}}\r\n`);
  }, async (path) => {
    const qmp = await QmpClient.connect(path, QUICK);
    await assert.rejects(qmp.execute("nonsense", {}, QUICK), (error: unknown) => {
      refusal("CommandNotFound", "nonsense")(error);
      assert.match(String(error), /no such thing/);
      return true;
    });
    await qmp.close();
  });
});

Deno.test("events reach listeners, also ahead of the reply", async () => {
  await withFakeMonitor(async (peer) => {
    await peer.greet();
    const command = await peer.command();
    await peer.send(EVENT + EVENT);
    await peer.reply(command, {});
  }, async (path) => {
    const qmp = await QmpClient.connect(path, QUICK);
    let heard = 0;
    qmp.on("STOP", (event) => {
      assert.deepEqual(event, { name: "STOP", data: { n: 1 }, timestampUs: 1_000_000 });
      heard++;
    });
    await qmp.execute("stop", {}, QUICK);
    assert.equal(heard, 2);
    await qmp.close();
  });
});

Deno.test("a reply that is late is a timeout, and the connection stays usable", async () => {
  await withFakeMonitor(async (peer) => {
    await peer.greet();
    const slow = await peer.command();
    const second = await peer.command();
    await peer.reply(slow, "too late");
    await peer.reply(second, "in time");
  }, async (path) => {
    const qmp = await QmpClient.connect(path, QUICK);
    await assert.rejects(
      qmp.execute("slow", {}, { timeoutMs: 20 }),
      refusal("Timeout", "slow"),
    );
    assert.equal(await qmp.execute("fast", {}, QUICK), "in time");
    await qmp.close();
  });
});

Deno.test("a disconnect fails every pending and every later call", async () => {
  await withFakeMonitor(async (peer) => {
    await peer.greet();
    await peer.command();
    await peer.command();
  }, async (path) => {
    const qmp = await QmpClient.connect(path, QUICK);
    const calls = await Promise.allSettled([
      qmp.execute("one", {}, QUICK),
      qmp.execute("two", {}, QUICK),
    ]);
    for (const [i, command] of ["one", "two"].entries()) {
      const call = calls[i]!;
      assert(call.status === "rejected");
      refusal("Disconnected", command)(call.reason);
    }
    await qmp.closed;
    await assert.rejects(qmp.execute("three", {}, QUICK), refusal("Disconnected", "three"));
  });
});

Deno.test("close fails what is pending and can be repeated", async () => {
  const received = Promise.withResolvers<void>();
  await withFakeMonitor(async (peer) => {
    await peer.greet();
    await peer.command();
    received.resolve();
  }, async (path) => {
    const qmp = await QmpClient.connect(path, QUICK);
    const pending = assert.rejects(qmp.execute("one", {}, QUICK), refusal("Disconnected", "one"));
    await received.promise;
    await qmp.close();
    await qmp.close();
    await pending;
  });
});

for (
  const [what, garbage] of [
    ["malformed JSON", "{what?\r\n"],
    ["a message of no kind", "{}\r\n"],
    ["a reply to nothing", '{"return":{},"id":99}\r\n'],
  ] as const
) {
  Deno.test(`${what} ends the connection with a ProtocolError`, async () => {
    await withFakeMonitor(async (peer) => {
      await peer.greet();
      await peer.command();
      await peer.send(garbage);
      await assert.rejects(peer.command(), /the client has gone|reset/);
    }, async (path) => {
      const qmp = await QmpClient.connect(path, QUICK);
      await assert.rejects(qmp.execute("one", {}, QUICK), ProtocolError);
      await assert.rejects(qmp.execute("two", {}, QUICK), ProtocolError);
    });
  });
}

Deno.test("a peer that is no monitor is refused", async () => {
  await withFakeMonitor(
    (peer) => peer.send("SSH-2.0-OpenSSH_9.2\r\n"),
    (path) => assert.rejects(QmpClient.connect(path, QUICK), ProtocolError),
  );
});

Deno.test("a peer that closes during the negotiation is a disconnect", async () => {
  await withFakeMonitor(
    (peer) => peer.send(GREETING),
    (path) => assert.rejects(QmpClient.connect(path, QUICK), refusal("Disconnected", "connect")),
  );
});

Deno.test("a silent peer and a socket that never comes are timeouts", async () => {
  await withFakeMonitor(
    (peer) => assert.rejects(peer.command(), /the client has gone/),
    (path) =>
      assert.rejects(
        QmpClient.connect(path, { timeoutMs: 50 }),
        refusal("Timeout", "connect"),
      ),
  );
  await assert.rejects(
    QmpClient.connect("/nonexistent/qmp", { timeoutMs: 50 }),
    refusal("Timeout", "connect"),
  );
});

Deno.test("connect waits for the socket and gives up with the signal's reason", async () => {
  const why = new Error("QEMU has ended");
  const abort = new AbortController();
  setTimeout(() => abort.abort(why), 30);
  await assert.rejects(
    QmpClient.connect("/nonexistent/qmp", { timeoutMs: 5_000, signal: abort.signal }),
    why,
  );
});

Deno.test("results of another shape are refused", async () => {
  await withFakeMonitor(async (peer) => {
    await peer.greet();
    for (const value of [{ mode: "play", icount: 2 ** 60 }, { mode: "dance", icount: 1 }]) {
      await peer.reply(await peer.command(), value);
    }
    await peer.reply(await peer.command(), { mode: "play", icount: 12 });
    await peer.reply(await peer.command(), "RAX=0\r\nRBX=1\r\n");
  }, async (path) => {
    const qmp = await QmpClient.connect(path, QUICK);
    await assert.rejects(queryReplay(qmp), ProtocolError);
    await assert.rejects(queryReplay(qmp), ProtocolError);
    assert.deepEqual(await queryReplay(qmp), { mode: "play", icount: 12 });
    assert.equal(await registers(qmp), "RAX=0\nRBX=1\n");
    await qmp.close();
  });
});
