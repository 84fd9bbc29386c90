/** Writes a hybrid log into the directory `Deno.args[0]` until it is killed; for `hybrid_log_test.ts`. */
import { HybridLogWriter } from "../hybrid_log_writer.ts";
import { rrHeader } from "./item_trace.ts";

const options = { vm: 2, rrLogVersion: 0xe0200c, blockBytes: 2000, segmentBytes: 20_000 };
const writer = new HybridLogWriter(Deno.args[0]!, options);
const header = Uint8Array.fromHex(rrHeader(9, 0, 0, 60));
const noise = crypto.getRandomValues(new Uint8Array(50));
for (let n = 0;; n++) {
  writer.events(noise, 0, noise.length, n);
  writer.reference(header, 1, n, BigInt(n));
  if (n === 1000) console.log("begun");
}
