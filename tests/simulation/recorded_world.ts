/**
 * A cluster that is being recorded, simulated: VMs, bridge, recorder. It goes on a random number of
 * random steps whenever the agent touches any of its ports, so anything can happen between two calls.
 *
 * program ─▶ capture ─▶ (tap refuses?) ─▶ send event ─▶ bridge, any delay, any order
 *         ─▶ delivery event ─▶ (tap queue full?) ─▶ tap queue ─▶ program, rr log ─▶ stdio ─▶ pipe
 *
 * The VMs may be on several hosts: each has a recorder of its own, with a floor of its own under its
 * clocks. What it says of a frame from another host is what the tunnel's trailer says, and the hash.
 */
import type {
  MachineState,
  RecordedVm,
  RecorderCounters,
  RecorderPort,
  RecorderSink,
  VmEnd,
} from "../../lib/roles/ports.ts";
import { epochStart } from "../../lib/clocks/lamport.ts";
import { hashKeyed } from "../../lib/roles/keyed_hash.ts";
import { Program } from "./program.ts";
import type { Random } from "./random.ts";
import { CLOCK, encode, END, INSTRUCTION, NET, POWER_OFF, QUIT, TABLE } from "./rr_bytes.ts";

/** What goes wrong, each in percent of the cases. */
export interface Faults {
  /** Frames that a tap refuses: captured, never seen by the recorder. */
  readonly refusedSends: number;
  readonly lostSendEvents: number;
  readonly lostDeliveryEvents: number;
  /** Frames that a full tap queue drops after their delivery event. */
  readonly tapDrops: number;
  /** Frames between two hosts that get lost, that come twice, that come without a hash. */
  readonly tunnelLosses?: number;
  readonly tunnelCopies?: number;
  readonly tunnelHashes?: number;
}

export const NO_FAULTS: Faults = {
  refusedSends: 0,
  lostSendEvents: 0,
  lostDeliveryEvents: 0,
  tapDrops: 0,
};

/** The cookie of the tunnels between the hosts. */
export const COOKIE = 0x8000_0000_dead_beefn;
const STEPS_AT_ONCE_MAX = 6;
/** Bytes of the log that a VM holds back at most. */
export const STDIO_BYTES = 60;
const ETHERNET_BYTES_MIN = 60;

interface Travelling {
  readonly to: RecordedSim;
  readonly frame: Uint8Array;
  readonly source: number;
  readonly sendNumber: number;
  readonly stamp: bigint;
}

/** One VM of a {@link RecordedWorld}. */
export class RecordedSim implements RecordedVm {
  readonly program: Program;
  readonly ended: Promise<VmEnd>;
  /** The whole rr log, as it was meant to be. */
  readonly log: Uint8Array[] = [];
  /** Every frame that the program has sent. */
  readonly frames: Uint8Array[] = [];
  /** What arrived, in order: the true source, and the frame. */
  readonly received: { source: number; frame: Uint8Array; sendNumber: number; at: number }[] = [];
  /** The recorder's frames, as places in {@link frames}. */
  readonly numberedFrames: number[] = [];
  /** Where in the log each frame was sent. */
  readonly sentAt: number[] = [];
  logBytes = 0;
  readonly tapQueue: { source: number; frame: Uint8Array; sendNumber: number }[] = [];
  running = false;
  /** How often this VM still acts before it powers off. */
  left: number;
  clock = 0n;
  numbered = 0;
  deliveries = 0;
  #captured: Uint8Array[] = [];
  #stdio: Uint8Array[] = [];
  #pipe: Uint8Array[] = [];
  #setEnd: (end: VmEnd) => void;
  #end: VmEnd | undefined;

  constructor(
    readonly number: number,
    numbers: readonly number[],
    private readonly world: RecordedWorld,
  ) {
    this.program = new Program(number, numbers);
    this.left = world.random.between(0, 120);
    const { promise, resolve } = Promise.withResolvers<VmEnd>();
    this.ended = promise;
    this.#setEnd = resolve;
  }

  get name(): string {
    return `vm${this.number}`;
  }

  get isOver(): boolean {
    return this.#end !== undefined;
  }

