/**
 * A TCP socket under TLS whose reading can be stopped.
 *
 * ```
 * TCP socket ──data──▶ Duplex ──▶ node:tls ──▶ channel
 *     ▲ pause / resume                            │ full / room
 *     └───────────────────────────────────────────┘
 * ```
 *
 * Deno's TLS sockets (2.9.6) ignore `pause`: they go on reading and keep what nobody takes in memory, 100 MB and
 * more. A plain socket does stop, so TLS gets a Duplex, and the channel stops the socket below it.
 */
import { Socket } from "node:net";
import { Duplex } from "node:stream";
import { setImmediate } from "node:timers";

/** TCP notices a dead peer after about this idle time plus the kernel's probes. */
const KEEPALIVE_MS = 15_000;

/** A connected socket and the stream that TLS runs over. */
export interface RelayedSocket {
  readonly socket: Socket;
  readonly stream: Duplex;
}

/** Starts to relay. Closing the stream closes the socket, and the other way round. */
export function relaySocket(socket: Socket): RelayedSocket {
  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEPALIVE_MS);
  const stream = new Duplex({
    read() {}, // the channel decides when the socket is read
    write(chunk, _encoding, done) {
      socket.write(chunk, done);
    },
    final(done) {
      socket.end(done);
    },
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  let ended = false;
  socket.on("data", (bytes) => stream.push(bytes));
  socket.on("end", () => {
    ended = true;
    stream.push(null);
  });
  socket.on("error", (error) => stream.destroy(error));
  socket.on("close", () => {
    // After a proper end TLS first takes the last bytes.
    if (!ended || stream.readableEnded) stream.destroy();
    else stream.once("end", () => setImmediate(() => stream.destroy()));
  });
  stream.on("error", () => {}); // TLS reports it
  return { socket, stream };
}
