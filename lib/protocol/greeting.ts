/** How a connection begins, "Identity" in PROTOCOL.md: the protocols' names in TLS (ALPN), and the welcome. */
import type { Message } from "./channel.ts";
import { JSON_KIND } from "./framing.ts";

/** The version is in the name: a peer that speaks another one does not get through the handshake. */
export const CHANNEL_PROTOCOL = "clusterrr/1";
export const JOIN_PROTOCOL = "clusterrr-join/1";
/** Longer requests to join are refused as soon as their length is read. */
export const JOIN_REQUEST_BYTES_MAX = 16 << 10;

/** The listening side's first message, once it has accepted the other side's certificate. */
export const WELCOME: Uint8Array = new TextEncoder().encode(`{"welcome":"${CHANNEL_PROTOCOL}"}`);

export function isWelcome({ kind, body }: Message): boolean {
  return kind === JSON_KIND && new TextDecoder().decode(body) === new TextDecoder().decode(WELCOME);
}
