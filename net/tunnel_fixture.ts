/** What the tunnel's tests share: a recorded network on each of several hosts, joined by tunnels. */
import type { VmNumber } from "../lib/units.ts";
import { Notes } from "./bpf/recorder_fixture.ts";
import { armRecorder, type Recorder } from "./bpf/recorder.ts";
import { type Host, type Underlay, withHosts } from "./host_fixture.ts";
import { type FramePort, freshRun, macOf, openTaps } from "./tap_fixture.ts";
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

/** The plan of host `index`. */
export function planSite(
  setup: TunnelSetup,
  hosts: readonly Host[],
  index: number,
  cookie: bigint,
): NetworkPlan & { tunnel: TunnelPlan } {
  const uplinkMac = macText(macOf(999));
  const remotes = hosts.flatMap(({ address }, i) =>
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
  await withHosts(setup.vms.length, setup.mtu ?? 1500, async (underlay) => {
    const cookie = crypto.getRandomValues(new BigUint64Array(1))[0]! | 1n;
    const undo: (() => unknown)[] = [];
    const sites: Site[] = [];
    const taps = new Map<VmNumber, FramePort>();
    try {
      for (const [index, host] of underlay.hosts.entries()) {
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
  });
}
