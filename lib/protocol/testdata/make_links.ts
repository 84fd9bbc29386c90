/** Writes the golden file of the link messages: a line a message, "name: kind body", both in hex. */
import { LINK_EXAMPLES } from "../link_fixture.ts";
import { encodeLinkMessage } from "../link_messages.ts";

const lines = Object.entries(LINK_EXAMPLES).map(([name, message]) => {
  const { kind, body } = encodeLinkMessage(message);
  return `${name}: ${Uint8Array.of(kind).toHex()} ${body.toHex()}\n`;
});
Deno.writeTextFileSync(new URL("links_v1.txt", import.meta.url), lines.join(""));
