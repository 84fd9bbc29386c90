import assert from "node:assert/strict";
import { missedByOurs, type Sample, tableOf } from "./recorder.ts";
import { CountingSink, dumpcapCounts, OBSERVERS, tcpdumpCounts } from "./recorder_observers.ts";

Deno.test("what tcpdump and dumpcap print at their end", () => {
  assert.deepEqual(
    tcpdumpCounts(
      "tcpdump: listening on clrrx1v2, link-type EN10MB (Ethernet), snapshot length 64 bytes\n" +
        "900 packets captured\n1000 packets received by filter\n100 packets dropped by kernel\n",
    ),
    { frames: 900, lost: 100 },
  );
  assert.equal(tcpdumpCounts("tcpdump: listening on clrrx1v2\n"), undefined);
  assert.deepEqual(
    dumpcapCounts(
      "Capturing on 'clrrx1v2'\nFile: /dev/null\nPackets captured: 206\n" +
        "Packets received/dropped on interface 'clrrx1v2': 206/12 " +
        "(pcap:12/dumpcap:0/flushed:0/ps_ifdrop:0) (94.5%)\n",
    ),
    { frames: 206, lost: 12 },
  );
  assert.equal(dumpcapCounts("Capturing on 'clrrx1v2'\n"), undefined);
});

Deno.test("our reader refuses frames out of order and from elsewhere", () => {
  const sink = new CountingSink();
  for (const n of [0, 1, 2]) sink.sent(1, n);
  sink.delivered(2, 0, 1, 1); // frame 0 was sent before the bridge forwarded
  sink.delivered(2, 1, 1, 2);
  assert.equal(sink.deliveries, 2);
  assert.throws(() => sink.delivered(2, 2, 1, 4), /delivery 2 is frame 4 of VM 1/);
  assert.throws(() => sink.delivered(2, 3, 1, 4), /delivery 3/);
  assert.throws(() => sink.delivered(2, 2, 0, -1), /VM 0/);
  assert.throws(() => sink.sent(1, 4), /frame 4 was sent behind 2/);
});

/** Two rounds; the observer that is the `i`th takes `i` tenths of the unwatched rate. */
function samplesOf(lost: number): Sample[] {
  return [1, 2].flatMap((round) =>
    OBSERVERS.map((observer, i): Sample => {
      const inTime = 100_000 * round * (10 - i) / 10;
      return {
        ...{ observer, bytes: 60 },
        load: { seconds: 1, inTime, sent: inTime, received: inTime, writerCpuS: 1, readerCpuS: 1 },
        ...i === 0 ? {} : { observed: { frames: inTime + 1 - lost, lost, cpuS: 0.5 } },
      };
    })
  );
}

Deno.test("the table has medians, ratios of each round, and what was lost", () => {
  const lines = tableOf(samplesOf(0), 60).trim().split("\n").map((line) => line.split(/ {2,}/));
  assert.equal(lines.length, OBSERVERS.length + 1);
  assert.deepEqual(lines[1]!.slice(0, 4), ["no recorder", "150,000", "100,000–200,000", "1.00"]);
  assert.deepEqual(lines[2]!.slice(0, 4), ["clusterrr", "135,000", "90,000–180,000", "0.90"]);
  assert.equal(lines[2]!.at(-1), "0");
  assert.equal(missedByOurs(samplesOf(0)), 0);
});

Deno.test("what ours lost is counted, twice where it is also missing", () => {
  assert.match(tableOf(samplesOf(5), 60), /clusterrr .* 10 \(0\.0 %\)\n/);
  assert.equal(missedByOurs(samplesOf(5)), 2 * (5 + 4));
});
