/**
 * How long a frame takes to the VM of another host, and its answer back: two ends of a link over TLS on
 * loopback, each in a process of its own, as two VMs use it that wait for each other; beside it the same
 * through the retransmission queue of one process. A frame that came over a link is in its receiver's
 * spool, and read from there, before it counts.
 *
 * Run as a program, this file is the far end: `link_round_trips.ts DIRECTORY ROUND_TRIPS PORT`.
 */
import { connectTls } from "../../host/tls/connector.ts";
import { listenTls } from "../../host/tls/listener.ts";
import { CertificateAuthority } from "../../lib/identity/authority.ts";
import { loadIdentity, storeIdentity } from "../../lib/identity/files.ts";
import { serverNameOf } from "../../lib/protocol/channel.ts";
import type { LogCensus } from "../../lib/roles/log_census.ts";
import { type LinksOptions, ReplayLinks } from "../../net/retransmit/replay_links.ts";
import { RetransmissionQueue } from "../../net/retransmit/queue.ts";

/** The two ends: who is there, and which VM of it sends. The lower name connects. */
const NEAR = { name: "near", vm: 2 };
const FAR = { name: "far", vm: 1 };
const FRAME_BYTES = 1514;
/** Both processes have compiled their code by then. */
const WARM_UP = 500;

/** Each round trip, in ms, in order. */
export interface RoundTrips {
  readonly link: readonly number[];
  readonly queue: readonly number[];
}

/** Makes `count` round trips both ways, with files below `scratch`. */
export async function measureRoundTrips(count: number, scratch: string): Promise<RoundTrips> {
  const directory = `${scratch}/links`;
  await Deno.mkdir(directory);
  const { authority } = await CertificateAuthority.create();
  for (const { name } of [NEAR, FAR]) {
    const identity = await authority.issueIdentity("agent", name);
    await storeIdentity(`${directory}/${name}`, identity, authority.certificate.pem);
  }
  return { link: await overLink(count, directory), queue: await throughQueue(count) };
}

async function overLink(count: number, directory: string): Promise<number[]> {
  const total = count + WARM_UP;
  const { identity, ca } = await loadIdentity(`${directory}/${NEAR.name}`);
  await using cleanup = new AsyncDisposableStack();
  const links = makeLinks(NEAR, FAR, total, directory, () => {
    throw new Error("the near end does not connect");
  });
  cleanup.defer(() => links.close());
  const listener = await listenTls({
    host: "127.0.0.1",
    port: 0,
    identity,
    ca,
    isRevoked: () => false,
    onChannel: (channel) => links.accept(channel),
  });
  cleanup.defer(() => listener.close());
  const args = ["run", "-A", import.meta.filename!, directory, `${total}`, `${listener.port}`];
  const far = new Deno.Command("setpriv", {
    args: ["--pdeathsig", "KILL", "--", Deno.execPath(), ...args],
    stdin: "null",
  }).spawn();
  cleanup.defer(async () => void await far.status);
  links.start();
  const frame = crypto.getRandomValues(new Uint8Array(FRAME_BYTES));
  const times: number[] = [];
  for (let i = 0; i < total; i++) {
    const sentAt = performance.now();
    links.frames.add(NEAR.vm, frame.slice());
    await taken(links, FAR.vm, i);
    times.push(performance.now() - sentAt);
  }
  links.done();
  await links.settled(AbortSignal.timeout(10_000));
  return times.slice(WARM_UP);
}

/** The far end: answers every frame with one. */
async function answer(directory: string, total: number, port: number): Promise<void> {
  const { identity, ca } = await loadIdentity(`${directory}/${FAR.name}`);
  const serverName = serverNameOf({ role: "agent", name: NEAR.name });
  const links = makeLinks(
    FAR,
    NEAR,
    total,
    directory,
    () => connectTls({ address: `127.0.0.1:${port}`, identity, ca, serverName }),
  );
  links.start();
  for (let i = 0; i < total; i++) {
    const frame = await taken(links, NEAR.vm, i);
    links.frames.add(FAR.vm, frame);
  }
  links.done();
  await links.settled(AbortSignal.timeout(10_000));
  links.close();
}

/** Waits for a frame as a replaying agent does. */
async function taken(links: ReplayLinks, source: number, number: number): Promise<Uint8Array> {
  for (;;) {
    const news = links.elsewhere.news();
    links.elsewhere.check();
    const frame = links.frames.take(source, number);
    if (frame !== undefined) return frame;
    await news;
  }
}

function makeLinks(
  self: typeof NEAR,
  peer: typeof NEAR,
  frames: number,
  directory: string,
  connect: LinksOptions["connect"],
): ReplayLinks {
  const spoolDirectory = `${directory}/spool-${self.name}`;
  Deno.mkdirSync(spoolDirectory);
  return new ReplayLinks({
    runId: "round-trips",
    name: self.name,
    peers: [{ name: peer.name, vms: [peer.vm] }],
    censuses: new Map([[self.vm, logThatNeeds(peer.vm, frames)]]),
    spoolDirectory,
    windowEpochs: 1,
    connect,
  });
}

/** A log that receives the frames 0, 1, 2 … of `source`. */
function logThatNeeds(source: number, frames: number): LogCensus {
  const numbers = Float64Array.from({ length: frames }, (_, i) => i);
  return {
    receives: {
      lamports: BigUint64Array.from({ length: frames }, (_, i) => BigInt(i + 1)),
      icounts: numbers,
      sources: numbers.map(() => source),
      numbers,
      lastInside: numbers,
    },
    sendTimes: new BigUint64Array(0),
    cuts: [{ epoch: 1, icount: 1, receives: 0, insideBefore: 1, insideAfter: 1 }],
    bytes: 0,
    checks: [],
    complete: true,
    icount: frames,
    poweroffAt: Infinity,
  };
}

/** The same where both VMs are on one host; it waits a turn of the event loop for each frame. */
async function throughQueue(count: number): Promise<number[]> {
  const uses = () => new Uint16Array(count).fill(1);
  const queue = new RetransmissionQueue(new Map([[NEAR.vm, uses()], [FAR.vm, uses()]]));
  const frame = crypto.getRandomValues(new Uint8Array(FRAME_BYTES));
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const sentAt = performance.now();
    queue.add(NEAR.vm, frame.slice());
    await Promise.resolve();
    queue.add(FAR.vm, queue.take(NEAR.vm, i)!);
    await Promise.resolve();
    queue.take(FAR.vm, i);
    times.push(performance.now() - sentAt);
  }
  return times;
}

if (import.meta.main) {
  const [directory, total, port] = Deno.args;
  await answer(directory!, Number(total), Number(port));
  Deno.exit(0);
}
