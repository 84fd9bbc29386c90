/**
 * Listens for channels: TLS 1.3 with client certificates, and nothing for anybody else.
 *
 * ```
 * TCP ─▶ handshake ─▶ ALPN clusterrr/1 ─▶ certificate: our CA? valid? revoked? ─▶ welcome ─▶ onChannel
 *           │               └─ clusterrr-join/1 ─▶ one request, one answer (onJoin)
 *           └─ late, too many, no certificate, a foreign, expired or revoked one ─▶ closed, no byte of ours
 * ```
 *
 * The server needs no byte to be refused, but a TLS 1.3 client counts itself connected before the server has seen its
 * certificate: hence the welcome, which the connecting side waits for.
 */
import { createServer as createTcpServer, type Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { HostError, messageOf } from "../../lib/errors.ts";
import { type CaCertificate, readCertificate } from "../../lib/identity/certificates.ts";
import type { Identity } from "../../lib/identity/files.ts";
import type { Channel, PeerIdentity } from "../../lib/protocol/channel.ts";
import { JSON_KIND } from "../../lib/protocol/framing.ts";
import {
  CHANNEL_PROTOCOL,
  JOIN_PROTOCOL,
  JOIN_REQUEST_BYTES_MAX,
  WELCOME,
} from "../../lib/protocol/greeting.ts";
import { type RelayedSocket, relaySocket } from "./relayed_socket.ts";
import { TlsChannel } from "./tls_channel.ts";

export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Connections that are not through their handshake; more are closed at once. */
export const HANDSHAKES_MAX = 1024;
const EXPIRY_CHECK_MS = 60_000;

/** A connection that was refused, for the log. */
export interface Refusal {
  /** `address:port`. */
  readonly remote: string;
  readonly reason: string;
}

export interface ListenOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly identity: Identity;
  readonly ca: CaCertificate;
  readonly isRevoked: (serial: string) => boolean | Promise<boolean>;
  /** A verified peer; it must read the channel or close it. */
  readonly onChannel: (channel: Channel) => void;
  /**
   * Answers a request to join: the bytes of one JSON message each way. Without it there is no joining here, and
   * a client without a certificate does not get through the handshake.
   */
  readonly onJoin?: ((request: Uint8Array) => Promise<Uint8Array>) | undefined;
  readonly onRefused?: (refusal: Refusal) => void;
  readonly handshakeTimeoutMs?: number;
  /** How often connections are checked for certificates that have expired meanwhile. */
  readonly expiryCheckMs?: number;
}

export interface TlsListener {
  readonly port: number;
  /** Closes the channels of a certificate that has been revoked, at once. */
  cutOff(serial: string): void;
  /** New connections are answered with this identity: after a renewal. */
  useIdentity(identity: Identity): void;
  /** Stops listening and closes all channels. */
  close(): Promise<void>;
}

/** @throws {HostError} where the address cannot be bound */
export async function listenTls(options: ListenOptions): Promise<TlsListener> {
  const listener = new Listener(options);
  await listener.start();
  return listener;
}

class Listener implements TlsListener {
  readonly #options: ListenOptions;
  #identity: Identity;
  readonly #server = createTcpServer((socket) => this.#accept(socket));
  readonly #channels = new Map<TlsChannel, Date>();
  readonly #handshaking = new Set<Socket>();
  #expiry: ReturnType<typeof setInterval> | undefined;
  #closing = false;

