/**
 * The tc/eBPF recorder of a run: says which frame left which VM and which frame entered which VM's
 * queue, in order, with Lamport times.
 *
 * In: the frames on the taps of a network, seen by the two programs of `recorder.bpf.c`. Out: calls of
 * a sink whenever the caller drains the ring. Nothing wakes the caller: it polls, every few
 * milliseconds. A full ring loses events but no frames; the numbers in the events show the gap, the
 * counters its size.
 */
import { epochStart } from "../../lib/clocks/lamport.ts";
import type {
  RecorderCounters,
  RecorderPort,
  RecorderSink,
  TunnelCounters,
} from "../../lib/roles/ports.ts";
import { namesOf } from "../names.ts";
import { makePins, removePins } from "../pins.ts";
import { ifindexOf } from "../tap.ts";
import type { Network, NetworkPlan } from "../topology.ts";
import { joinTunnel, leaveTunnel } from "../tunnel.ts";
import {
  attachByTc,
  attachDelivery,
  attachIngress,
  attachTunnel,
  detachDelivery,
  detachIngress,
  mountBpffs,
} from "./attach.ts";
import { mapMemory, type Mapping, PAGE_BYTES, pinObject, setMapEntry } from "./bpf_syscall.ts";
import { parseObject } from "./elf.ts";
import { dispatchEvent } from "./events.ts";
import { type LoadedObject, loadObject } from "./loader.ts";
import object from "./recorder.bpf.o" with { type: "bytes" };
import { mapRing, RingReader } from "./ring.ts";

const RING_BYTES_DEFAULT = 16 << 20;
const IN_FLIGHT_DEFAULT = 1 << 18;
const STATE_WORDS = 8; // struct settings (u64 epoch_floor, u64 stamp_mask, u64 cookie, …), struct vm_state
const STATE_BYTES = STATE_WORDS * 8;
/** What `clrr_ports` says of a port that belongs to no VM. */
const NO_VM = 0;
const TUNNEL_BYTES = 64; // struct tunnel_state

/** A recorder at work. */
export interface Recorder extends RecorderPort {
  /** After `close`: what they were then. */
  counters(): RecorderCounters;
  /**
   * Raises every VM's clock to at least `epoch << 40` before any later frame is stamped: the programs
   * take the maximum with one word of shared memory before each stamp. A lower epoch than before
   * changes nothing.
   */
  tick(epoch: number): void;
  /**
   * Stops recording; frames pass as before, but none between hosts. Events not drained by then are gone. Taps that a VM still
   * has open keep the filter, which does nothing any more, to their end.
   */
  close(): Promise<void>;
}

/** How long a record is waited for that a program is writing: usually less than a microsecond. */
const BUSY_WAIT_MS = 20;

/** How much the recorder holds. */
export interface RecorderOptions {
  /** Bytes of the event ring, a power of two from one page (4096) on; 64 bytes an event. Default 16 MiB. */
  readonly ringBytes?: number;
  /**
   * Frames whose identity is kept until they are delivered, a power of two. A frame overtaken by more
   * than that many others counts as external. Default 262,144.
   */
  readonly inFlight?: number;
}

/**
 * Attaches the recorder to every tap of `plan`, and to the uplink, where it makes sure that no frame
 * is taken for a VM's. Do it before QEMU opens the taps: an open tap takes no filter. A tunnel to other
 * hosts carries frames as long as the recorder is armed.
 *
 * Mounts the BPF file system at /sys/fs/bpf if it is not mounted, and leaves it mounted.
 * @throws {HostError} without privileges, on a kernel that refuses the programs, on a tap that is
 *   open, on a run that has a recorder already
 */
export async function armRecorder(
  network: Network,
  plan: NetworkPlan,
  options: RecorderOptions = {},
): Promise<Recorder> {
  const ringBytes = powerOfTwo(options.ringBytes ?? RING_BYTES_DEFAULT, PAGE_BYTES);
  const inFlight = powerOfTwo(options.inFlight ?? IN_FLIGHT_DEFAULT, 1);
  const names = namesOf(plan.run);
  const taps = plan.vms.map(({ number }) => {
    const tap = network.tapOf(number);
    return { number, tap, ifindex: ifindexOf(network.netns, tap) };
  });
  const states = Math.max(0, ...taps.map(({ number }) => number)) + 1;

  await mountBpffs();
  makePins(names.pins);
  const undo: (() => unknown)[] = [() => removePins(names.pins)];
  try {
    const loaded = loadObject(parseObject(object, "recorder.bpf.o"), {
      clrr_ports: Math.max(0, ...taps.map(({ ifindex }) => ifindex)) + 1,
      clrr_state: states,
      clrr_stamps: inFlight,
      clrr_ring: ringBytes,
    });
    undo.push(() => loaded.close());
    const memory = new RecorderMemory(loaded, states, ringBytes);
    undo.push(() => memory.unmap());
    memory.setStampMask(inFlight - 1);
    if (plan.tunnel !== undefined) memory.openTunnel(loaded, plan.tunnel.cookie);

    const pin = `${names.pins}/clrr_ingress`;
    const ingress = loaded.program("clrr_ingress");
    pinObject(ingress, pin);
    undo.push(await attachIngress(network, taps, ingress, pin));
    if (plan.uplink !== undefined) {
      undo.push(() => detachIngress(network.enter, [names.uplinkPort]));
      await attachByTc(network.enter, [names.uplinkPort], pin);
    }
    for (const { tap } of taps) {
      undo.push(() => detachDelivery(network.netns, tap));
      attachDelivery(network.netns, tap, loaded.program("clrr_deliver"));
    }
    // The programs do nothing for a port that is not in this map: recording starts here.
    for (const { number, ifindex } of taps) {
      undo.push(() => setMapEntry(loaded.map("clrr_ports"), ifindex, NO_VM));
      setMapEntry(loaded.map("clrr_ports"), ifindex, number);
    }
    if (plan.tunnel !== undefined) {
      const pins = { out: `${names.pins}/clrr_tunnel_out`, in: `${names.pins}/clrr_tunnel_in` };
      pinObject(loaded.program("clrr_tunnel_out"), pins.out);
      pinObject(loaded.program("clrr_tunnel_in"), pins.in);
      undo.push(() => detachIngress(network.enter, [names.tunnel]));
      await attachTunnel(network.enter, names.tunnel, pins);
      undo.push(() => leaveTunnel(network.enter, names));
      await joinTunnel(network.enter, names);
    }
    return new ArmedRecorder(memory, undo);
  } catch (error) {
    await unwind(undo);
    throw error;
  }
}