  /** One action of the VM. */
  step(): void {
    const { random } = this.world;
    if (this.left-- <= 0) return this.#powerOff(POWER_OFF);
    if (random.chance(20)) this.flush();
    const waiting = this.tapQueue.length > 0;
    if (waiting && random.chance(50)) return this.#receive();
    if (random.chance(20)) {
      const value = BigInt(random.below(2 ** 31));
      this.program.readClock(value);
      return this.#write(encode(CLOCK, { type: "clock", value }));
    }
    const count = random.between(1, 12);
    this.program.execute(count, (frame) => {
      this.sentAt.push(this.logBytes);
      this.frames.push(frame);
      this.#captured.push(frame);
      this.world.send(this, frame);
    });
    this.#write(encode(INSTRUCTION, { type: "instruction", count }));
  }

  #receive(): void {
    const { source, frame: sent, sendNumber } = this.tapQueue.shift()!;
    const frame = padFrame(sent);
    this.received.push({ source, frame, sendNumber, at: this.logBytes });
    this.program.receive(frame);
    this.#write(encode(NET, { type: "frame", id: 0, flags: 0, payload: frame }));
  }

  #write(bytes: Uint8Array): void {
    this.log.push(bytes);
    this.logBytes += bytes.length;
    const held = this.#stdio.reduce((sum, part) => sum + part.length, bytes.length);
    this.#stdio.push(bytes);
    if (held >= STDIO_BYTES) this.flush();
  }

  /** What QEMU's stdio holds back goes into the pipe. */
  flush(): void {
    this.#pipe.push(...this.#stdio.splice(0));
  }

  #powerOff(cause: number): void {
    this.#write(encode(cause, { type: "plain" }));
    this.#write(encode(END, { type: "end" }));
    this.flush();
    const version = new Uint8Array(4);
    new DataView(version.buffer).setUint32(0, TABLE.version);
    this.#pipe.push(version);
    this.#over({ code: 0, signal: null, stderr: "" });
  }

  #over(end: VmEnd, reapedAfterMs = 0): void {
    this.#end = end;
    this.running = false;
    if (reapedAfterMs === 0) this.#setEnd(end);
    else setTimeout(() => this.#setEnd(end), reapedAfterMs);
  }

  /** The process is killed: what stdio held back is lost, perhaps in the middle of an event. */
  crash(): void {
    if (this.isOver) return;
    const held = this.#stdio.splice(0).flatMap((bytes) => [...bytes]);
    const kept = this.world.random.below(held.length + 1);
    if (kept > 0) this.#pipe.push(Uint8Array.from(held.slice(0, kept)));
    // Its log closes at once; that it has gone is known some time later.
    this.#over({ code: null, signal: "SIGKILL", stderr: "" }, this.world.random.below(15));
  }

  unreadLog(): number {
    return this.#pipe.reduce((sum, part) => sum + part.length, 0);
  }

  readLog(): Uint8Array | "again" | "closed" {
    if (this.number === 1) this.world.beforePump();
    this.world.goOn();
    if (this.#pipe.length === 0) return this.isOver ? "closed" : "again";
    const bytes = Uint8Array.from(this.#pipe.splice(0).flatMap((part) => [...part]));
    const cut = this.world.random.between(1, bytes.length);
    if (cut < bytes.length) this.#pipe.push(bytes.subarray(cut));
    return bytes.subarray(0, cut);
  }

  readSent(take: (frame: Uint8Array) => void): number {
    this.world.goOn();
    const frames = this.#captured.splice(0);
    for (const frame of frames) take(frame.slice());
    return frames.length;
  }

  // deno-lint-ignore require-await -- a port's calls are asynchronous
  async resume(): Promise<void> {
    if (!this.isOver) this.running = true;
    this.world.goOn();
  }

  settled(): Promise<boolean> {
    return Promise.resolve(true);
  }

  // deno-lint-ignore require-await
  async pause(): Promise<void> {
    this.world.goOn();
    this.running = false;
  }

  async quit(): Promise<void> {
    if (!this.isOver) this.#powerOff(QUIT);
    await this.ended;
  }

  async kill(): Promise<void> {
    this.crash();
    await this.ended;
  }

  state(): Promise<MachineState> {
    throw new Error("the simulation has no states");
  }
}

/** As QEMU does for most NICs, before the frame is logged. */
export function padFrame(frame: Uint8Array): Uint8Array {
  if (frame.length >= ETHERNET_BYTES_MIN) return frame;
  const padded = new Uint8Array(ETHERNET_BYTES_MIN);
  padded.set(frame);
  return padded;
}

/** What one host's recorder has: events that nobody has read yet, and the floor of its clocks. */
class RecorderSim implements RecorderPort {
  floor = 0n;
  readonly ring: ((sink: RecorderSink) => void)[] = [];

  constructor(private readonly world: RecordedWorld) {}

  drain(sink: RecorderSink): number {
    this.world.goOn();
    const events = this.ring.splice(0);
    for (const event of events) event(sink);
    return events.length;
  }

  counters(): RecorderCounters {
    return { sent: 0n, delivered: 0n, lostSends: 0n, lostReceives: 0n };
  }

  tick(epoch: number): void {
    this.floor = epochStart(epoch);
  }
}

/** The cluster. */
export class RecordedWorld {
  readonly vms: readonly RecordedSim[];
  /** Called before each step, with the number of steps so far. */
  beforeStep: (steps: number) => void = () => {};
  /** Called before each turn of the agent. */
  beforePump: () => void = () => {};
  /** One for each host. */
  readonly recorders: readonly RecorderSim[];
  #steps = 0;
  #travelling: Travelling[] = [];

  constructor(readonly random: Random, vms: number, private readonly faults: Faults, hosts = 1) {
    this.recorders = Array.from({ length: hosts }, () => new RecorderSim(this));
    const numbers = Array.from({ length: vms }, (_, i) => i + 1);
    this.vms = numbers.map((number) => new RecordedSim(number, numbers, this));
  }

  /** The host of a VM, from 0. */
  hostOf(vm: number): number {
    return (vm - 1) % this.recorders.length;
  }

  #recorderOf(vm: RecordedSim): RecorderSim {
    return this.recorders[this.hostOf(vm.number)]!;
  }

  /** Lets some time pass. */
  goOn(): void {
    for (let n = this.random.below(STEPS_AT_ONCE_MAX + 1); n > 0; n--) {
      this.beforeStep(this.#steps++);
      this.#step();
    }
  }

  #step(): void {
    const running = this.vms.filter((vm) => vm.running);
    if (running.length === 0) return;
    if (this.random.chance(5)) return this.#external(this.random.pick(running));
    if (this.#travelling.length > 0 && this.random.chance(50)) {
      const [next] = this.#travelling.splice(this.random.below(this.#travelling.length), 1);
      return this.#deliver(next!);
    }
    this.random.pick(running).step();
  }

  /** A frame leaves a VM. */
  send(from: RecordedSim, frame: Uint8Array): void {
    if (this.random.chance(this.faults.refusedSends)) return;
    const sendNumber = from.numbered++;
    from.numberedFrames.push(from.frames.length - 1);
    const recorder = this.#recorderOf(from);
    const stamp = from.clock = max(from.clock, recorder.floor) + 1n;
    if (!this.random.chance(this.faults.lostSendEvents)) {
      recorder.ring.push((sink) => sink.sent(from.number, sendNumber, frame.length, stamp));
    }
    for (const to of this.vms) {
      if (to === from || (frame[0] !== 255 && frame[0] !== to.number)) continue;
      const travelling = { to, frame, source: from.number, sendNumber, stamp };
      if (this.hostOf(to.number) !== this.hostOf(from.number)) {
        if (this.random.chance(this.faults.tunnelLosses ?? 0)) continue;
        if (this.random.chance(this.faults.tunnelCopies ?? 0)) this.#travelling.push(travelling);
      }
      this.#travelling.push(travelling);
    }
  }

  #external(to: RecordedSim): void {
    const frame = new Uint8Array(this.random.pick([20, 42, 60]));
    frame[1] = 254;
    for (let i = 2; i < frame.length; i++) frame[i] = 1 + this.random.below(255);
    this.#travelling.push({ to, frame, source: 0, sendNumber: -1, stamp: 0n });
  }

  #deliver({ to, frame, source, sendNumber, stamp }: Travelling): void {
    if (to.isOver) return;
    const number = to.deliveries++;
    const recorder = this.#recorderOf(to);
    const lamport = to.clock = max(max(to.clock, recorder.floor), stamp) + 1n;
    const hash = this.#remoteHash(to, source, frame);
    if (!this.random.chance(this.faults.lostDeliveryEvents)) {
      recorder.ring.push((sink) =>
        sink.delivered(to.number, number, source, sendNumber, frame.length, lamport, hash)
      );
    }
    if (!this.random.chance(this.faults.tapDrops)) to.tapQueue.push({ source, frame, sendNumber });
  }

  /** What the trailer says of the bytes of a frame that came from another host. */
  #remoteHash(to: RecordedSim, source: number, frame: Uint8Array): bigint | undefined {
    if (source === 0 || this.hostOf(source) === this.hostOf(to.number)) return undefined;
    return this.random.chance(this.faults.tunnelHashes ?? 0) ? undefined : hashKeyed(frame, COOKIE);
  }
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
