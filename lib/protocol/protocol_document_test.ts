/** The examples of PROTOCOL.md against the code. */
import assert from "node:assert/strict";
import { z } from "zod";
import { decodeToken, encodeToken } from "../identity/join_token.ts";
import { joinAnswer, joinRequest } from "../identity/joining.ts";
import {
  AGENT_METHODS,
  AGENT_REPORTS,
  FILE_METHODS,
  linkOpening,
  OPERATOR_METHODS,
} from "./control.ts";
import { encodeMessage, JSON_KIND, MessageDecoder } from "./framing.ts";
import { isWelcome, WELCOME } from "./greeting.ts";
import { channelPair } from "./memory_channel.ts";
import { startRpc } from "./rpc.ts";

const document = await Deno.readTextFile(new URL("PROTOCOL.md", import.meta.url));

/** The examples of one kind: what stands behind the kind, and the lines. */
function examples(kind: string): { head: string; lines: string[] }[] {
  const found = [...document.matchAll(/^ *```(\S+)(?: (.*))?\n([\s\S]*?)^ *```$/gm)]
    .filter(([, its]) => its === kind)
    .map(([, , head, body]) => ({
      head: head ?? "",
      lines: body!.trim().split("\n").map((line) => line.trim()),
    }));
  assert.ok(found.length > 0, `no example of kind ${kind}`);
  return found;
}

const utf8 = (text: string) => new TextEncoder().encode(text);

Deno.test("the bytes of messages", () => {
  const found = examples("hex");
  assert.equal(found.length, 3);
  for (const { head, lines } of found) {
    const bytes = Uint8Array.fromHex(lines.join("").replaceAll(" ", ""));
    const binary = /^(\d+) ([0-9a-f]+)$/.exec(head);
    const message = binary
      ? { kind: Number(binary[1]), body: Uint8Array.fromHex(binary[2]!) }
      : { kind: JSON_KIND, body: utf8(head) };
    assert.deepEqual(encodeMessage(message.kind, message.body), bytes, head);
    assert.deepEqual(new MessageDecoder().push(bytes), [message]);
  }
  const welcome = found.find(({ head }) => head.includes("welcome"))!;
  assert.deepEqual(utf8(welcome.head), WELCOME);
  assert.ok(isWelcome({ kind: 0, body: utf8(welcome.head) }));
  assert.ok(!isWelcome({ kind: 0, body: utf8(welcome.head.replace("1", "2")) }));
});

Deno.test("the token", () => {
  for (const { head, lines } of examples("token")) {
    const fields = Object.fromEntries(head.split(" ").map((field) => field.split("=")));
    const token = {
      fingerprint: fields.fingerprint,
      secret: fields.secret,
      expiresAt: new Date(Number(fields.expiry) * 1000),
    };
    assert.equal(encodeToken(token), lines[0]);
    assert.deepEqual(decodeToken(lines[0]!), token);
  }
});

Deno.test("a request to join and its answers", () => {
  const found = examples("json");
  assert.equal(found.length, 3);
  for (const { head, lines } of found) {
    const schema = head === "join" ? joinRequest : joinAnswer;
    const value = JSON.parse(lines.join(""));
    assert.deepEqual(schema.parse(value), value);
  }
});

Deno.test("the exchange of calls", async () => {
  const notes: string[] = [];
  const [ofServer, raw] = channelPair(
    { role: "coordinator", name: "coordinator", serial: "1" },
    { role: "agent", name: "left", serial: "2" },
  );
  const rpc = startRpc(ofServer, {
    serves: {
      double: { params: z.strictObject({ n: z.int() }), result: z.int() },
      forever: { params: z.strictObject({}), result: z.null() },
      note: { params: z.strictObject({ text: z.string() }) },
    },
    handlers: {
      double: ({ n }) => 2 * n,
      forever: (_, { signal }) =>
        new Promise<null>((_, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason))
        ),
      note: ({ text }) => void notes.push(text),
    },
    calls: {},
  });
  for (const { lines } of examples("exchange")) {
    for (const line of lines) {
      const message = line.slice(2);
      if (line.startsWith("> ")) await raw.send(JSON_KIND, utf8(message));
      else assert.equal(new TextDecoder().decode((await raw.receive())!.body), message);
    }
  }
  assert.deepEqual(notes, ["no answer"]);
  raw.close();
  await rpc.closed;
});

Deno.test("control: every example fits its schema, and every method is in the table", () => {
  const tables: Record<string, Record<string, { params: z.ZodType; result: z.ZodType }>> = {
    AGENT_METHODS,
    AGENT_REPORTS,
    OPERATOR_METHODS,
    FILE_METHODS,
  };
  for (const { head, lines } of examples("control")) {
    const [, table, method, side] = /^(\w+)\.(.*)\.(params|result)$/.exec(head) ?? [];
    const schema = table === undefined
      ? linkOpening
      : tables[table]![method!]![side as "params" | "result"];
    const json = JSON.parse(lines.join(" "));
    assert.deepEqual(schema.parse(json), json, head);
  }
  for (const methods of Object.values(tables)) {
    for (const method of Object.keys(methods)) {
      assert.ok(document.includes(`\`${method}\``), `${method} is not in the document`);
    }
  }
});
