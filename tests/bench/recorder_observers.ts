/**
 * Who watches a network of two VMs while frames pass: nobody, our recorder with its reader, tcpdump, dumpcap.
 *
 * Ours says of every frame who sent it and whom it reached, so it has programs on both taps. The others
 * capture at one place only, the receiver's tap, into /dev/null, and with a buffer as large as our ring:
 * the cheapest that tells what the receiver got.
 */
import { HostError } from "../../lib/errors.ts";
import type { RecorderSink } from "../../lib/roles/ports.ts";
import { sleep } from "../../lib/sleep.ts";
import { armRecorder } from "../../net/bpf/recorder.ts";
import type { Network, NetworkPlan } from "../../net/topology.ts";
import { usageOf } from "./process_usage.ts";

/** The VMs of the plan. */
export const SENDER = 1;
export const RECEIVER = 2;
/** Our ring's size, and what the others get. */
const BUFFER_MIB = 16;
/** As often as the agent of a recording reads its recorder. */
const DRAIN_MS = 2;
const HEADER_BYTES = 64;
const START_MS = 10_000;

export const OBSERVERS = [
  "no recorder",
  "clusterrr",
  `tcpdump -s ${HEADER_BYTES}`,
  "tcpdump",
  `dumpcap -s ${HEADER_BYTES}`,
  "dumpcap",
] as const;
export type ObserverName = typeof OBSERVERS[number];

/** What an observer saw. */
export interface Observed {
  /** Frames that it has. */
  readonly frames: number;
  /** Frames, or events of them, that it says it lost. */
  readonly lost: number;
  /** CPU time of its own process: that of the kernel is the sender's. */
  readonly cpuS: number;
}

/** An observer at work. */
interface Observer {
  stop(): Promise<Observed>;
}

/** Runs `work` under the eyes of `name`; without a recorder there is nothing observed. */
export async function observed<T>(
  name: ObserverName,
  network: Network,
  plan: NetworkPlan,
  work: () => Promise<T>,
): Promise<{ result: T; observed?: Observed }> {
  if (name === "no recorder") return { result: await work() };
  const observer = name === "clusterrr"
    ? await startOurs(network, plan)
    : await startCapture(name, network);
  let result: T;
  try {
    result = await work();
  } catch (error) {
    await observer.stop().catch(() => {});
    throw error;
  }
  return { result, observed: await observer.stop() };
}

/** Counts, and looks that every frame that was delivered is the next one that was sent. */
export class CountingSink implements RecorderSink {
  sends = 0;
  deliveries = 0;
  /** Probes that were sent before the bridge forwarded. */
  #undelivered: number | undefined;

  sent(vm: number, n: number): void {
    if (vm !== SENDER) return;
    if (n !== this.sends) throw new Error(`frame ${n} was sent behind ${this.sends - 1}`);
    this.sends++;
  }

  delivered(vm: number, n: number, source: number, sendNumber: number): void {
    if (vm !== RECEIVER) return;
    this.#undelivered ??= sendNumber;
    if (source !== SENDER || n !== this.deliveries || sendNumber !== n + this.#undelivered) {
      throw new Error(`delivery ${n} is frame ${sendNumber} of VM ${source}`);
    }
    this.deliveries++;
  }
}

async function startOurs(network: Network, plan: NetworkPlan): Promise<Observer> {
  const recorder = await armRecorder(network, plan);
  const sink = new CountingSink();
  let failure: unknown;
  const before = usageOf(Deno.pid).cpuMs;
  const timer = setInterval(() => {
    try {
      recorder.drain(sink);
    } catch (error) {
      failure = error;
      clearInterval(timer);
    }
  }, DRAIN_MS);
  return {
    async stop() {
      clearInterval(timer);
      const cpuS = (usageOf(Deno.pid).cpuMs - before) / 1000;
      try {
        if (failure !== undefined) throw failure;
        recorder.drain(sink);
        const { lostSends, lostReceives } = recorder.counters();
        return { frames: sink.deliveries, lost: Number(lostSends + lostReceives), cpuS };
      } finally {
        await recorder.close();
      }
    },
  };
}

async function startCapture(name: ObserverName, network: Network): Promise<Observer> {
  const tap = network.tapOf(RECEIVER);
  const short = name.includes("-s") ? ["-s", `${HEADER_BYTES}`] : [];
  const isTcpdump = name.startsWith("tcpdump");
  const argv = isTcpdump
    ? ["tcpdump", "-n", "-Z", "root", "-B", `${BUFFER_MIB * 1024}`]
    : ["dumpcap", "-q", "-B", `${BUFFER_MIB}`];
  const child = new Deno.Command("setpriv", {
    args: [
      ...["--pdeathsig", "KILL", "--", ...network.enter, ...argv, ...short],
      ...["-i", tap, "-w", "/dev/null"],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  let said = "";
  const saying = (async () => {
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) said += text;
  })();
  const ready = isTcpdump ? "listening on" : "File: ";
  const deadline = performance.now() + START_MS;
  let ended = false;
  void child.status.then(() => ended = true);
  while (!said.includes(ready)) {
    if (ended || performance.now() > deadline) {
      if (!ended) child.kill("SIGKILL");
      throw new HostError(argv.join(" "), (await child.status).code, said, ADVICE);
    }
    await sleep(20);
  }
  const before = usageOf(child.pid).cpuMs;
  return {
    async stop() {
      await sleep(SETTLE_MS);
      const cpuS = (usageOf(child.pid).cpuMs - before) / 1000;
      child.kill("SIGINT");
      const { code } = await child.status;
      await saying;
      const counts = isTcpdump ? tcpdumpCounts(said) : dumpcapCounts(said);
      if (counts === undefined) throw new HostError(argv.join(" "), code, said, ADVICE);
      return { ...counts, cpuS };
    },
  };
}

/** Until a block of the kernel's buffer that is not full reaches its reader. */
const SETTLE_MS = 1_200;
const ADVICE = "The recorder benchmark needs tcpdump and dumpcap: apt install tcpdump tshark.";

/** The counts that tcpdump prints at its end. */
export function tcpdumpCounts(text: string): Pick<Observed, "frames" | "lost"> | undefined {
  const frames = /^(\d+) packets? captured$/m.exec(text)?.[1];
  const dropped = /^(\d+) packets? dropped by kernel$/m.exec(text)?.[1];
  const byInterface = /^(\d+) packets? dropped by interface$/m.exec(text)?.[1] ?? "0";
  if (frames === undefined || dropped === undefined) return undefined;
  return { frames: Number(frames), lost: Number(dropped) + Number(byInterface) };
}

/** Likewise for dumpcap. */
export function dumpcapCounts(text: string): Pick<Observed, "frames" | "lost"> | undefined {
  const counts = /^Packets received\/dropped on interface '[^']*': (\d+)\/(\d+) /m.exec(text);
  if (counts === null) return undefined;
  return { frames: Number(counts[1]), lost: Number(counts[2]) };
}
