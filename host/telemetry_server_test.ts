import assert from "node:assert/strict";
import { Health } from "../lib/telemetry/health.ts";
import { createAgentMetrics } from "../lib/telemetry/metrics.ts";
import { parseLoopbackAddress, serveTelemetry, type TelemetryServer } from "./telemetry_server.ts";

/** Runs `use` with an agent's endpoint on a free port. */
async function withServer(
  use: (server: TelemetryServer, health: Health) => Promise<void>,
  metrics: { text(): Promise<string> } = createAgentMetrics("1.2.3"),
): Promise<void> {
  const health = new Health("agent", "1.2.3");
  const server = serveTelemetry("127.0.0.1:0", health, metrics);
  try {
    await use(server, health);
  } finally {
    await server.close();
  }
}

async function get(url: string, init: RequestInit = {}) {
  const response = await fetch(url, { ...init, signal: AbortSignal.timeout(5000) });
  return { response, status: response.status, text: await response.text() };
}

Deno.test("telemetry server: health is 200, and 503 with what is wrong", () =>
  withServer(async ({ url }, health) => {
    const well = await get(`${url}/healthz`);
    assert.equal(well.status, 200);
    assert.deepEqual(JSON.parse(well.text), {
      status: "ok",
      role: "agent",
      version: "1.2.3",
      uptimeS: 0,
      problems: [],
    });
    health.raise("coordinator", "the coordinator cannot be reached for 11 s");
    health.raise("coordinator", "the coordinator cannot be reached for 12 s");
    health.raise("disk", "the disk is full");
    const ill = await get(`${url}/healthz`);
    assert.equal(ill.status, 503);
    assert.equal(JSON.parse(ill.text).status, "unhealthy");
    assert.deepEqual(JSON.parse(ill.text).problems, [
      "the coordinator cannot be reached for 12 s",
      "the disk is full",
    ]);
    health.clear("coordinator");
    health.clear("disk");
    assert.equal((await get(`${url}/healthz`)).status, 200);
  }));

Deno.test("telemetry server: metrics in Prometheus' format, with its content type", () =>
  withServer(async ({ url }) => {
    const { response, status, text } = await get(`${url}/metrics?x=1`);
    assert.equal(status, 200);
    assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert.match(text, /^clusterrr_build_info\{version="1\.2\.3",role="agent"\} 1$/m);
    const head = await get(`${url}/metrics`, { method: "HEAD" });
    assert.deepEqual([head.status, head.text], [200, ""]);
  }));

Deno.test("telemetry server: other paths and methods", () =>
  withServer(async ({ url }) => {
    assert.equal((await get(url)).text, "There are /healthz and /metrics.\n");
    assert.equal((await get(`${url}/metrics/x`)).status, 404);
    const post = await get(`${url}/healthz`, { method: "POST", body: "x".repeat(100_000) });
    assert.equal(post.status, 405);
    assert.equal(post.response.headers.get("allow"), "GET, HEAD");
  }));

Deno.test("telemetry server: many readers at once are told to come later; health is answered", async () => {
  const gate = Promise.withResolvers<string>();
  await withServer(async ({ url }) => {
    const readers = Array.from({ length: 30 }, () => get(`${url}/metrics`));
    const refused = await firstSettled(readers, 14);
    assert(refused.every(({ status, text }) => status === 503 && text.startsWith("Busy")));
    assert.equal((await get(`${url}/healthz`)).status, 200);
    gate.resolve("x 1\n");
    const statuses = (await Promise.all(readers)).map(({ status }) => status).sort();
    assert.deepEqual(statuses, [...Array(16).fill(200), ...Array(14).fill(503)]);
    assert.equal((await get(`${url}/metrics`)).status, 200); // there is room again
  }, { text: () => gate.promise });
});

/** The first `count` results. */
function firstSettled<T>(promises: readonly Promise<T>[], count: number): Promise<T[]> {
  return new Promise((resolve, reject) => {
    const results: T[] = [];
    for (const each of promises) {
      each.then((result) => results.push(result) === count && resolve(results), reject);
    }
  });
}

