/**
 * Executions of a cluster as the recorder and the agents see them, for the tests of the checkpoints.
 *
 * ```
 * guest ─send─▶ stamped ─▶ network: lost, late, reordered, twice ─▶ stamped, reported ─▶ tap queue
 *   ▲                                                                                        │
 *   └──────────────────────── logged as received ◀───────────────────────────────────────────┘
 * rr log ─▶ QEMU's buffer, handed on only when it is full ─▶ FIFO ─▶ agent: CutPlacer
 * ```
 * The clocks follow `net/bpf/recorder.bpf.c`. Every step is one of a list, so that fast-check can shrink
 * it. What really happened is kept apart from what an agent can know.
 */
import { type LamportTime, lamportTime, type VmNumber } from "../units.ts";
import type { CutPlacer, CutPlacerOptions } from "./cut_placer.ts";
import { epochStart } from "./lamport.ts";

/** A choice is a number of any size; it is taken modulo what there is to choose from. */
export type Step =
  /** To the VMs whose bits are set; by an instruction, or by a timer that the log shows as a checkpoint. */
  | { readonly do: "send"; readonly vm: number; readonly to: number; readonly byTimer: boolean }
  | { readonly do: "deliver"; readonly which: number; readonly fate: Fate }
  | { readonly do: "external"; readonly vm: number; readonly fate: Fate }
  | { readonly do: "receive"; readonly vm: number; readonly bytes: number }
  | { readonly do: "log"; readonly vm: number; readonly bytes: number }
  | { readonly do: "tick"; readonly host: number; readonly skip: number }
  | { readonly do: "turn"; readonly vm: number }
  | { readonly do: "end"; readonly vm: number };

/**
 * What becomes of a frame on its way: it arrives; it arrives and a copy stays under way; the network
 * loses it; it arrives and its event is lost; it is reported, and a full tap queue drops it.
 */
export type Fate = "arrives" | "doubles" | "lost" | "unreported" | "dropped";

/** What an agent may do wrong, for tests that have to notice. */
export interface Mistakes {
  /** The bytes of the log are counted before the clock is raised, and what is in the FIFO is forgotten. */
  readonly countsBeforeTick?: boolean;
  /** A receive whose event was lost is said to have the time after the last one. */
  readonly guessesTimes?: boolean;
}

export interface ExecutionOptions extends Mistakes {
  readonly vms: number;
  /** VMs are spread over so many hosts, which hear of a tick one after the other. */
  readonly hosts: number;
  readonly bufferBytes: number;
  /** Whether boundaries are reported for each event, or for each span up to a frame or what was read. */
  readonly everyBoundary: boolean;
  readonly placer: (options: CutPlacerOptions) => Pick<
    CutPlacer,
    "tick" | "beforeReceive" | "atBoundary" | "atEnd" | "voided"
  >;
  readonly patienceEpochs: number;
}

export interface Frame {
  /** 0: external. */
  readonly source: VmNumber;
  readonly sendNumber: number;
  readonly stamp: LamportTime;
}

/** What a VM did, in order. `at` is the length of its log, in QEMU, when it did it. */
export type Deed =
  | { readonly kind: "send"; readonly at: number; readonly frame: Frame; readonly byTimer: boolean }
  | {
    readonly kind: "receive";
    readonly at: number;
    readonly end: number;
    readonly frame: Frame;
    readonly lamport: LamportTime;
    readonly reported: boolean;
  }
  | { readonly kind: "event"; readonly at: number; readonly end: number };

type Logged = Exclude<Deed, { kind: "send" }>;

const RUN_BYTES = 5;
const HEADER_BYTES = 10;

interface Delivery {
  readonly frame: Frame;
  readonly lamport: LamportTime;
  readonly reported: boolean;
}

/** One VM, its tap and what its agent has read. */
export class ModelVm {
  readonly deeds: Deed[] = [];
  /** Where the cut of each epoch was placed. */
  readonly cuts = new Map<number, number>();
  /** Length of the log, in QEMU, when the clock was raised to an epoch. */
  readonly ticked = new Map<number, number>();
  readonly placer: ReturnType<ExecutionOptions["placer"]>;
  readonly tap: Delivery[] = [];
  clock = lamportTime(0);
  sends = 0;
  ended = false;
  #logBytes = 0;
  /** Instructions were executed that the log does not show yet. */
  #running = false;
  readonly #logged: Logged[] = [];
  /** The agent's side. */
  #read = 0;
  #decoded = 0;
  #lastTime = 0n;
  readonly #reports: Delivery[] = [];
  readonly #outstanding: Delivery[] = [];