  constructor(options: ListenOptions) {
    this.#options = options;
    this.#identity = options.identity;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  async start(): Promise<void> {
    const { host, port } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (cause: Error) =>
        reject(
          new HostError(
            `listening on ${host}:${port}`,
            1,
            messageOf(cause),
            "Choose another address, or end what listens there.",
            { cause },
          ),
        ));
      this.#server.listen(port, host, resolve);
    });
    this.#expiry = setInterval(
      () => this.#cutOffExpired(),
      this.#options.expiryCheckMs ?? EXPIRY_CHECK_MS,
    );
    Deno.unrefTimer(this.#expiry);
  }

  cutOff(serial: string): void {
    for (const channel of [...this.#channels.keys()]) {
      if (channel.peer.serial === serial) channel.cutOff("its certificate was revoked");
    }
  }

  useIdentity(identity: Identity): void {
    this.#identity = identity;
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearInterval(this.#expiry);
    const stopped = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const socket of this.#handshaking) socket.destroy();
    const channels = [...this.#channels.keys()];
    for (const channel of channels) channel.close();
    await Promise.all(channels.map(({ closed }) => closed));
    await stopped;
  }

  #cutOffExpired(now = new Date()): void {
    for (const [channel, notAfter] of this.#channels) {
      if (now >= notAfter) channel.cutOff("its certificate has expired");
    }
  }

  #accept(socket: Socket): void {
    const remote = `${socket.remoteAddress}:${socket.remotePort}`;
    socket.on("error", () => {}); // its close follows
    if (this.#closing || this.#handshaking.size >= HANDSHAKES_MAX) {
      socket.destroy();
      this.#options.onRefused?.({ remote, reason: "too many connections in their handshake" });
      return;
    }
    this.#handshaking.add(socket);
    let done = false;
    const settle = (reason?: string) => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      this.#handshaking.delete(socket);
      if (reason === undefined) return;
      socket.destroy();
      if (!this.#closing) this.#options.onRefused?.({ remote, reason });
    };
    const timer = setTimeout(
      () => settle("it did not finish its handshake in time"),
      this.#options.handshakeTimeoutMs ?? HANDSHAKE_TIMEOUT_MS,
    );
    // Who is to join looks at our certificates first, and then connects again.
    let looks = false;
    socket.on(
      "close",
      () => settle(looks ? undefined : "it closed the connection before it was let in"),
    );
    this.#handshake(relaySocket(socket), () => looks = true)
      .then(() => settle(), (error) => settle(messageOf(error)));
  }

  /** Resolves once the peer is let in, or has been answered. */
  async #handshake(below: RelayedSocket, joins: () => void): Promise<void> {
    const tls = await this.#secure(below);
    if (tls.alpnProtocol === JOIN_PROTOCOL && this.#options.onJoin) {
      joins();
      await answerJoin(tls, below, this.#options.onJoin);
      return;
    }
    if (tls.alpnProtocol !== CHANNEL_PROTOCOL) throw new Error("it offered no protocol of ours");
    if (!tls.authorized) {
      throw new Error(`its certificate was not accepted: ${tls.authorizationError}`);
    }
    const { raw } = tls.getPeerCertificate();
    const { peer, notAfter } = await readCertificate(raw, this.#options.ca, "its certificate");
    const channel = new TlsChannel(tls, below, peer);
    // Among the channels before it is checked: whoever is revoked meanwhile is found by `cutOff`.
    this.#channels.set(channel, notAfter);
    void channel.closed.then(() => this.#channels.delete(channel));
    if (await this.#options.isRevoked(peer.serial)) {
      throw new Error(`the certificate of ${peer.role} ${peer.name} was revoked (${peer.serial})`);
    }
    await channel.send(JSON_KIND, WELCOME);
    this.#options.onChannel(channel);
  }

  /** A TLS server for each connection: it is cheap, and tells this connection's events from others'. */
  #secure({ socket, stream }: RelayedSocket): Promise<TLSSocket> {
    const { ca, onJoin } = this.#options;
    return new Promise((resolve, reject) => {
      const server = createTlsServer({
        key: this.#identity.keyPem,
        // With the CA's certificate, which whoever joins compares with its token.
        cert: this.#identity.certificatePem + ca.pem,
        ca: [ca.pem],
        requestCert: true,
        rejectUnauthorized: onJoin === undefined,
        minVersion: "TLSv1.3",
        ALPNProtocols: onJoin ? [CHANNEL_PROTOCOL, JOIN_PROTOCOL] : [CHANNEL_PROTOCOL],
      }, (tls) => {
        tls.on("error", () => {}); // the channel or the socket's close tells
        socket.pause(); // until there is a channel: TLS would keep all that comes
        resolve(tls);
      });
      server.once("tlsClientError", (error: Error) => reject(error));
      stream.once("close", () => reject(new Error("it closed the connection in the handshake")));
      server.emit("connection", stream);
    });
  }
}

const NOBODY: PeerIdentity = { role: "agent", name: "joining", serial: "0" };

/** One message, one answer, closed. */
async function answerJoin(
  tls: TLSSocket,
  below: RelayedSocket,
  onJoin: (request: Uint8Array) => Promise<Uint8Array>,
): Promise<void> {
  const channel = new TlsChannel(tls, below, NOBODY, JOIN_REQUEST_BYTES_MAX);
  try {
    const request = await channel.receive();
    if (request?.kind !== JSON_KIND) return; // it only looked at the CA's certificate
    await channel.send(JSON_KIND, await onJoin(request.body));
  } finally {
    channel.close();
    await channel.closed;
  }
}
