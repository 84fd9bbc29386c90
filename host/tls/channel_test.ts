/** Channels over real TLS on loopback: what goes through, what holds up, what is cut off. */
import assert from "node:assert/strict";
import { z } from "zod";
import { ProtocolError } from "../../lib/errors.ts";
import type { Channel } from "../../lib/protocol/channel.ts";
import { BINARY_BYTES_MAX } from "../../lib/protocol/framing.ts";
import { startRpc } from "../../lib/protocol/rpc.ts";
import { makeInstallation, withServer } from "./channel_fixture.ts";
import { openTls, parseAddress } from "./connector.ts";
import type { RelayedSocket } from "./relayed_socket.ts";

const installation = await makeInstallation();
const { authority, agent, operator } = installation;

Deno.test("each side knows the other by its certificate", async () => {
  await withServer(installation, async (server) => {
    const first = await server.pair(agent);
    assert.deepEqual(first.server.peer, agent.peer);
    assert.deepEqual(first.client.peer, installation.coordinator.peer);
    const second = await server.pair(operator);
    assert.deepEqual(
      second.server.peer,
      operator.peer,
      "no session of another identity is resumed",
    );
    await first.client.send(3, Uint8Array.of(1, 2));
    assert.deepEqual(await first.server.receive(), { kind: 3, body: Uint8Array.of(1, 2) });
    assert.deepEqual(server.refusals, []);
  });
});

Deno.test("10 MB in 64 KiB messages go both ways at once, whole and in order", async () => {
  await withServer(installation, async (server) => {
    const { client, server: other } = await server.pair(agent);
    const count = 160;
    const send = async (channel: Channel) => {
      for (let i = 0; i < count; i++) {
        await channel.send(1 + i % 255, new Uint8Array(65_536).fill(i));
      }
    };
    const check = async (channel: Channel) => {
      for (let i = 0; i < count; i++) {
        const message = await channel.receive();
        assert.equal(message?.kind, 1 + i % 255);
        assert.equal(message.body.length, 65_536);
        assert.ok(message.body.every((byte) => byte === i % 256));
      }
    };
    await Promise.all([send(client), send(other), check(client), check(other)]);
  });
});

Deno.test("a slow reader holds the sender up, and memory stays bounded", async () => {
  await withServer(installation, async (server) => {
    const { client, server: other } = await server.pair(agent);
    for (const [sender, reader] of [[client, other], [other, client]] as [Channel, Channel][]) {
      const total = 1000; // 64 MB; the kernel's buffers on loopback take about 4 MB
      let sent = 0;
      const sending = (async () => {
        for (; sent < total; sent++) await sender.send(1, new Uint8Array(65_536));
      })();
      let before = -1;
      while (sent !== before) {
        before = sent;
        await new Promise((resolve) => setTimeout(resolve, 150));
      }
      assert.ok(sent < 200, `${sent} messages of 64 KiB were sent to nobody who reads`);
      const { heldBytes } = reader as Channel & { heldBytes: number };
      assert.ok(heldBytes < 1 << 20, `${heldBytes} bytes are held`);
      for (let i = 0; i < total; i++) assert.equal((await reader.receive())?.body.length, 65_536);
      await sending;
    }
  });
});

Deno.test("close sends what was given before, then ends the other side", async () => {
  await withServer(installation, async (server) => {
    const { client, server: other } = await server.pair(agent);
    const sends = Array.from(
      { length: 20 },
      (_, i) => client.send(1, new Uint8Array(65_536).fill(i)),
    );
    client.close();
    await assert.rejects(client.send(1, new Uint8Array()), /channel is closed/);
    for (let i = 0; i < 20; i++) assert.equal((await other.receive())?.body[0], i);
    assert.equal(await other.receive(), undefined);
    await Promise.all([...sends, client.closed, other.closed]);
    assert.equal(await client.receive(), undefined);
    await assert.rejects(other.send(1, new Uint8Array()), /channel is closed/);
    assert.equal(other.closeReason, undefined);
  });
});

