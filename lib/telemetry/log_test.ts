import assert from "node:assert/strict";
import fc from "fast-check";
import { ClusterrrError } from "../errors.ts";
import { conceal, type LogLevel, logLevelFrom, logOf, startLogs } from "./log.ts";

/** What `use` logs at `level`, as it goes out. */
function logged(use: () => void, level: LogLevel = "trace", live = false, color = false): string {
  let text = "";
  const stop = startLogs(level, { err: (more) => text += more, errLive: live, errColor: color });
  try {
    use();
  } finally {
    stop();
  }
  return text;
}

/** The JSON lines, read. */
function records(use: () => void, level?: LogLevel): Record<string, unknown>[] {
  return logged(use, level).split("\n").filter((line) => line !== "").map((line) =>
    JSON.parse(line)
  );
}

Deno.test("log: JSON lines carry time, level, area, message, ids and fields", () => {
  const [first, second, ...more] = records(() => {
    const log = logOf("agent", { run: "a38df86f", host: "left-rack" });
    log.info("armed");
    log.with({ vm: "left" }).warning("VM {vm} ended with {code}", { code: 1, bytes: 2n ** 40n });
  });
  assert.deepEqual(more, []);
  assert(Math.abs(Date.parse(first!.time as string) - Date.now()) < 60_000);
  assert.deepEqual({ ...first, time: 0 }, {
    time: 0,
    level: "info",
    area: "agent",
    message: "armed",
    run: "a38df86f",
    host: "left-rack",
  });
  assert.deepEqual({ ...second, time: 0 }, {
    time: 0,
    level: "warning",
    area: "agent",
    message: "VM left ended with 1",
    run: "a38df86f",
    vm: "left",
    host: "left-rack",
    code: 1,
    bytes: 2 ** 40,
  });
  assert.deepEqual(Object.keys(second!).slice(0, 7), [
    "time",
    "level",
    "area",
    "message",
    "run",
    "vm",
    "host",
  ]);
});

Deno.test("log: a terminal gets lines to read, which no value can forge", () => {
  const use = () => {
    const log = logOf("link", { run: "r", vm: "a" });
    log.error("peer said {what}", { what: "x\x1b[2J\n12:00:00.000 info link: all is well" });
  };
  const forged = "x\\x1b[2J\n    12:00:00.000 info link: all is well";
  const line = logged(use, "info", true);
  assert.equal(
    line.replace(/^\d\d:\d\d:\d\d\.\d{3} /, "TIME "),
    `TIME error   link: peer said ${forged}  run=r vm=a what=${forged}\n`,
  );
  const colored = logged(use, "info", true, true);
  assert(colored.includes(" \x1b[31merror  \x1b[39m link: peer said "), colored);
});

Deno.test("log: the level decides; nothing is logged before the start and after the end", () => {
  const all = () => {
    const log = logOf("x");
    log.trace("1");
    log.debug("2");
    log.info("3");
    log.warning("4");
    log.error("5");
    log.fatal("6");
  };
  const said = (level: LogLevel) => records(all, level).map(({ message }) => message).join("");
  assert.equal(said("trace"), "123456");
  assert.equal(said("warning"), "456");
  assert.equal(said("fatal"), "6");
  const lines: string[] = [];
  const stop = startLogs("trace", {
    err: (text) => lines.push(text),
    errLive: false,
    errColor: false,
  });
  stop();
  all();
  assert.deepEqual(lines, []);
});

Deno.test("log: --log-level goes before CLUSTERRR_LOG, and both are checked", () => {
  assert.equal(logLevelFrom("DEBUG", "error"), "debug");
  assert.equal(logLevelFrom(undefined, "error"), "error");
  assert.equal(logLevelFrom(undefined, ""), "info");
  assert.throws(() => logLevelFrom(undefined, "loud"), {
    name: "UsageError",
    message:
      'CLUSTERRR_LOG: expected one of trace, debug, info, warning, error, fatal, but got "loud".',
  });
  assert.throws(() => logLevelFrom("loud"), /^UsageError: --log-level: expected/);
});

