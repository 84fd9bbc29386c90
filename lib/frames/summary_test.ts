/** One line a frame: real layouts, frames cut off anywhere, bytes that are no frame. */
import assert from "node:assert/strict";
import { summarizeFrame } from "./summary.ts";

const ETHERNET = "525400000001525400000002";
const ADDRESSES = "0a4d00020a4d0001"; // 10.77.0.2 > 10.77.0.1

function ipv4(protocol: number, payload: string, padding = ""): Uint8Array {
  const bytes = (20 + payload.length / 2).toString(16).padStart(4, "0");
  const header = `4500${bytes}1234400040${protocol.toString(16).padStart(2, "0")}0000${ADDRESSES}`;
  return Uint8Array.fromHex(`${ETHERNET}0800${header}${payload}${padding}`);
}

const hex = (text: string) => new TextEncoder().encode(text).toHex();
const UDP_LOCK = ipv4(17, `9c411b58000e0000${hex("LOCK 5")}`, "0000000000");
const TCP_GET = ipv4(6, `9c420050000000010000000250180200abcd0000${hex("GET /\r\n")}`);

Deno.test("frame summary: UDP and TCP with what they say, padding left out", () => {
  assert.equal(summarizeFrame(UDP_LOCK), 'UDP 10.77.0.2:40001 > 10.77.0.1:7000 "LOCK 5"');
  assert.equal(
    summarizeFrame(TCP_GET),
    'TCP 10.77.0.2:40002 > 10.77.0.1:80 PSH ACK "GET /\\r\\n"',
  );
  const syn = ipv4(6, "9c42005000000001000000005002020000000000");
  assert.equal(summarizeFrame(syn), "TCP 10.77.0.2:40002 > 10.77.0.1:80 SYN");
  const binary = ipv4(17, `9c411b58000b0000${hex("ab")}00`);
  assert.equal(summarizeFrame(binary), 'UDP 10.77.0.2:40001 > 10.77.0.1:7000 "ab"…');
  const long = ipv4(17, `9c411b58006c0000${hex("x".repeat(100))}`);
  assert.match(summarizeFrame(long), /"x{60}"…$/);
});

Deno.test("frame summary: ARP, ICMP, fragments, and types that it does not know", () => {
  const arp = (operation: string) =>
    Uint8Array.fromHex(
      `ffffffffffff5254000000020806000108000604${operation}5254000000020a4d00020000000000000a4d0001`,
    );
  assert.equal(summarizeFrame(arp("0001")), "ARP who has 10.77.0.1, tell 10.77.0.2");
  assert.equal(summarizeFrame(arp("0002")), "ARP 10.77.0.2 is at 52:54:00:00:00:02");
  assert.equal(summarizeFrame(arp("0009")), "ARP");
  assert.equal(summarizeFrame(ipv4(1, "0800ffff")), "ICMP 10.77.0.2 > 10.77.0.1 echo request");
  assert.equal(summarizeFrame(ipv4(47, "00")), "IPv4 10.77.0.2 > 10.77.0.1, protocol 47");
  const fragment = UDP_LOCK.slice();
  fragment[21] = 0x10;
  assert.equal(summarizeFrame(fragment), "IPv4 10.77.0.2 > 10.77.0.1, fragment");
  assert.equal(summarizeFrame(Uint8Array.fromHex(`${ETHERNET}86dd60`)), "IPv6");
  assert.equal(summarizeFrame(Uint8Array.fromHex(`${ETHERNET}88b500`)), "ethertype 0x88b5");
});

Deno.test("frame summary: a frame cut off anywhere, and noise, give a line", () => {
  for (const frame of [UDP_LOCK, TCP_GET]) {
    for (let end = 0; end <= frame.length; end++) {
      assert.doesNotMatch(summarizeFrame(frame.subarray(0, end)), /undefined|NaN/, `${end} bytes`);
    }
  }
  assert.equal(summarizeFrame(UDP_LOCK.subarray(0, 7)), "7 bytes, no Ethernet frame");
  for (let run = 0; run < 2000; run++) {
    const noise = crypto.getRandomValues(new Uint8Array(run % 80));
    if (noise.length > 14) noise.set(run % 2 ? [0x08, 0x00] : [0x08, 0x06], 12);
    assert.doesNotMatch(summarizeFrame(noise), /undefined|NaN/, noise.toHex());
  }
});