Deno.test("a reader that comes late gets all that was sent before the close", async () => {
  await withServer(installation, async (server) => {
    for (const count of [1, 7, 40]) { // 40: more than the inbox holds, less than the kernel does
      const { client, server: other } = await server.pair(agent);
      for (let i = 0; i < count; i++) await client.send(1, new Uint8Array(65_536).fill(i));
      client.close();
      await new Promise((resolve) => setTimeout(resolve, 200));
      for (let i = 0; i < count; i++) assert.equal((await other.receive())?.body[0], i);
      assert.equal(await other.receive(), undefined);
      assert.equal(other.closeReason, undefined);
      await Promise.all([client.closed, other.closed]);
    }
  });
});

/** A client that is let in and then writes bytes as it likes. */
async function rawClient(server: { address: string; nextChannel(): Promise<Channel> }) {
  const sockets: RelayedSocket[] = [];
  const { tls, below } = await openTls({
    address: server.address,
    serverName: "coordinator.clusterrr",
    protocol: "clusterrr/1",
    identity: agent,
    ca: authority.certificate,
  }, (socket) => sockets.push(socket));
  tls.on("data", () => {});
  below.socket.resume();
  return { tls, below, channel: await server.nextChannel() };
}

Deno.test("a message above the bound, and garbage, cut the peer off", async () => {
  const header = (length: number, kind: number) => {
    const bytes = new Uint8Array(5);
    new DataView(bytes.buffer).setUint32(0, length);
    bytes[4] = kind;
    return bytes;
  };
  const cases = [
    header(BINARY_BYTES_MAX + 1, 1),
    header((1 << 20) + 1, 0),
    new TextEncoder().encode("GET / HTTP/1.1\r\n"),
  ];
  await withServer(installation, async (server) => {
    for (const bytes of cases) {
      const { tls, channel } = await rawClient(server);
      const closed = new Promise((resolve) => tls.once("close", resolve));
      tls.write(bytes);
      await assert.rejects(channel.receive(), ProtocolError);
      assert.equal(await channel.receive(), undefined);
      await channel.closed;
      await closed;
      assert.match(channel.closeReason ?? "", /above the bound/);
    }
  });
});

Deno.test("a connection killed inside a message ends the channel, never gives half a message", async () => {
  await withServer(installation, async (server) => {
    for (const kill of ["reset", "end"]) {
      const { tls, below, channel } = await rawClient(server);
      tls.write(Uint8Array.of(0, 0, 0, 1, 7, 9, /* and half of the next */ 0, 0, 1, 0, 7, 1, 2));
      assert.deepEqual(await channel.receive(), { kind: 7, body: Uint8Array.of(9) });
      const next = channel.receive();
      if (kill === "reset") below.socket.resetAndDestroy();
      else tls.end();
      assert.equal(await next, undefined);
      await channel.closed;
      assert.match(channel.closeReason ?? "", /inside a message|ECONNRESET/);
      tls.destroy();
    }
  });
});

Deno.test("calls over TLS; a killed peer rejects what is pending", async () => {
  const methods = {
    echo: { params: z.string(), result: z.string() },
    never: { params: z.null(), result: z.null() },
  };
  await withServer(installation, async (server) => {
    const { client, server: other } = await server.pair(agent);
    startRpc(other, {
      serves: methods,
      handlers: { echo: (text) => text, never: () => new Promise<null>(() => {}) },
      calls: {},
    });
    const rpc = startRpc(client, { serves: {}, handlers: {}, calls: methods });
    const texts = Array.from({ length: 100 }, (_, i) => `${i}`.repeat(100));
    assert.deepEqual(await Promise.all(texts.map((text) => rpc.call("echo", text))), texts);
    const pending = rpc.call("never", null);
    await rpc.call("echo", "x");
    server.listener.cutOff(agent.peer.serial);
    await assert.rejects(pending, /connection to the coordinator is closed/);
  });
});

Deno.test("addresses", () => {
  assert.deepEqual(parseAddress("host-1.example:7443"), { host: "host-1.example", port: 7443 });
  assert.deepEqual(parseAddress("[::1]:1"), { host: "::1", port: 1 });
  for (
    const wrong of ["host", "host:", ":1", "host:0", "host:65536", "::1:5", "a b:5", "http://x:5"]
  ) {
    assert.throws(() => parseAddress(wrong), /is no address/);
  }
});
