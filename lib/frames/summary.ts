/**
 * A frame in one line, for people who look for the one that matters: Ethernet, then ARP, or IPv4 with ICMP, UDP
 * or TCP, and the text that it carries.
 *
 * Layouts: IEEE 802.3, RFC 826 (ARP), RFC 791 (IPv4), RFC 768 (UDP), RFC 9293 (TCP). Whatever does not fit
 * is shown by its type alone: a summary never fails, also not for a frame that is cut off.
 */

const ETHERNET_BYTES = 14;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_NAMES = new Map([[0x0806, "ARP"], [0x86dd, "IPv6"], [0x8100, "VLAN"]]);
const ARP_BYTES = 28;
const IPV4_BYTES_MIN = 20;
const UDP_BYTES = 8;
const TCP_BYTES_MIN = 20;
/** From the lowest bit of the flags on. */
const TCP_FLAGS = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];
const IP_PROTOCOL = { icmp: 1, tcp: 6, udp: 17 };
const ICMP_NAMES = new Map([[0, "echo reply"], [3, "unreachable"], [8, "echo request"]]);
/** Longer texts are cut. */
const TEXT_CHARACTERS = 60;

/**
 * One line about a frame: `UDP 10.77.0.2:40001 > 10.77.0.1:7000 "LOCK 5"`.
 * @param frame the frame, or its first bytes
 */
export function summarizeFrame(frame: Uint8Array): string {
  if (frame.length < ETHERNET_BYTES) return `${frame.length} bytes, no Ethernet frame`;
  const type = u16(frame, 12);
  const rest = frame.subarray(ETHERNET_BYTES);
  if (type === ETHERTYPE_IPV4) return summarizeIpv4(rest);
  const name = ETHERTYPE_NAMES.get(type) ?? `ethertype 0x${type.toString(16).padStart(4, "0")}`;
  return name === "ARP" ? summarizeArp(rest) : name;
}

function summarizeArp(packet: Uint8Array): string {
  if (packet.length < ARP_BYTES) return "ARP";
  const [sender, target] = [ipv4Address(packet, 14), ipv4Address(packet, 24)];
  switch (u16(packet, 6)) {
    case 1:
      return `ARP who has ${target}, tell ${sender}`;
    case 2:
      return `ARP ${sender} is at ${macAddress(packet, 8)}`;
    default:
      return "ARP";
  }
}

function summarizeIpv4(packet: Uint8Array): string {
  if (packet.length < IPV4_BYTES_MIN) return "IPv4";
  const headerBytes = (packet[0]! & 0xf) * 4;
  // What Ethernet pads is not the packet's.
  const whole = packet.subarray(headerBytes, Math.max(headerBytes, u16(packet, 2)));
  const [from, to] = [ipv4Address(packet, 12), ipv4Address(packet, 16)];
  const protocol = packet[9]!;
  const laterFragment = (u16(packet, 6) & 0x1fff) !== 0;
  if (laterFragment) return `IPv4 ${from} > ${to}, fragment`;
  if (protocol === IP_PROTOCOL.udp && whole.length >= UDP_BYTES) {
    return `UDP ${ports(whole, from, to)}${text(whole.subarray(UDP_BYTES))}`;
  }
  if (protocol === IP_PROTOCOL.tcp && whole.length >= TCP_BYTES_MIN) {
    const flags = TCP_FLAGS.filter((_, bit) => (whole[13]! >> bit & 1) === 1).join(" ");
    const data = whole.subarray((whole[12]! >> 4) * 4);
    return `TCP ${ports(whole, from, to)} ${flags}${text(data)}`;
  }
  if (protocol === IP_PROTOCOL.icmp && whole.length > 0) {
    return `ICMP ${from} > ${to} ${ICMP_NAMES.get(whole[0]!) ?? `type ${whole[0]}`}`;
  }
  return `IPv4 ${from} > ${to}, protocol ${protocol}`;
}

function ports(segment: Uint8Array, from: string, to: string): string {
  return `${from}:${u16(segment, 0)} > ${to}:${u16(segment, 2)}`;
}

/** What is text is shown, up to the first byte that is none. */
function text(data: Uint8Array): string {
  let end = 0;
  while (end < data.length && isPrintable(data[end]!)) end++;
  if (end === 0) return "";
  const shown = String.fromCharCode(...data.subarray(0, Math.min(end, TEXT_CHARACTERS)));
  return ` ${JSON.stringify(shown)}${shown.length < data.length ? "…" : ""}`;
}

function isPrintable(byte: number): boolean {
  return (byte >= 0x20 && byte < 0x7f) || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

function u16(bytes: Uint8Array, at: number): number {
  return bytes[at]! << 8 | bytes[at + 1]!;
}

function ipv4Address(bytes: Uint8Array, at: number): string {
  return bytes.subarray(at, at + 4).join(".");
}

function macAddress(bytes: Uint8Array, at: number): string {
  return [...bytes.subarray(at, at + 6)].map((byte) => byte.toString(16).padStart(2, "0"))
    .join(":");
}
