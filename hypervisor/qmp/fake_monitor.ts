/** For tests: a Unix socket that behaves like QEMU's monitor until a test makes it misbehave. */
import { LineReader } from "./lines.ts";

export const GREETING = JSON.stringify({
  QMP: {
    version: { qemu: { major: 7, minor: 2, micro: 22 }, package: "Debian" },
    capabilities: ["oob"],
  },
}) + "\r\n";

/** One command as the fake received it. */
export interface FakeCommand {
  readonly execute: string;
  readonly arguments?: Record<string, unknown>;
  readonly id: number;
}

/** The server's end of one connection. */
export class FakePeer {
  readonly #conn: Deno.Conn;
  readonly #lines: LineReader;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
    this.#lines = new LineReader(conn);
  }

  async send(text: string): Promise<void> {
    let rest = new TextEncoder().encode(text);
    while (rest.length > 0) rest = rest.subarray(await this.#conn.write(rest));
  }

  async reply(to: FakeCommand, value: unknown): Promise<void> {
    await this.send(JSON.stringify({ return: value, id: to.id }) + "\r\n");
  }

  /** The next command; throws at the end of the connection. */
  async command(): Promise<FakeCommand> {
    const line = await this.#lines.next();
    if (line === undefined) throw new Error("the client has gone");
    return JSON.parse(line);
  }

  /** What QEMU does first. */
  async greet(): Promise<void> {
    await this.send(GREETING);
    await this.reply(await this.command(), {});
  }

  close(): void {
    this.#conn.close();
  }
}

/** Runs `client` against a socket on which `server` serves the first connection. */
export async function withFakeMonitor(
  server: (peer: FakePeer) => Promise<void>,
  client: (path: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "clusterrr-qmp-" });
  const path = `${directory}/qmp`;
  const listener = Deno.listen({ transport: "unix", path });
  const serving = (async () => {
    const conn = await listener.accept();
    const peer = new FakePeer(conn);
    try {
      await server(peer);
    } finally {
      peer.close();
    }
  })();
  try {
    await Promise.all([serving, client(path)]);
  } finally {
    listener.close();
    await serving.catch(() => {});
    await Deno.remove(directory, { recursive: true });
  }
}
