/**
 * A cluster that is being replayed, simulated: each VM runs its program from the rr log that it is
 * fed, in small FIFOs, in any order. As QEMU does, a VM runs an event only once the kind byte of the
 * next one is there.
 */
import type { MachineState, ReadinessPort, ReplayedVm, VmEnd } from "../../lib/roles/ports.ts";
import { Program } from "./program.ts";
import type { Random } from "./random.ts";
import { CLOCK, END, eventLength, INSTRUCTION, NET, NET_HEADER_BYTES, TABLE } from "./rr_bytes.ts";

const STEPS_AT_ONCE_MAX = 10;

/** Changes a frame before it is sent: a replay that goes wrong. */
export type Corrupt = (frame: Uint8Array, sendNumber: number) => Uint8Array;

/** One VM of a {@link ReplayedWorld}. */
export class ReplayedSim implements ReplayedVm {
  readonly program: Program;
  readonly ended: Promise<VmEnd>;
  /** Everything it was fed. */
  readonly fed: Uint8Array[] = [];
  corrupt: Corrupt = (frame) => frame;
  killed = false;
  isOver = false;
  #running = false;
  #fifo = new Uint8Array(0);
  /** What was read of the FIFO and not yet run. */
  #taken = new Uint8Array(0);
  #preamble = true;
  #sent = 0;
  #unread: Uint8Array[] = [];
  #setEnd: (end: VmEnd) => void;

  constructor(
    readonly number: number,
    numbers: readonly number[],
    private readonly world: ReplayedWorld,
    private readonly fifoBytes: number,
  ) {
    this.program = new Program(number, numbers);
    const { promise, resolve } = Promise.withResolvers<VmEnd>();
    this.ended = promise;
    this.#setEnd = resolve;
  }

  get name(): string {
    return `vm${this.number}`;
  }

  /** Runs the next event, if it and the kind of the one behind it are there. */
  step(): void {
    if (!this.#running || this.isOver) return;
    if (this.#preamble) {
      if (!this.#fetch(4)) return;
      const version = new DataView(this.#taken.buffer).getUint32(0);
      if (version !== TABLE.version) throw new Error(`version word ${version}`);
      this.#preamble = false;
      this.#taken = this.#taken.slice(4);
    }
    if (!this.#fetch(this.#taken[0] === NET ? NET_HEADER_BYTES : 1)) return;
    const length = eventLength(this.#taken);
    if (length === undefined || !this.#fetch(length)) return;
    const event = this.#taken.slice(0, length);
    if (event[0] !== END && !this.#fetch(length + 1)) return;
    this.#taken = this.#taken.slice(length);
    this.#run(event);
  }

  /** Takes bytes out of the FIFO until it has `count`; false: more have to come. */
  #fetch(count: number): boolean {
    const missing = count - this.#taken.length;
    if (missing <= 0) return true;
    if (this.#fifo.length === 0) return false;
    this.#taken = concat(this.#taken, this.#fifo.subarray(0, missing));
    this.#fifo = this.#fifo.subarray(missing);
    return this.#taken.length >= count;
  }

  #run(event: Uint8Array): void {
    const view = new DataView(event.buffer, event.byteOffset, event.length);
    switch (event[0]) {
      case INSTRUCTION:
        this.program.execute(
          view.getUint32(1),
          (frame) => this.#unread.push(this.corrupt(frame, this.#sent++)),
        );
        break;
      case NET:
        this.program.receive(event.subarray(NET_HEADER_BYTES));
        break;
      case CLOCK:
        this.program.readClock(view.getBigInt64(1));
        break;
      case END:
        this.#over({ code: 0, signal: null, stderr: "" });
    }
  }

  #over(end: VmEnd): void {
    this.isOver = true;
    this.#setEnd(end);
  }

  writeLog(bytes: Uint8Array): number | "again" | "closed" {
    this.world.goOn();
    // The FIFO stays open when its reader has gone: it only fills up.
    const room = this.fifoBytes - this.#fifo.length;
    if (room === 0) return "again";
    const count = Math.min(bytes.length, this.world.random.between(1, room));
    this.#fifo = concat(this.#fifo, bytes.subarray(0, count));
    this.fed.push(bytes.slice(0, count));
    return count;
  }

  readSent(take: (frame: Uint8Array) => void): number {
    this.world.goOn();
    const frames = this.#unread.splice(0);
    for (const frame of frames) take(frame);
    return frames.length;
  }

  unreadLog(): number {
    return this.#fifo.length;
  }

  awaitsLog(): boolean {
    return this.#fifo.length === 0;
  }

  cpuMs(): number {
    return 0;
  }

  nudge(): void {
    this.world.goOn();
  }

  // deno-lint-ignore require-await -- a port's calls are asynchronous
  async resume(): Promise<void> {
    this.#running = true;
  }

  // deno-lint-ignore require-await
  async pause(): Promise<void> {
    this.#running = false;
  }

  quit(): Promise<void> {
    return this.kill();
  }

  // deno-lint-ignore require-await
  async kill(): Promise<void> {
    this.killed = true;
    if (!this.isOver) this.#over({ code: null, signal: "SIGKILL", stderr: "" });
  }

  state(): Promise<MachineState> {
    throw new Error("the simulation has no states");
  }

  breakAt(): Promise<void> {
    throw new Error("the simulation has no breaks");
  }

  stopped(): Promise<boolean> {
    throw new Error("the simulation has no breaks");
  }

  icount(): Promise<number> {
    return Promise.resolve(this.program.icount);
  }
}

/** The cluster. */
export class ReplayedWorld implements ReadinessPort {
  readonly vms: readonly ReplayedSim[];

  /**
   * @param vms how many VMs the cluster has
   * @param here the numbers of those that are replayed here
   */
  constructor(readonly random: Random, vms: number, here?: readonly number[]) {
    const numbers = Array.from({ length: vms }, (_, i) => i + 1);
    this.vms = (here ?? numbers).map((number) =>
      new ReplayedSim(number, numbers, this, random.pick([16, 64, 300, 5000]))
    );
  }

  /** Lets some time pass. */
  goOn(): void {
    for (let n = this.random.below(STEPS_AT_ONCE_MAX + 1); n > 0; n--) {
      this.random.pick(this.vms).step();
    }
  }

  async wait(): Promise<void> {
    this.goOn();
    await Promise.resolve();
  }

  wantWrite(): void {}
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
