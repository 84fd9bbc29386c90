/** Both ends over a real socket: acknowledgements, resends, and what ends a connection. */
import assert from "node:assert/strict";
import { RspConnection } from "./connection.ts";
import { encodePacket, PACKET_BYTES_MAX } from "./packets.ts";
import { parseStop, Stub, StubClosedError } from "./stub.ts";

interface Ends {
  readonly ours: Deno.Conn;
  /** The other side, raw. */
  readonly peer: Deno.Conn;
}

async function withSocket(work: (ends: Ends) => Promise<void>): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const [peer, ours] = await Promise.all([
    Deno.connect({ hostname: "127.0.0.1", port }),
    listener.accept(),
  ]);
  try {
    await work({ ours, peer });
  } finally {
    closeQuietly(peer);
    closeQuietly(ours);
    listener.close();
  }
}

/** Closes what the test has not closed. */
function closeQuietly(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource)) throw error;
  }
}

async function write(conn: Deno.Conn, text: string): Promise<void> {
  let rest = Uint8Array.from(text, (c) => c.charCodeAt(0));
  while (rest.length > 0) rest = rest.subarray(await conn.write(rest));
}

/** Reads until `length` bytes have come. */
async function read(conn: Deno.Conn, length: number): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(1024);
  while (text.length < length) {
    const n = await conn.read(buffer);
    if (n === null) break;
    text += String.fromCharCode(...buffer.subarray(0, n));
  }
  return text;
}

const wire = (payload: string) => String.fromCharCode(...encodePacket(payload));

Deno.test("packets are acknowledged, broken ones asked for again, until acks are stopped", () =>
  withSocket(async ({ ours, peer }) => {
    const packets: string[] = [];
    let interrupts = 0;
    const connection = new RspConnection(ours, {
      packet: (payload) => packets.push(payload),
      interrupt: () => interrupts++,
    });
    await write(peer, "$g#00$g#67\x03");
    assert.equal(await read(peer, 2), "-+");
    assert.deepEqual([packets, interrupts], [["g"], 1]);
    connection.stopAcks();
    await write(peer, "$g#00$?#3f");
    connection.send("OK");
    assert.equal(await read(peer, 6), "$OK#9a");
    assert.deepEqual(packets, ["g", "?"]);
    connection.close();
    await connection.closed;
  }));

Deno.test("what did not arrive whole is sent again, not for ever", () =>
  withSocket(async ({ ours, peer }) => {
    const connection = new RspConnection(ours, { packet: () => {} });
    connection.send("T05");
    const packet = wire("T05");
    assert.equal(await read(peer, packet.length), packet);
    for (let i = 0; i < 5; i++) {
      await write(peer, "-");
      assert.equal(await read(peer, packet.length), packet);
    }
    await write(peer, "-");
    await connection.closed;
    assert.ok(connection.ended);
  }));

Deno.test("a packet without an end ends the connection", () =>
  withSocket(async ({ ours, peer }) => {
    const packets: string[] = [];
    const connection = new RspConnection(ours, { packet: (data) => void packets.push(data) });
    await write(peer, "$" + "0".repeat(PACKET_BYTES_MAX + 1));
    await connection.closed;
    assert.deepEqual(packets, []);
  }));

Deno.test("a stub's unasked stop reply is nobody's answer", () =>
  withSocket(async ({ ours, peer }) => {
    const stub = new Stub(ours);
    await write(peer, wire("T02thread:01;"));
    assert.equal(await read(peer, 1), "+");
    const answer = stub.request("p10");
    assert.equal(await read(peer, wire("p10").length), wire("p10"));
    await write(peer, wire("T02thread:01;") + wire("4501200000000000"));
    assert.equal(await answer, "4501200000000000");
    stub.close();
  }));

Deno.test("a stub that goes away fails the call that waits and every later one", () =>
  withSocket(async ({ ours, peer }) => {
    const stub = new Stub(ours);
    const stop = stub.resume("c");
    await read(peer, wire("c").length);
    peer.close();
    await assert.rejects(stop, StubClosedError);
    await assert.rejects(stub.request("g"), StubClosedError);
  }));

Deno.test("stop replies", () => {
  assert.deepEqual(parseStop("T05thread:p01.01;awatch:0000000000200348;"), {
    reply: "T05thread:p01.01;awatch:0000000000200348;",
    signal: 5,
    exited: false,
    watch: "awatch:0000000000200348;",
  });
  assert.equal(parseStop("W00").exited, true);
  assert.equal(parseStop("T02thread:01;").signal, 2);
});
