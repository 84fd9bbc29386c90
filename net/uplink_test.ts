/**
 * TCP of the host through the uplink into a tap. The guest is played here: its side of one
 * connection, just enough to receive what the host sends.
 */
import assert from "node:assert/strict";
import { run } from "../host/command.ts";
import { namesOf } from "./names.ts";
import { type FramePort, freshRun, freshUplinkAddress, macOf, openTaps } from "./tap_fixture.ts";
import { createNetwork, type NetworkPlan } from "./topology.ts";
import { tunnelLosses, withTunnels } from "./tunnel_fixture.ts";

const ETHERNET_BYTES = 14;
const FRAME_BYTES_MAX = 1514;
const ARP = 0x0806;
const IPV4 = 0x0800;
const TCP = 6;
const SYN = 2;
const ACK = 16;
const FIN = 1;

/** The Internet checksum (RFC 1071) over `bytes`, starting from `sum`. */
function checksum(bytes: Uint8Array, sum = 0): number {
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i]! << 8 | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** The sum of TCP's pseudo header (RFC 9293, 3.1) for the IPv4 packet `ip`. */
function pseudoHeader(ip: Uint8Array, tcpBytes: number): number {
  let sum = TCP + tcpBytes;
  for (let i = 12; i < 20; i += 2) sum += ip[i]! << 8 | ip[i + 1]!;
  return sum;
}

function arpReply(request: Uint8Array, mac: number[]): Uint8Array<ArrayBuffer> {
  const reply = new Uint8Array(60);
  reply.set(request.subarray(6, 12));
  reply.set(mac, 6);
  reply.set(request.subarray(12, 20), 12); // EtherType, Ethernet, IPv4, lengths
  reply[21] = 2; // reply
  reply.set(mac, 22);
  reply.set(request.subarray(38, 42), 28); // the address asked for
  reply.set(request.subarray(22, 32), 32); // who asked
  return reply;
}

/** An answer without data to the TCP frame `to`; a SYN offers segments of 1,460 bytes. */
function segment(
  to: Uint8Array,
  flags: number,
  sequence: number,
  acknowledge: number,
): Uint8Array<ArrayBuffer> {
  const options = (flags & SYN) !== 0 ? [2, 4, 1460 >> 8, 1460 & 0xff] : [];
  const tcpBytes = 20 + options.length;
  const frame = new Uint8Array(ETHERNET_BYTES + 20 + tcpBytes);
  frame.set(to.subarray(6, 12));
  frame.set(to.subarray(0, 6), 6);
  frame.set([IPV4 >> 8, IPV4 & 0xff, 0x45], 12);
  const ip = frame.subarray(ETHERNET_BYTES, ETHERNET_BYTES + 20);
  ip[3] = 20 + tcpBytes;
  ip[8] = 64;
  ip[9] = TCP;
  ip.set(to.subarray(30, 34), 12);
  ip.set(to.subarray(26, 30), 16);
  new DataView(frame.buffer).setUint16(24, checksum(ip));
  const tcp = new DataView(frame.buffer, ETHERNET_BYTES + 20);
  tcp.setUint16(0, to[36]! << 8 | to[37]!);
  tcp.setUint16(2, to[34]! << 8 | to[35]!);
  tcp.setUint32(4, sequence);
  tcp.setUint32(8, acknowledge);
  tcp.setUint16(12, tcpBytes / 4 << 12 | flags);
  tcp.setUint16(14, 0xffff);
  frame.set(options, ETHERNET_BYTES + 40);
  tcp.setUint16(16, checksum(frame.subarray(ETHERNET_BYTES + 20), pseudoHeader(ip, tcpBytes)));
  return frame;
}

interface Received {
  readonly data: Uint8Array;
  readonly frameBytesMax: number;
  readonly wrongChecksums: number;
}

