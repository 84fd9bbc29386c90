import assert from "node:assert/strict";
import fc from "fast-check";
import {
  DURATION_MAX_MS,
  formatBytes,
  formatCount,
  formatDuration,
  formatPercent,
  formatSeconds,
  formatTime,
  parseDuration,
} from "./quantities.ts";

Deno.test("durations are read", () => {
  const cases: Record<string, number | undefined> = {
    "500ms": 500,
    "1ms": 1,
    "10s": 10_000,
    "1.5s": 1_500,
    "0.25m": 15_000,
    "2m": 120_000,
    "1h": 3_600_000,
    "1h30m": 5_400_000,
    "1m0.5s": 60_500,
    "596h": DURATION_MAX_MS,
    "596h1ms": undefined,
    "1000h": undefined,
    "0s": undefined,
    "0.1ms": undefined,
    "": undefined,
    "10": undefined,
    "s": undefined,
    "-1s": undefined,
    "+1s": undefined,
    "1 s": undefined,
    "1d": undefined,
    "1S": undefined,
    ".5s": undefined,
    "1e3s": undefined,
    "1s\n": undefined,
    "٣s": undefined,
  };
  for (const [text, ms] of Object.entries(cases)) assert.equal(parseDuration(text), ms, text);
});

Deno.test("a formatted duration reads as itself", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: DURATION_MAX_MS }), (ms) => {
      assert.equal(parseDuration(formatDuration(ms)), ms);
    }),
    { verbose: true },
  );
  assert.equal(formatDuration(0), "0");
  assert.equal(formatDuration(5_000), "5s");
  assert.equal(formatDuration(90_000), "90s");
});

Deno.test("arbitrary text is no duration, or one within its bounds", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[0-9.smh]{0,12}$/), (text) => {
      const ms = parseDuration(text);
      assert.ok(ms === undefined || Number.isSafeInteger(ms) && ms >= 1 && ms <= DURATION_MAX_MS);
    }),
    { verbose: true },
  );
});

Deno.test("sizes have three digits that count", () => {
  const cases: [number, string][] = [
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.00 kB"],
    [9_994, "9.99 kB"],
    [9_995, "10.0 kB"],
    [99_949, "99.9 kB"],
    [99_950, "100 kB"],
    [999_499, "999 kB"],
    [999_500, "1.00 MB"],
    [1_234_567, "1.23 MB"],
    [45_600_000_000, "45.6 GB"],
    [7e15, "7.00 PB"],
    [7e19, "70000 PB"],
  ];
  for (const [bytes, text] of cases) assert.equal(formatBytes(bytes), text);
});

Deno.test("counts, times and percentages", () => {
  assert.deepEqual([0, 999, 1000, 1234567].map(formatCount), ["0", "999", "1,000", "1,234,567"]);
  assert.deepEqual([0, 0.44, 59.94, 59.95, 125, 3599.9, 3720].map(formatSeconds), [
    "0.0 s",
    "0.4 s",
    "59.9 s",
    "1 min 00 s",
    "2 min 05 s",
    "1 h 00 min",
    "1 h 02 min",
  ]);
  assert.deepEqual([-1, 0, 0.42, 0.999, 1, 2].map(formatPercent), [
    "0 %",
    "0 %",
    "42 %",
    "99 %",
    "100 %",
    "100 %",
  ]);
  assert.match(formatTime("2026-01-31T09:05:59Z"), /^2026-0[12]-\d\d \d\d:\d\d$/);
  assert.equal(formatTime("once"), "once");
});
