/**
 * One gdb's visit: each of its packets is answered by the stub, by the timeline, or by us.
 *
 * | packet | answer |
 * |---|---|
 * | `bs` `bc` | the timeline goes back |
 * | `c` `s` `C` `S` `vCont;` | the stub, up to the end of the recording |
 * | `M` `X` `G` `P` | refused: a replay that is changed is none |
 * | `D` `k` `vKill` | OK, and the VM stays where it is: QEMU would let it run, or end |
 * | `!` `R` `vRun` `vAttach` | not supported |
 * | `qRcmd` | `icount`, and QEMU's `info …` |
 * | all else | the stub's |
 */
import { messageOf } from "../../lib/errors.ts";
import { RspConnection } from "./connection.ts";
import { hexOfText, textOfHex } from "./packets.ts";
import type { Stop } from "./stub.ts";
import { type Target, wasPaused } from "./target.ts";
import { type Arrival, Timeline, type TimelinePace } from "./timeline.ts";

/** Packets that wait while one is worked on; gdb itself never has more than one. */
const WAITING_MAX = 64;

const NOT_SUPPORTED = "";
const OWN_FEATURES = ["QStartNoAckMode+", "ReverseStep+", "ReverseContinue+"];
const MONITOR_HELP = "monitor icount   the instruction where this VM stands\n" +
  "monitor info …   QEMU's own info commands, like info registers\n" +
  "Nothing else: it could change the replay.\n";

export class GdbSession {
  /** Resolves when gdb has gone and its breakpoints are out of the VM. */
  readonly done: Promise<void>;
  readonly #gdb: RspConnection;
  readonly #timeline: Timeline;
  readonly #waiting: string[] = [];
  #wake: () => void = () => {};
  #thread = "";
  #leaving = false;

  constructor(conn: Deno.Conn, private readonly target: Target, pace?: TimelinePace) {
    this.#timeline = new Timeline(target, pace);
    this.#gdb = new RspConnection(conn, {
      packet: (payload) => {
        this.#waiting.push(payload);
        if (this.#waiting.length > WAITING_MAX) this.#gdb.close();
        this.#wake();
      },
      interrupt: () => target.interrupt(),
    });
    this.done = this.#serve();
  }

  /** gdb has gone, or is going. */
  get ending(): boolean {
    return this.#leaving || this.#gdb.ended;
  }

  close(): void {
    this.#gdb.close();
  }

  async #serve(): Promise<void> {
    this.#gdb.closed.then(() => {
      this.target.interrupt(); // a gdb that goes away does not leave the VM running
      this.#wake();
    });
    try {
      await this.target.reset();
      while (!this.ending) {
        const payload = this.#waiting.shift();
        if (payload === undefined) {
          await new Promise<void>((resume) => this.#wake = resume);
        } else {
          this.#gdb.send(await this.#answer(payload));
          if (payload === "QStartNoAckMode") this.#gdb.stopAcks();
        }
      }
      await this.#gdb.flush();
    } finally {
      this.#gdb.close();
      this.target.takeInterrupt();
      await this.target.leave();
    }
  }

  async #answer(payload: string): Promise<string> {
    try {
      return await this.#handle(payload);
    } catch (error) {
      const message = `clusterrr: ${messageOf(error)}`;
      if (!resumes(payload)) return `E.${message.replaceAll("\n", " ")}`;
      this.#say(`${message}\n`);
      return "E01";
    }
  }

  async #handle(payload: string): Promise<string> {
    if (resumes(payload)) this.target.takeInterrupt(); // one that came too late for the run before
    if (payload === "bs") return this.#reply(await this.#timeline.stepBack());
    if (payload === "bc") return this.#reply(await this.#timeline.continueBack());
    if (resumes(payload)) return await this.#forward(payload);
    if (payload === "QStartNoAckMode") return "OK";
    if (/^(D|k|vKill)/.test(payload)) {
      this.#leaving = true;
      return "OK";
    }
    if (/^[MXGP]/.test(payload)) {
      return "E.clusterrr: a replay repeats what was recorded; it cannot be changed";
    }
    if (/^(!|R|vRun|vAttach)/.test(payload)) return NOT_SUPPORTED;
    if (payload.startsWith("qRcmd,")) return await this.#monitor(payload);
    const answer = await this.target.request(payload);
    if (payload === "?") this.#noteThread(answer);
    return payload.startsWith("qSupported") ? withOwnFeatures(answer) : answer;
  }

  /** Runs or steps forward; before the end of the recording the VM is made to stand. */
  async #forward(payload: string): Promise<string> {
    const { vm } = this.target;
    const end = vm.lastIcount;
    if (await vm.icount() >= end) return this.#historyEnd("end");
    await vm.breakAt(end);
    const stop: Stop = await this.target.resume(payload);
    const interrupted = this.target.takeInterrupt();
    if (stop.exited) {
      if (stop.reply.startsWith("X")) this.#say(`clusterrr: QEMU of VM ${vm.name} has ended\n`);
      return stop.reply;
    }
    this.#noteThread(stop.reply);
    const atEnd = wasPaused(stop) && !interrupted && await vm.icount() >= end;
    return atEnd ? this.#historyEnd("end") : stop.reply;
  }

  async #monitor(payload: string): Promise<string> {
    const command = textOfHex(payload.slice("qRcmd,".length)).trim();
    if (command === "icount") {
      const { vm } = this.target;
      this.#say(`VM ${vm.name}: instruction ${await vm.icount()} of ${vm.lastIcount}\n`);
      return "OK";
    }
    if (/^info\s+\w/.test(command)) {
      return await this.target.request(payload, (hex) => this.#gdb.send(`O${hex}`));
    }
    this.#say(MONITOR_HELP);
    return "OK";
  }

  #reply(arrival: Arrival): string {
    this.target.takeInterrupt();
    switch (arrival.kind) {
      case "begin":
        return this.#historyEnd("begin");
      case "interrupted":
        return `T02${this.#thread}`;
      case "watchpoint":
        return `T05${this.#thread}${arrival.watch}`;
      case "stepped":
      case "breakpoint":
        return `T05${this.#thread}`;
    }
  }

  #historyEnd(which: "begin" | "end"): string {
    return `T05${this.#thread}replaylog:${which};`;
  }

  #noteThread(reply: string): void {
    this.#thread = /thread:[^;]*;/.exec(reply)?.[0] ?? this.#thread;
  }

  #say(text: string): void {
    this.#gdb.send(`O${hexOfText(text)}`);
  }
}

function resumes(payload: string): boolean {
  return /^([cCsS]|vCont;|b[sc]$)/.test(payload);
}

/** The stub's features and what we add. */
function withOwnFeatures(answer: string): string {
  const features = answer.split(";").filter((f) => f !== "" && !OWN_FEATURES.includes(f));
  return [...features, ...OWN_FEATURES].join(";");
}