function powerOfTwo(value: number, least: number): number {
  if (Number.isInteger(Math.log2(value)) && value >= least && value <= 2 ** 30) return value;
  throw new Error(`${value} is not a power of two from ${least} to 2^30`);
}

/** Runs the steps from the last to the first. */
async function unwind(undo: (() => unknown)[]): Promise<void> {
  for (let step = undo.pop(); step !== undefined; step = undo.pop()) await step();
}

/** What the programs and this process share: the ring, a state per VM, the settings. */
class RecorderMemory {
  readonly ring: RingReader;
  /** In the place of VM 0 the settings. */
  readonly #state: BigInt64Array;
  #tunnel: BigInt64Array | undefined;
  readonly #mappings: { unmap(): void }[] = [];

  constructor(loaded: LoadedObject, states: number, ringBytes: number) {
    try {
      const ring = mapRing(loaded.map("clrr_ring"), ringBytes);
      this.#mappings.push(ring);
      this.ring = new RingReader(ring.memory);
      this.#state = this.#map(loaded, "clrr_state", states * STATE_BYTES);
    } catch (error) {
      this.unmap();
      throw error;
    }
  }

  #map(loaded: LoadedObject, name: string, bytes: number): BigInt64Array {
    const mapping: Mapping = mapMemory(loaded.map(name), bytes, 0, true);
    this.#mappings.push(mapping);
    return new BigInt64Array(mapping.buffer, 0, bytes / 8);
  }

  setStampMask(mask: number): void {
    Atomics.store(this.#state, 1, BigInt(mask));
  }

  /** From here on the tunnel's programs know their recording. */
  openTunnel(loaded: LoadedObject, cookie: bigint): void {
    this.#tunnel = this.#map(loaded, "clrr_tunnel", TUNNEL_BYTES);
    Atomics.store(this.#state, 2, BigInt.asIntN(64, cookie));
  }

  raiseEpoch(epoch: number): void {
    const floor = epochStart(epoch);
    if (floor > Atomics.load(this.#state, 0)) Atomics.store(this.#state, 0, floor);
  }

  /** Adds up over the VMs; the fields are those of `struct vm_state`. */
  counters(): RecorderCounters {
    const sum = (field: number) => {
      let total = 0n;
      for (let at = STATE_WORDS + field; at < this.#state.length; at += STATE_WORDS) {
        total += Atomics.load(this.#state, at);
      }
      return total;
    };
    const counters = { sent: sum(0), delivered: sum(1), lostSends: sum(3), lostReceives: sum(4) };
    return this.#tunnel === undefined
      ? counters
      : { ...counters, tunnel: countersOf(this.#tunnel) };
  }

  unmap(): void {
    for (const mapping of this.#mappings) mapping.unmap();
  }
}

/** The fields are those of `struct tunnel_state`. */
function countersOf(state: BigInt64Array): TunnelCounters {
  const at = (field: number) => Atomics.load(state, field);
  return { out: at(0), in: at(1), foreign: at(2), failedOut: at(3), failedIn: at(4) };
}

class ArmedRecorder implements Recorder {
  #memory: RecorderMemory | undefined;
  readonly #undo: (() => unknown)[];
  #final: RecorderCounters | undefined;

  constructor(memory: RecorderMemory, undo: (() => unknown)[]) {
    this.#memory = memory;
    this.#undo = undo;
  }

  #open(): RecorderMemory {
    if (this.#memory === undefined) throw new Error("the recorder is closed");
    return this.#memory;
  }

  drain(sink: RecorderSink): number {
    const { ring } = this.#open();
    const take = (data: DataView<ArrayBuffer>, offset: number, length: number) =>
      dispatchEvent(data, offset, length, sink);
    const until = performance.now() + BUSY_WAIT_MS;
    let records = 0;
    // A CPU that the host has taken from us in the middle of a record keeps back those behind it. Who looks for a
    // frame that is among them would take its event for lost, and be unsure from then on.
    do records += ring.drain(take); while (ring.isBusy && performance.now() < until);
    return records;
  }

  counters(): RecorderCounters {
    return this.#final ?? this.#open().counters();
  }

  tick(epoch: number): void {
    this.#open().raiseEpoch(epoch);
  }

  async close(): Promise<void> {
    if (this.#memory === undefined) return;
    this.#final = this.#memory.counters();
    this.#memory = undefined; // its memory is about to be unmapped
    await unwind(this.#undo);
  }
}
