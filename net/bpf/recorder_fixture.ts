/** What the recorder's tests share: a recorded network with open taps, and notes of what it says. */
import assert from "node:assert/strict";
import type { VmNumber } from "../../lib/units.ts";
import { run } from "../../host/command.ts";
import { type FramePort, freshRun, openTaps } from "../tap_fixture.ts";
import { createNetwork, type Network, type NetworkPlan } from "../topology.ts";
import type { RecorderSink } from "../../lib/roles/ports.ts";
import { armRecorder, type Recorder, type RecorderOptions } from "./recorder.ts";

/** What the recorder said of a frame that left a VM. */
export interface Sent {
  readonly vm: VmNumber;
  readonly n: number;
  readonly length: number;
  readonly lamport: bigint;
}

/** What it said of a frame that entered a VM's queue. */
export interface Delivered extends Sent {
  /** `n` is the delivery number here. */
  readonly source: VmNumber;
  readonly sendNumber: number;
  readonly remoteHash: bigint | undefined;
}

/** Everything a recorder says, in order. */
export class Notes implements RecorderSink {
  readonly all: (Sent | Delivered)[] = [];

  sent(vm: number, n: number, length: number, lamport: bigint): void {
    this.all.push({ vm, n, length, lamport });
  }

  delivered(
    vm: number,
    n: number,
    source: number,
    sendNumber: number,
    length: number,
    lamport: bigint,
    remoteHash?: bigint,
  ): void {
    this.all.push({ vm, n, source, sendNumber, length, lamport, remoteHash });
  }

  sendsOf(vm: VmNumber): Sent[] {
    return this.all.filter((note) => note.vm === vm && !("source" in note));
  }

  deliveriesTo(vm: VmNumber): Delivered[] {
    return this.all.filter((note): note is Delivered => note.vm === vm && "source" in note);
  }

  /** The frames VM `vm` got, each as `[delivery, source, send number]`. */
  identitiesTo(vm: VmNumber): number[][] {
    return this.deliveriesTo(vm).map(({ n, source, sendNumber }) => [n, source, sendNumber]);
  }
}

/** A recorder at work on a network whose taps the test holds. */
export interface Bench {
  readonly plan: NetworkPlan;
  readonly network: Network;
  readonly recorder: Recorder;
  readonly notes: Notes;
  /** The tap of a VM. */
  tap(vm: VmNumber): FramePort;
  /** Everything up to now. */
  drain(): Notes;
}

/** What a test needs: the VMs (default 1, 2, 3), an uplink's address, the recorder's sizes. */
export interface Setup extends RecorderOptions {
  readonly vms?: readonly VmNumber[];
  readonly uplink?: string;
}

/** Runs `work` with a recorded network whose taps are open, and takes everything down. */
export async function withBench(
  setup: Setup,
  work: (bench: Bench) => Promise<void>,
): Promise<void> {
  const vms = setup.vms ?? [1, 2, 3];
  const plan: NetworkPlan = {
    run: freshRun(),
    vms: vms.map((number) => ({ number, name: `vm${number}` })),
    ...(setup.uplink === undefined ? {} : { uplink: { address: setup.uplink, nat: false } }),
  };
  const network = await createNetwork(plan);
  let recorder: Recorder | undefined;
  let taps: FramePort[] = [];
  try {
    const armed = recorder = await armRecorder(network, plan, setup);
    taps = await openTaps(network, vms);
    const notes = new Notes();
    await work({
      plan,
      network,
      recorder,
      notes,
      tap: (vm) => taps[vms.indexOf(vm)]!,
      drain: () => {
        armed.drain(notes);
        return notes;
      },
    });
  } finally {
    taps.forEach((tap) => tap[Symbol.dispose]());
    await recorder?.close();
    await network.remove();
  }
  const left = await run(["sh", "-c", "ls /sys/fs/bpf /run/netns; ip -o link"]);
  assert.equal(left.includes(plan.run), false, left);
}