/** Plays the guest until the host closes the connection. */
async function receiveConnection(tap: FramePort, mac: number[]): Promise<Received> {
  const chunks: Uint8Array[] = [];
  let expected = 0;
  let frameBytesMax = 0;
  let wrongChecksums = 0;
  for (;;) {
    const frame = await tap.receive(10_000);
    const type = frame[12]! << 8 | frame[13]!;
    frameBytesMax = Math.max(frameBytesMax, frame.length);
    if (type === ARP && frame[21] === 1) tap.send(arpReply(frame, mac));
    if (type !== IPV4 || frame[23] !== TCP) continue;
    const ip = frame.subarray(ETHERNET_BYTES, ETHERNET_BYTES + (frame[14]! & 15) * 4);
    const total = ip[2]! << 8 | ip[3]!;
    const tcp = frame.subarray(ETHERNET_BYTES + ip.length, ETHERNET_BYTES + total);
    if (checksum(ip) !== 0 || checksum(tcp, pseudoHeader(ip, tcp.length)) !== 0) wrongChecksums++;
    const view = new DataView(tcp.buffer, tcp.byteOffset, tcp.byteLength);
    const sequence = view.getUint32(4);
    const flags = tcp[13]!;
    if ((flags & SYN) !== 0) {
      expected = (sequence + 1) >>> 0;
      tap.send(segment(frame, SYN | ACK, 0, expected));
      continue;
    }
    const data = tcp.subarray((tcp[12]! >> 4) * 4);
    if (sequence === expected && data.length > 0) {
      chunks.push(data);
      expected = (expected + data.length) >>> 0;
    }
    const last = (flags & FIN) !== 0 && ((sequence + data.length) >>> 0) === expected;
    if (data.length > 0 || last) {
      const acknowledge = last ? (expected + 1) >>> 0 : expected;
      tap.send(segment(frame, last ? FIN | ACK : ACK, 1, acknowledge));
    }
    if (last) return { data: concatenated(chunks), frameBytesMax, wrongChecksums };
  }
}

function concatenated(chunks: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(chunks.reduce((bytes, chunk) => bytes + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

/** Sends random bytes over TCP to the guest behind `tap`, who checks each frame. */
async function sendToGuest(tap: FramePort, mac: number[], uplink: string): Promise<void> {
  const sent = crypto.getRandomValues(new Uint8Array(60_000));
  const host = (async () => {
    const hostname = uplink.replace(".254/24", ".1");
    const connection = await Deno.connect({ hostname, port: 7 });
    for (let at = 0; at < sent.length;) at += await connection.write(sent.subarray(at));
    connection.close();
  })();
  const [received] = await Promise.all([receiveConnection(tap, mac), host]);
  assert.deepEqual(received.data, sent);
  assert.equal(received.frameBytesMax, FRAME_BYTES_MAX);
  assert.equal(received.wrongChecksums, 0);
}

Deno.test("TCP of the host reaches a tap on another host in whole frames with right checksums", async () => {
  const uplink = freshUplinkAddress();
  await withTunnels({ vms: [[1], [2]], uplink }, async (bench) => {
    await bench.sites[0]!.host.act(() => sendToGuest(bench.tap(2), macOf(2), uplink));
    assert.deepEqual(tunnelLosses(bench), [[0n, 0n, 0n], [0n, 0n, 0n]]);
    const deliveries = bench.notesOf(2).deliveriesTo(2);
    assert.ok(deliveries.length > 40, `${deliveries.length} deliveries`);
    assert.ok(deliveries.every(({ source }) => source === 0));
  });
});

for (const segments of ["as made", "65535"]) {
  const name = segments === "as made" ? "" : ", even where the host builds large ones";
  Deno.test(`TCP of the host reaches a tap in whole frames with right checksums${name}`, async () => {
    const address = freshUplinkAddress();
    const plan: NetworkPlan = {
      run: freshRun(),
      vms: [{ number: 1, name: "one" }],
      uplink: { address, nat: false },
    };
    const network = await createNetwork(plan);
    try {
      if (segments !== "as made") {
        await run(["ip", "link", "set", namesOf(plan.run).uplink, "gso_max_segs", segments]);
      }
      const [tap] = await openTaps(network, [1]);
      using guest = tap!;
      await sendToGuest(guest, macOf(1), address);
    } finally {
      await network.remove();
    }
  });
}