Deno.test("telemetry server: a failure to make metrics is an answer, and the server goes on", () => {
  let failing = true;
  const text = () => failing ? Promise.reject(new Error("no values")) : Promise.resolve("x 1\n");
  return withServer(async ({ url }) => {
    const failed = await get(`${url}/metrics`);
    assert.deepEqual([failed.status, failed.text], [500, "internal error: no values\n"]);
    failing = false;
    assert.equal((await get(`${url}/metrics`)).text, "x 1\n");
  }, { text });
});

Deno.test("telemetry server: loopback addresses only", () => {
  assert.deepEqual(parseLoopbackAddress("127.0.0.1:9464"), { hostname: "127.0.0.1", port: 9464 });
  assert.deepEqual(parseLoopbackAddress("127.8.9.255:0"), { hostname: "127.8.9.255", port: 0 });
  assert.deepEqual(parseLoopbackAddress("[::1]:1"), { hostname: "::1", port: 1 });
  assert.deepEqual(parseLoopbackAddress("localhost:80"), { hostname: "127.0.0.1", port: 80 });
  const elsewhere = [
    "0.0.0.0:1",
    "10.0.0.1:1",
    "[::]:1",
    "[fe80::1]:1",
    "[::ffff:10.0.0.1]:1",
    "127.0.0.1.example.org:1",
    "127.0.0.256:1",
    "1270.0.0.1:1",
    "example.org:1",
    "localhost.example.org:1",
  ];
  for (const address of elsewhere) {
    assert.throws(() => parseLoopbackAddress(address), { name: "UsageError", message: /no TLS/ });
    const serve = () => serveTelemetry(address, new Health("agent", "1"), createAgentMetrics("1"));
    assert.throws(serve, { name: "UsageError", message: /no TLS/ });
  }
  for (const address of ["", "9464", "127.0.0.1", ":9464", "127.0.0.1:99999", "127.0.0.1:-1"]) {
    assert.throws(() => parseLoopbackAddress(address), /Expected a loopback address/, address);
  }
});

Deno.test("telemetry server: a port that is taken is named", () =>
  withServer(({ url }) => {
    const address = url.slice("http://".length);
    const serve = () => serveTelemetry(address, new Health("agent", "1"), createAgentMetrics("1"));
    assert.throws(serve, {
      name: "ClusterrrError",
      message: new RegExp(
        `^Cannot serve health and metrics on ${address}: the port is taken\\. .* ss -ltnp`,
      ),
    });
    return Promise.resolve();
  }));

Deno.test("telemetry server: closes though a reader is idle and an answer never gets made", async () => {
  const asked = Promise.withResolvers<void>();
  const never = Promise.withResolvers<string>();
  const text = () => (asked.resolve(), never.promise);
  const health = new Health("agent", "1");
  const server = serveTelemetry("127.0.0.1:0", health, { text });
  const port = Number(new URL(server.url).port);
  const silent = await Deno.connect({ port });
  const waiting = await Deno.connect({ port });
  await waiting.write(new TextEncoder().encode("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
  await asked.promise;
  const startedAt = performance.now();
  await server.close();
  assert(performance.now() - startedAt < 5000);
  await assert.rejects(fetch(server.url), TypeError);
  silent.close();
  waiting.close();
  never.resolve("");
  // The port is free again.
  const next = serveTelemetry(`127.0.0.1:${port}`, health, createAgentMetrics("1"));
  assert.equal((await get(`${next.url}/healthz`)).status, 200);
  await next.close();
});

Deno.test("telemetry server: an answer that is being made when it closes still goes out", async () => {
  const asked = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<string>();
  const text = () => (asked.resolve(), gate.promise);
  const server = serveTelemetry("127.0.0.1:0", new Health("agent", "1"), { text });
  const reader = get(`${server.url}/metrics`);
  await asked.promise;
  const closed = server.close();
  gate.resolve("x 1\n");
  assert.equal((await reader).text, "x 1\n");
  await closed;
});