Deno.test("log: an error comes with its cause; a stack only where the error is none of ours", () => {
  const cause = new TypeError("no such thing");
  const [record] = records(() =>
    logOf("x").error("it failed", { error: new ClusterrrError("cannot go on", { cause }) })
  );
  const error = record!.error as Record<string, unknown>;
  assert.deepEqual(Object.keys(error), ["name", "message", "cause"]);
  assert.equal(error.message, "cannot go on");
  assert.match((error.cause as { stack: string }).stack, /TypeError: no such thing\n.*log_test/);
});

Deno.test("log: fields cannot replace ours, and anything can be logged", () => {
  const loop: Record<string, unknown> = { n: NaN, none: undefined, nil: null, f: () => 1 };
  loop.self = loop;
  const [record] = records(() =>
    logOf("x").info("m", {
      message: "other",
      level: 9,
      loop,
      map: new Map([["a", new Set([1])]]),
      long: "é".repeat(5000),
      list: Array(150).fill(0),
      broken: Object.defineProperty({}, "x", {
        enumerable: true,
        get() {
          throw new Error("never");
        },
      }),
    })
  );
  assert.equal(record!.message, "m");
  assert.equal(record!.level, "info");
  assert.deepEqual([record!.message_, record!.level_], ["other", 9]);
  assert.equal((record!.long as string).length, 4097);
  assert.equal((record!.list as unknown[]).at(-1), "… 50 more");
  assert.deepEqual([record!.map, record!.broken], [{ a: [1] }, {}]);
  const { n, nil, f } = record!.loop as Record<string, unknown>;
  assert.deepEqual([n, nil, f], ["NaN", null, "[function]"]);
});

/** A real private key: as PEM and as base64 of PKCS #8. */
async function privateKey(algorithm: EcKeyGenParams | RsaHashedKeyGenParams) {
  const { privateKey } = await crypto.subtle.generateKey(
    algorithm as EcKeyGenParams,
    true,
    ["sign", "verify"],
  );
  const base64 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", privateKey)).toBase64();
  const lines = base64.replaceAll(/.{64}/g, "$&\n");
  return {
    key: privateKey,
    base64,
    pem: `-----BEGIN PRIVATE KEY-----\n${lines}\n-----END PRIVATE KEY-----\n`,
  };
}

const ALGORITHMS = {
  "P-256": { name: "ECDSA", namedCurve: "P-256" },
  "P-384": { name: "ECDSA", namedCurve: "P-384" },
  "RSA": {
    name: "RSASSA-PKCS1-v1_5",
    modulusLength: 2048,
    publicExponent: new Uint8Array([1, 0, 1]),
    hash: "SHA-256",
  },
} as const;

for (const [name, algorithm] of Object.entries(ALGORITHMS)) {
  Deno.test(`log: a private key is never logged, wherever it stands: ${name}`, async () => {
    const { key, base64, pem } = await privateKey(algorithm);
    const use = () => {
      const log = logOf("x", { host: pem });
      log.info(`read ${pem}`);
      log.info("read {it}", { it: pem, nested: [{ it: `a ${pem} b` }], cut: pem.slice(0, 100) });
      log.info(`base64 ${base64}`, { [base64]: 1, url: base64.replaceAll("+", "-") });
      log.error("failed", { error: new Error(`bad PEM: ${pem}`, { cause: new Error(pem) }) });
      log.error(new Error(pem));
      log.info`tagged ${pem}`;
      log.info("{*}", {
        object: key,
        bytes: new TextEncoder().encode(pem),
        map: new Map([[pem, 1]]),
      });
    };
    for (const text of [logged(use), logged(use, "trace", true)]) {
      assert(text.includes("read [secret]") && text.includes(" bytes]"));
      for (const line of pem.split("\n").slice(1, -2)) {
        assert(!text.includes(line.slice(8, 40)), `${line} in\n${text}`);
      }
    }
  });
}

