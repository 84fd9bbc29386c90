/**
 * What runs in a simulated VM: a deterministic program. Its only inputs are the clock it reads and
 * the frames it receives, at the instruction at which it gets them; all it sends follows from them.
 */
import { mix, Random } from "./random.ts";

/** One instruction in so many sends a frame. */
const SEND_EVERY = 9;
/** Few lengths, so that frames which differ are often equally long. */
const LENGTHS = [20, 20, 20, 42, 60, 61];

export class Program {
  icount = 0;
  /** A digest of everything that has happened to the program. */
  state: number;

  /** @param vms the numbers of the cluster's VMs, below 255 */
  constructor(readonly vm: number, private readonly vms: readonly number[]) {
    this.state = mix(1, vm);
  }

  /** Executes `count` instructions. */
  execute(count: number, send: (frame: Uint8Array) => void): void {
    for (let i = 0; i < count; i++) {
      this.icount++;
      this.state = mix(this.state, 2);
      if (this.state % SEND_EVERY === 0) send(this.#makeFrame());
    }
  }

  receive(frame: Uint8Array): void {
    this.state = mix(this.state, 3 + this.icount);
    for (const byte of frame) this.state = mix(this.state, byte);
  }

  readClock(value: bigint): void {
    this.state = mix(this.state, Number(BigInt.asUintN(32, value)));
  }

  /** Byte 0: the receiver's number or 255 for all; byte 1: the sender's; then what the state says. */
  #makeFrame(): Uint8Array {
    const random = new Random(this.state);
    const frame = new Uint8Array(random.pick(LENGTHS));
    frame[0] = random.chance(25) ? 255 : random.pick(this.vms);
    frame[1] = this.vm;
    // A third are the same again and again, as requests that are repeated are. None ends in zeros:
    // it would be equal to a shorter one that is padded.
    if (random.chance(33)) return frame.fill(0x5a, 2);
    for (let i = 2; i < frame.length; i++) frame[i] = 1 + random.below(255);
    return frame;
  }
}