  constructor(readonly number: VmNumber, private readonly options: ExecutionOptions) {
    this.placer = options.placer({
      bufferBytes: options.bufferBytes,
      patienceEpochs: options.patienceEpochs,
      remoteEpochs: options.hosts > 1,
      oldestDelivery: () => this.#outstanding[0]?.lamport,
    });
  }

  send(floor: LamportTime, byTimer: boolean): Frame {
    if (byTimer) this.log(1);
    this.clock = afterSend(later(this.clock, floor));
    const frame = { source: this.number, sendNumber: this.sends++, stamp: this.clock };
    this.deeds.push({ kind: "send", at: this.#logBytes, frame, byTimer });
    if (!byTimer) this.#running = true;
    return frame;
  }

  deliver(frame: Frame, floor: LamportTime, fate: Fate): void {
    this.clock = afterReceive(later(this.clock, floor), frame.stamp);
    const delivery = { frame, lamport: this.clock, reported: fate !== "unreported" };
    if (delivery.reported) this.#reports.push(delivery);
    if (fate !== "dropped") this.tap.push(delivery);
  }

  /** QEMU reads a frame from the tap and logs it. */
  receive(bytes: number): void {
    const delivery = this.tap.shift();
    if (delivery === undefined) return;
    this.#flushRun();
    const end = this.#logBytes + HEADER_BYTES + bytes;
    this.#append({ kind: "receive", at: this.#logBytes, end, ...delivery });
  }

  log(bytes: number): void {
    this.#flushRun();
    this.#append({ kind: "event", at: this.#logBytes, end: this.#logBytes + bytes });
  }

  /** Every event is preceded by the instructions that were executed until then. */
  #flushRun(): void {
    if (!this.#running) return;
    this.#running = false;
    this.#append({ kind: "event", at: this.#logBytes, end: this.#logBytes + RUN_BYTES });
  }

  #append(event: Logged): void {
    this.#logged.push(event);
    this.deeds.push(event);
    this.#logBytes = event.end;
  }

  /** stdio writes its buffer out when the next byte does not fit any more. */
  get #handedBytes(): number {
    const { bufferBytes } = this.options;
    return Math.max(0, Math.ceil(this.#logBytes / bufferBytes) - 1) * bufferBytes;
  }

  tick(epoch: number): void {
    this.ticked.set(epoch, this.#logBytes);
    const before = this.#read;
    if (!this.ended) this.#read = this.#handedBytes;
    this.placer.tick(epoch, this.options.countsBeforeTick ? before : this.#read);
    this.#decode();
    if (this.ended) this.#place(this.placer.atEnd(this.#logBytes), this.#logBytes);
  }

  turn(): void {
    this.#read = this.#handedBytes;
    this.#decode();
  }

  /** The VM powers off; what is in its tap is never received. */
  end(): void {
    this.ended = true;
    this.log(1);
    this.#read = this.#logBytes;
    this.#decode();
    this.#place(this.placer.atEnd(this.#logBytes), this.#logBytes);
  }

  #decode(): void {
    this.#outstanding.push(...this.#reports.splice(0));
    for (let event = this.#logged[this.#decoded]; event !== undefined;) {
      if (event.end > this.#read) break;
      if (event.kind === "receive") {
        this.#place(this.placer.beforeReceive(this.#timeOf(event), event.at), event.at);
      }
      const next: Logged | undefined = this.#logged[++this.#decoded];
      const spanEnds = event.kind === "event" &&
        (next === undefined || next.kind === "receive" || next.end > this.#read);
      if (this.options.everyBoundary || spanEnds) {
        this.#place(this.placer.atBoundary(event.end), event.end);
      }
      event = next!;
    }
  }

  /** As `Deliveries` tells it: what was reported before a frame that the log shows is skipped. */
  #timeOf(event: Logged & { kind: "receive" }): bigint | undefined {
    const i = this.#outstanding.findIndex(({ lamport }) => lamport === event.lamport);
    if (i < 0) return this.options.guessesTimes ? ++this.#lastTime : undefined;
    this.#outstanding.splice(0, i + 1);
    return this.#lastTime = event.lamport;
  }

  #place(epochs: number[], at: number): void {
    for (const epoch of epochs) {
      if (this.cuts.has(epoch)) throw new Error(`epoch ${epoch} has a second cut`);
      this.cuts.set(epoch, at);
    }
  }
}

/** A cluster after a list of steps, recorded to its end. */
export class Execution {
  readonly vms: ModelVm[];
  /** Every epoch that a host was ticked with. */
  readonly epochs: number[] = [];
  readonly #underWay: { frame: Frame; to: ModelVm }[] = [];
  readonly #hostEpochs: number[];
  #externals = 0;

  constructor(readonly options: ExecutionOptions, steps: readonly Step[]) {
    this.vms = Array.from({ length: options.vms }, (_, i) => new ModelVm(i + 1, options));
    this.#hostEpochs = new Array(options.hosts).fill(0);
    for (const step of steps) this.#take(step);
    for (let host = 0; host < options.hosts; host++) this.#tellHost(host);
    for (const vm of this.vms) {
      if (vm.ended) continue;
      while (vm.tap.length > 0) vm.receive(20);
      vm.end();
    }
  }

  #take(step: Step): void {
    if ("vm" in step && this.#vm(step.vm).ended) return;
    switch (step.do) {
      case "send": {
        const vm = this.#vm(step.vm);
        const frame = vm.send(this.#floorOf(vm), step.byTimer);
        for (const to of this.vms) {
          if (to !== vm && (step.to >> to.number) & 1) this.#underWay.push({ frame, to });
        }
        return;
      }
      case "deliver": {
        if (this.#underWay.length === 0) return;
        const i = step.which % this.#underWay.length;
        const { frame, to } = this.#underWay[i]!;
        if (step.fate !== "doubles") this.#underWay.splice(i, 1);
        if (step.fate !== "lost" && !to.ended) to.deliver(frame, this.#floorOf(to), step.fate);
        return;
      }
      case "external": {
        const vm = this.#vm(step.vm);
        const frame = { source: 0, sendNumber: this.#externals++, stamp: lamportTime(0) };
        if (step.fate !== "lost") vm.deliver(frame, this.#floorOf(vm), step.fate);
        return;
      }
      case "receive":
        return this.#vm(step.vm).receive(step.bytes);
      case "log":
        return this.#vm(step.vm).log(step.bytes);
      case "turn":
        return this.#vm(step.vm).turn();
      case "end":
        return this.#vm(step.vm).end();
      case "tick":
        return this.#tick(step.host % this.options.hosts, step.skip);
    }
  }

  /** The next epoch starts only when every host has heard of the one before. */
  #tick(host: number, skip: number): void {
    const epoch = this.epochs.at(-1) ?? 0;
    if (this.#hostEpochs.every((known) => known === epoch)) this.epochs.push(epoch + 1 + skip);
    this.#tellHost(host);
  }

  #tellHost(host: number): void {
    const epoch = this.epochs.at(-1) ?? 0;
    if (this.#hostEpochs[host] === epoch) return;
    this.#hostEpochs[host] = epoch;
    for (const vm of this.vms) if (this.#hostOf(vm) === host) vm.tick(epoch);
  }

  #vm(choice: number): ModelVm {
    return this.vms[choice % this.vms.length]!;
  }

  #hostOf(vm: ModelVm): number {
    return vm.number % this.options.hosts;
  }

  #floorOf(vm: ModelVm): LamportTime {
    return epochStart(this.#hostEpochs[this.#hostOf(vm)]!);
  }
}

function later(a: LamportTime, b: LamportTime): LamportTime {
  return a > b ? a : b;
}

/** The clock after a send (rule IR1), and the stamp of the frame. */
function afterSend(clock: LamportTime): LamportTime {
  return lamportTime(clock + 1n);
}

/** The clock after a receive (rule IR2) of a frame stamped `stamp`. */
function afterReceive(clock: LamportTime, stamp: LamportTime): LamportTime {
  return lamportTime((clock > stamp ? clock : stamp) + 1n);
}