Deno.test("log: what stands under a secret's name is hidden, with its copies in the record", () => {
  const names = ["token", "joinToken", "join_token", "TOKEN", "privateKey", "key_pem", "password"];
  for (const name of names) {
    const use = () =>
      logOf("x").warning(`refused {${name}}, that is zzzz-zzzz-zzzz`, {
        [name]: "zzzz-zzzz-zzzz",
        nested: { deep: ["copy of zzzz-zzzz-zzzz"], [name]: { inner: "yyyyyyyyyy" } },
        error: new Error("bad token zzzz-zzzz-zzzz yyyyyyyyyy"),
      });
    for (const text of [logged(use), logged(use, "trace", true)]) {
      assert(text.includes("refused [secret], that is [secret]"), text);
      assert.doesNotMatch(text, /zzzz|yyyy/, name);
    }
  }
  const short = records(() =>
    logOf("x").info("m", { password: "abc", keys: { flag: true, n: 5 } })
  );
  assert.deepEqual([short[0]!.password, short[0]!.keys], ["[secret]", "[secret]"]);
  const plain = logged(() =>
    logOf("x").info("monkey", { monkey: "visible-text", keyboard: "shown" })
  );
  assert.match(plain, /visible-text.*shown/);
});

Deno.test("log: what was concealed is in no record, whatever it is woven into", () => {
  assert.throws(() => conceal("short"), /none/);
  const tokenArb = fc.stringMatching(/^[A-Za-z0-9_.-]{8,60}$/);
  const places: ((secret: string, around: string) => void)[] = [
    (s, a) => logOf("x").info(`${a}${s}${a}`),
    (s, a) => logOf("x").info`tagged ${a + s}`,
    (s, a) => logOf("x", { run: s, vm: a + s }).debug("ids"),
    (s, a) => logOf(s + a).info("area"),
    (s, a) => logOf("x").info("field {f}", { f: a + s + a, [s]: a, list: [[s], new Set([s])] }),
    (s, a) => logOf("x").info("url", { at: new URL(`http://h/?q=${s}`), a }),
    (s, a) =>
      logOf("x").error(`${a}`, { error: new ClusterrrError(s, { cause: new Error(s + a) }) }),
  ];
  fc.assert(
    fc.property(
      tokenArb,
      fc.string({ maxLength: 8 }),
      fc.constantFrom(...places),
      (t, a, place) => {
        const secret = conceal(`clusterrr-${t}`);
        for (const live of [false, true]) {
          const text = logged(() => place(secret, a), "trace", live);
          assert(text !== "" && !text.includes(secret), text);
        }
      },
    ),
    { numRuns: 500 },
  );
});

Deno.test("log: a process logs JSON lines on standard error, and nothing on standard output", async () => {
  const code = `
    import { processTerminal } from "./lib/cli/terminal.ts";
    import { conceal, logLevelFrom, logOf, startLogs } from "./lib/telemetry/log.ts";
    startLogs(logLevelFrom(undefined), processTerminal());
    const token = conceal("join-" + "0123456789");
    logOf("agent", { run: "r" }).debug("joining with " + token);
    logOf("agent").trace("not said");`;
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--ext=ts", code],
    env: { CLUSTERRR_LOG: "debug" },
    cwd: new URL("../../", import.meta.url),
    signal: AbortSignal.timeout(30_000),
  }).output();
  const said = new TextDecoder().decode(stderr);
  assert(success, said);
  assert.equal(stdout.length, 0);
  const { time: _, ...record } = JSON.parse(said);
  assert.deepEqual(record, {
    level: "debug",
    area: "agent",
    message: "joining with [secret]",
    run: "r",
  });
});
