/**
 * How fast the retransmission queue is as a cluster grows from 2 to 64 VMs: `deno bench -A net/retransmit`.
 * One iteration is 100,000 operations, a frame that comes in or one that is taken, so operations/s =
 * 100,000 / seconds. As in a cluster, most frames go to one VM and one in 50 to all others; each receiver is
 * some frames behind the senders, so that the queue holds what is in flight between them.
 */
import { RetransmissionQueue } from "./queue.ts";

const OPERATIONS = 100_000;
const VM_COUNTS = [2, 4, 8, 16, 32, 64];
/** One frame of so many is a broadcast. */
const BROADCAST_EVERY = 50;
/** How many frames of all VMs a receiver is behind. */
const FRAMES_BEHIND = 1000;
const FRAME = new Uint8Array(1514);

/** What happens, in order: a frame of `source` comes in; or receiver takes frame `sendNumber` of it. */
interface Schedule {
  readonly uses: ReadonlyMap<number, Uint16Array>;
  /** Pairs of a source (from 1) and a send number; -1: it comes in. */
  readonly steps: Int32Array;
}

/** A linear congruential generator: the same schedule in every run. */
function random(seed: number): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

function scheduleOf(vms: number): Schedule {
  const next = random(vms);
  const sent = new Array<number>(vms + 1).fill(0);
  const uses = new Map(
    Array.from({ length: vms }, (_, i) => [i + 1, new Uint16Array(OPERATIONS)] as const),
  );
  const waiting: [source: number, sendNumber: number][] = [];
  const steps: number[] = [];
  for (let n = 0; steps.length < 2 * OPERATIONS; n++) {
    const source = 1 + Math.floor(next() * vms);
    const sendNumber = sent[source]!++;
    const receivers = n % BROADCAST_EVERY === 0 ? vms - 1 : 1;
    uses.get(source)![sendNumber] = receivers;
    steps.push(source, -1);
    for (let i = 0; i < receivers; i++) waiting.push([source, sendNumber]);
    while (waiting.length > FRAMES_BEHIND && steps.length < 2 * OPERATIONS) {
      steps.push(...waiting.shift()!);
    }
  }
  return { uses, steps: Int32Array.from(steps) };
}

function run({ uses, steps }: Schedule): void {
  const queue = new RetransmissionQueue(uses);
  for (let i = 0; i < steps.length; i += 2) {
    const [source, sendNumber] = [steps[i]!, steps[i + 1]!];
    if (sendNumber < 0) queue.add(source, FRAME);
    else if (queue.take(source, sendNumber) === undefined) throw new Error("not come in yet");
  }
}

for (const vms of VM_COUNTS) {
  const schedule = scheduleOf(vms);
  Deno.bench({
    name: `100,000 operations, ${vms} VMs`,
    group: "retransmission queue",
    baseline: vms === VM_COUNTS[0],
    fn: () => run(schedule),
  });
}
