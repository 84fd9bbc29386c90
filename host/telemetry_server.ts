/**
 * The HTTP endpoint of a coordinator or agent: `/healthz` and `/metrics`, for a Prometheus and for people
 * on this host. It has no TLS, so it listens on loopback addresses only.
 */
import { ClusterrrError, messageOf, UsageError } from "../lib/errors.ts";
import type { Health } from "../lib/telemetry/health.ts";
import { type Metrics, METRICS_CONTENT_TYPE } from "../lib/telemetry/metrics.ts";

/** Where to listen; port 0 takes any that is free. */
export interface LoopbackAddress {
  readonly hostname: string;
  readonly port: number;
}

/** The endpoint, while it listens. */
export interface TelemetryServer {
  /** `http://127.0.0.1:9464`, with the port that it got. */
  readonly url: string;
  /** Stops listening; answers that are under way have a second to go out. */
  close(): Promise<void>;
}

/** Answers of `/metrics` that are being made or sent; the next one is told to come later. */
const SENDING_MAX = 16;
const CLOSE_MS_MAX = 1000;

/**
 * Reads `127.0.0.1:9464`, `[::1]:9464` or `localhost:9464`.
 * @throws {UsageError} for anything that is not on this host alone
 */
export function parseLoopbackAddress(text: string): LoopbackAddress {
  const [, hostname, digits] = /^(?:\[?([^[\]]*)\]?):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (hostname === undefined || hostname === "" || !(port <= 65535)) {
    throw new UsageError(`Expected a loopback address such as 127.0.0.1:9464, but got "${text}".`);
  }
  if (hostname === "localhost") return { hostname: "127.0.0.1", port };
  const bytes = /^127(\.\d{1,3}){3}$/.test(hostname) ? hostname.split(".").map(Number) : [256];
  if (hostname !== "::1" && bytes.some((byte) => byte > 255)) {
    throw new UsageError(
      `Health and metrics are not served on ${text}: there is no TLS on them, so others could read them. ` +
        `Use a loopback address such as 127.0.0.1:${port}, and a proxy with TLS or an SSH tunnel to reach it.`,
    );
  }
  return { hostname, port };
}

/**
 * Serves `health` and `metrics` on `address`.
 * @throws {UsageError} where it is no loopback address; {ClusterrrError} where it cannot be had
 */
export function serveTelemetry(
  address: string,
  health: Health,
  metrics: Pick<Metrics, "text">,
): TelemetryServer {
  const { hostname, port } = parseLoopbackAddress(address);
  const abort = new AbortController();
  let server: Deno.HttpServer<Deno.NetAddr>;
  const underWay = new Set<Promise<void>>();
  const answer = async (request: Request, sent: Promise<void>): Promise<Response> => {
    if (request.method !== "GET" && request.method !== "HEAD") {
      return plain(405, "GET and HEAD only.\n", { allow: "GET, HEAD" });
    }
    const { pathname } = new URL(request.url);
    if (pathname === "/healthz") return healthAnswer(health);
    if (pathname !== "/metrics") return plain(404, "There are /healthz and /metrics.\n");
    if (underWay.size >= SENDING_MAX) {
      return plain(503, "Busy with other readers; come again.\n", { "retry-after": "1" });
    }
    const end = sent.catch(() => {}) // the reader has gone
      .finally(() => underWay.delete(end));
    underWay.add(end);
    return new Response(await metrics.text(), {
      headers: { "content-type": METRICS_CONTENT_TYPE },
    });
  };
  try {
    server = Deno.serve({
      hostname,
      port,
      signal: abort.signal,
      onListen: () => {},
      onError: (error) => plain(500, `internal error: ${messageOf(error)}\n`),
    }, (request, { completed }) => answer(request, completed));
  } catch (cause) {
    throw cannotListen(address, port, cause);
  }
  const shown = hostname.includes(":") ? `[${hostname}]` : hostname;
  return {
    url: `http://${shown}:${server.addr.port}`,
    async close() {
      // Not `server.shutdown()`: it waits for ever for a reader that does not take its answer, and
      // cannot be followed by an abort.
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise((resolve) => timer = setTimeout(resolve, CLOSE_MS_MAX));
      await Promise.race([Promise.all(underWay), late]);
      clearTimeout(timer);
      abort.abort();
      await server.finished;
    },
  };
}

function healthAnswer(health: Health): Response {
  const report = health.report();
  return Response.json(report, {
    status: report.status === "ok" ? 200 : 503,
    headers: { "cache-control": "no-store" },
  });
}

function plain(status: number, text: string, headers: Record<string, string> = {}): Response {
  return new Response(text, { status, headers: { "content-type": "text/plain", ...headers } });
}

function cannotListen(address: string, port: number, cause: unknown): ClusterrrError {
  const why = cause instanceof Deno.errors.AddrInUse
    ? `the port is taken. Choose another one, or see who has it: ss -ltnp 'sport = :${port}'`
    : messageOf(cause);
  return new ClusterrrError(`Cannot serve health and metrics on ${address}: ${why}`, { cause });
}
