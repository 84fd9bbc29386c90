/** What the tunnel's tests share: a recorded network on each of several hosts, joined by tunnels. */
import assert from "node:assert/strict";
import type { VmNumber } from "../lib/units.ts";
import { Notes } from "./bpf/recorder_fixture.ts";
import { armRecorder, type Recorder } from "./bpf/recorder.ts";
import { type Host, type Underlay, withHosts } from "./host_fixture.ts";
import { hashKeyed } from "../lib/roles/keyed_hash.ts";
import { type FramePort, freshRun, macOf, openTaps, payloadOf, testFrame } from "./tap_fixture.ts";
import type { WriterOrder } from "./tap_writer.ts";
import { createNetwork, type Network, type NetworkPlan } from "./topology.ts";
import type { TunnelPlan } from "./tunnel.ts";

/** A MAC address as text. */
export function macText(mac: readonly number[]): string {
  return mac.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** One host's part of the recording. */
export interface Site {
  readonly host: Host;
  readonly plan: NetworkPlan & { readonly tunnel: TunnelPlan };
  readonly network: Network;
  readonly recorder: Recorder;
  readonly notes: Notes;
}

/** What a test needs. */
export interface TunnelSetup {
  /** The VMs of each host. */
  readonly vms: readonly (readonly VmNumber[])[];
  /** The underlay's MTU. Default 1500. */
  readonly mtu?: number;
  /** The address of an uplink on the first host. */
  readonly uplink?: string;
  /** Further hosts on the underlay that record nothing. */
  readonly strangers?: number;
}

/** Recorded hosts with open taps. */
export interface TunnelBench {
  readonly underlay: Underlay;
  readonly sites: readonly Site[];
  readonly cookie: bigint;
  tap(vm: VmNumber): FramePort;
  /** What the recorder of the VM's host has said up to now. */
  notesOf(vm: VmNumber): Notes;
}

/** The address of the uplink's end on its host. */
export const UPLINK_MAC = macOf(999);

/** The plan of host `index`. */
export function planSite(
  setup: TunnelSetup,
  hosts: readonly Host[],
  index: number,
  cookie: bigint,
): NetworkPlan & { tunnel: TunnelPlan } {
  const uplinkMac = macText(UPLINK_MAC);
  const remotes = hosts.slice(0, setup.vms.length).flatMap(({ address }, i) =>
    i === index ? [] : [{
      address,
      vms: setup.vms[i]!.map((number) => ({ number, mac: macText(macOf(number)) })),
      ...(i === 0 && setup.uplink !== undefined ? { uplinkMac } : {}),
    }]
  );
  return {
    run: freshRun(),
    vms: setup.vms[index]!.map((number) => ({ number, name: `vm${number}` })),
    tunnel: { local: hosts[index]!.address, port: 4790, vni: 0xabcdef, cookie, remotes },
    ...(index === 0 && setup.uplink !== undefined
      ? { uplink: { address: setup.uplink, nat: false, mac: uplinkMac } }
      : {}),
  };
}

/** Runs `work` with a recording over several hosts whose taps are open, and takes everything down. */
export async function withTunnels(
  setup: TunnelSetup,
  work: (bench: TunnelBench) => Promise<void>,
): Promise<void> {
  await withHosts(
    setup.vms.length + (setup.strangers ?? 0),
    setup.mtu ?? 1500,
    async (underlay) => {
      const cookie = crypto.getRandomValues(new BigUint64Array(1))[0]! | 1n;
      const undo: (() => unknown)[] = [];
      const sites: Site[] = [];
      const taps = new Map<VmNumber, FramePort>();
      try {
        for (const index of setup.vms.keys()) {
          const host = underlay.hosts[index]!;
          const plan = planSite(setup, underlay.hosts, index, cookie);
          const network = await host.act(() => createNetwork(plan));
          undo.push(() => host.act(() => network.remove()));
          const recorder = await armRecorder(network, plan);
          undo.push(() => recorder.close());
          const opened = await openTaps(network, setup.vms[index]!);
          for (const [i, vm] of setup.vms[index]!.entries()) taps.set(vm, opened[i]!);
          undo.push(() => opened.forEach((tap) => tap[Symbol.dispose]()));
          sites.push({ host, plan, network, recorder, notes: new Notes() });
        }
        await work({
          underlay,
          sites,
          cookie,
          tap: (vm) => taps.get(vm)!,
          notesOf: (vm) => {
            const { recorder, notes } = sites[setup.vms.findIndex((vms) => vms.includes(vm))]!;
            recorder.drain(notes);
            return notes;
          },
        });
      } finally {
        for (const step of undo.reverse()) await step();
      }
    },
  );
}

/** What the tunnel of each host dropped: foreign, not sent, not taken in. */
export function tunnelLosses({ sites }: TunnelBench): bigint[][] {
  return sites.map(({ recorder }) => {
    const { foreign, failedOut, failedIn } = recorder.counters().tunnel!;
    return [foreign, failedOut, failedIn];
  });
}

/** A frame of `length` bytes with random content. */
export function randomFrame(from: number, to: number, length: number): Uint8Array<ArrayBuffer> {
  const frame = crypto.getRandomValues(new Uint8Array(length));
  frame.set(testFrame(macOf(from), "", macOf(to)).subarray(0, 14));
  return frame;
}

/**
 * Lets `vms` broadcast `count` frames each at the same time, and checks what the recorders say of every
 * frame that arrives: who sent it, its number, its hash, and that times rise. Returns the texts of the
 * frames that each VM got, `<vm>:<number>`.
 */
export async function exchange(
  bench: TunnelBench,
  vms: readonly VmNumber[],
  count: number,
  { lossy = false, bytes = 60 } = {},
): Promise<{ got: Map<VmNumber, string[]> }> {
  const gate = new SharedArrayBuffer(4);
  const workers = vms.map((vm) => {
    const worker = new Worker(new URL("./tap_writer.ts", import.meta.url), { type: "module" });
    const done = new Promise((resolve, reject) => {
      worker.onmessage = resolve;
      worker.onerror = reject;
    });
    const { fd } = bench.tap(vm);
    worker.postMessage({ gate, writers: vms.length, fd, vm, count, bytes } satisfies WriterOrder);
    return { worker, done };
  });
  const frames = new Map<VmNumber, Uint8Array[]>(vms.map((vm) => [vm, []]));
  let over = false;
  const expected = lossy ? Infinity : (vms.length - 1) * count;
  const reading = vms.map(async (vm) => {
    const into = frames.get(vm)!;
    for (let idleTurns = 0; into.length < expected && idleTurns < 500;) {
      const frame = bench.tap(vm).poll();
      if (frame !== undefined) into.push(frame);
      else {
        if (over) idleTurns++;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    }
  });
  try {
    await Promise.all(workers.map(({ done }) => done));
  } finally {
    over = true;
    workers.forEach(({ worker }) => worker.terminate());
  }
  await Promise.all(reading);
  const sent = new Map(
    vms.map((vm) => [vm, bench.notesOf(vm).sendsOf(vm).map(({ lamport }) => lamport)]),
  );
  for (const vm of vms) {
    const deliveries = bench.notesOf(vm).deliveriesTo(vm);
    const got = frames.get(vm)!;
    assert.equal(deliveries.length, got.length);
    let clock = 0n;
    for (const [i, { n, source, sendNumber, lamport, remoteHash }] of deliveries.entries()) {
      assert.equal(n, i);
      assert.equal(`${source}:${sendNumber}`, payloadOf(got[i]!));
      assert.ok(lamport > clock && lamport > sent.get(source)![sendNumber]!, "times rise");
      clock = lamport;
      const local = bench.notesOf(vm) === bench.notesOf(source);
      assert.equal(remoteHash, local ? undefined : hashKeyed(got[i]!, bench.cookie));
    }
  }
  const texts = (list: Uint8Array[]) => list.map((frame) => payloadOf(frame)!);
  return { got: new Map(vms.map((vm) => [vm, texts(frames.get(vm)!)])) };
}
