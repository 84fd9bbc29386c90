/** Consoles are bytes: what is no text differs too, and may end in the middle of a character. */
import assert from "node:assert/strict";
import { consolesEqual, readConsole } from "./consoles.ts";

Deno.test("consoles: equal byte for byte; of a log that was cut off, the beginning", () => {
  const text = (printed: string) => new TextEncoder().encode(printed);
  assert.equal(consolesEqual(text("a\n"), text("a\n"), true), true);
  assert.equal(consolesEqual(text("a\nb"), text("a\n"), true), false);
  assert.equal(consolesEqual(text("a\nb"), text("a\n"), false), true);
  assert.equal(consolesEqual(text("a\n"), text("a\nb"), false), false);
  assert.equal(consolesEqual(Uint8Array.of(0xfe), Uint8Array.of(0xff), true), false);
  assert.equal(consolesEqual(text("ü"), text("ü").subarray(0, 1), false), true);
});

Deno.test("consoles: a VM that never came to print has printed nothing", () => {
  assert.equal(readConsole("/nonexistent/console.log").length, 0);
});
