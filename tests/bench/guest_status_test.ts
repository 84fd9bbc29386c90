import assert from "node:assert/strict";
import { failureOf, guestStatusOf } from "./guest_status.ts";

Deno.test("a guest that says it failed did not do the work", () => {
  assert.equal(
    failureOf("GUEST role=hub up\r\nOK trio hub\r\nGUEST role=hub status=0\r\n"),
    undefined,
  );
  assert.equal(
    failureOf("FAIL trio hub: no blob from left\r\nGUEST role=hub status=1\r\n"),
    "FAIL trio hub: no blob from left",
  );
  assert.equal(failureOf("GUEST role=hub status=127 (…)\r\n"), "its guest ended with status 127");
});

Deno.test("a guest of another kind says nothing about its end", () => {
  assert.equal(failureOf("login: "), undefined);
  assert.equal(guestStatusOf("login: "), undefined);
});

Deno.test("what a program logs about other statuses is not the guest's", () => {
  const console = "GET / status=200\r\nGUEST role=web status=0\r\n";
  assert.equal(guestStatusOf(console), 0);
  assert.equal(guestStatusOf("GET / status=404\r\n"), undefined);
});
