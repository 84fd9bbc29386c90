import assert from "node:assert/strict";
import { HostError } from "../lib/errors.ts";
import { sendFrames } from "./frame_socket.ts";
import { freshRun, macOf, openTaps, testFrame } from "./tap_fixture.ts";
import { createNetwork } from "./topology.ts";

Deno.test({
  name: "frames that are sent out of a tap reach its VM, in order, and no other",
  ignore: Deno.uid() !== 0,
  async fn() {
    const plan = { run: freshRun(), vms: [{ number: 1, name: "one" }, { number: 2, name: "two" }] };
    const network = await createNetwork(plan);
    try {
      const [one, two] = await openTaps(network, [1, 2]);
      const texts = Array.from({ length: 300 }, (_, i) => `kept ${i}`);
      sendFrames(network.netns, network.tapOf(1), texts.map((text) => testFrame(macOf(2), text)));
      assert.deepEqual(await one!.payloads(texts.length), texts);
      assert.equal(two!.poll(), undefined);
      const nowhere = () => sendFrames(network.netns, "none", []);
      assert.throws(nowhere, HostError);
      one![Symbol.dispose]();
      two![Symbol.dispose]();
    } finally {
      await network.remove();
    }
  },
});
