/**
 * For the debugger's tests: a guest, recorded alone by stock QEMU into a regular file, and its replay as a
 * {@link DebuggedVm} that goes back by starting over.
 */
import { fileURLToPath } from "node:url";
import { run } from "../../host/command.ts";
import { inspectQemu, type QemuIdentity } from "../qemu/capabilities.ts";
import { buildCommandLine, type RunMode, type VmHardware } from "../qemu/command_line.ts";
import { QemuProcess } from "../qemu/process.ts";
import { queryReplay, queryStatus, replayBreak } from "../qmp/commands.ts";
import { nextEvent } from "../qmp/next_event_fixture.ts";
import { decodeEvents } from "../rr_log/events.ts";
import { readRrLogFile } from "../rr_log/stream.ts";
import { QmpError } from "../../lib/errors.ts";
import { Waker } from "../waker.ts";
import type { DebuggedVm } from "./debugged_vm.ts";
import { GdbProxy } from "./proxy.ts";
import type { TimelinePace } from "./timeline.ts";

const testdata = fileURLToPath(new URL("testdata/", import.meta.url));
const ENDED_WITHIN_MS = 120_000;
/** How far ahead a running VM is made to stop: it goes on while the monitor is asked. */
const INTERRUPT_AHEAD = 100_000;
/** A replay that sleeps out a guest timer is woken that often. */
const WAKE_EVERY_MS = 10;

/** Without a library, at fixed addresses, with symbols. */
const FREESTANDING = [
  ...["gcc", "-g", "-O1", "-ffreestanding", "-fno-pic", "-no-pie", "-fno-stack-protector"],
  ...["-fcf-protection=none", "-nostdlib", "-static", "-Wl,--build-id=none"],
];

/**
 * Builds the test kernel and returns its path.
 * @param rounds of some 30,000 instructions
 */
export async function buildKernel(directory: string, rounds = 5): Promise<string> {
  const kernel = `${directory}/kernel`;
  await run([
    ...FREESTANDING,
    ...[`-DROUNDS=${rounds}`, "-mno-red-zone", "-mgeneral-regs-only"],
    ...[`-Wl,-T,${testdata}kernel.ld`, "-Wl,--no-warn-rwx-segments"],
    ...["-o", kernel, `${testdata}kernel_entry.S`, `${testdata}kernel.c`],
  ]);
  return kernel;
}

/** Builds the test program and returns its path. */
export async function buildProgram(directory: string): Promise<string> {
  const program = `${directory}/program`;
  await run([...FREESTANDING, "-o", program, `${testdata}program.c`]);
  return program;
}

/** A guest alone: no network peer, no disk. */
export function guestHardware(kernel: string, rest: Partial<VmHardware> = {}): VmHardware {
  return {
    name: "guest",
    number: 1,
    memoryMiB: 32,
    machine: "pc",
    cpu: "qemu64",
    icountShift: 3,
    nic: "vmxnet3",
    mac: "52:54:00:00:00:01",
    kernel,
    kernelArgs: "",
    rtcBase: "2026-01-31T12:00:00",
    disks: [],
    serialInput: false,
    restarts: false,
    ...rest,
  };
}

/** What {@link recordGuest} leaves in its directory. */
export interface RecordedGuest {
  readonly hardware: VmHardware;
  readonly qemu: QemuIdentity;
  readonly directory: string;
  readonly rrLog: string;
  readonly console: string;
  /** Where the log's runs of instructions end, rising. */
  readonly runEnds: readonly number[];
  /** Where the guest has powered off, or its log ends. */
  readonly end: number;
}

/** Runs the guest to its end under stock QEMU's recording. */
export async function recordGuest(
  hardware: VmHardware,
  directory: string,
): Promise<RecordedGuest> {
  const qemu = await inspectQemu();
  const rrLog = `${directory}/rr`;
  const mode: RunMode = { kind: "stock-record", tap: "none", rrLog };
  const machine = await startQemu(hardware, mode, directory, "record", qemu);
  await machine.cont();
  const timer = setTimeout(() => machine.end(0), ENDED_WITHIN_MS);
  const { code } = await machine.exited;
  clearTimeout(timer);
  if (code !== 0) throw new Error(`the recording ended with ${code}: ${machine.lastOutput}`);
  return {
    hardware,
    qemu,
    directory,
    rrLog,
    console: await Deno.readTextFile(`${directory}/record.console`),
    ...await runsOf(rrLog),
  };
}

async function runsOf(rrLog: string): Promise<Pick<RecordedGuest, "runEnds" | "end">> {
  const log = await readRrLogFile(rrLog);
  const runEnds: number[] = [];
  let end: number | undefined;
  for (const event of decodeEvents(log.events, log.table, rrLog, log.eventsOffset)) {
    if (event.type === "instruction") runEnds.push(event.icount);
    if (event.name.startsWith("SHUTDOWN")) end ??= event.icount;
  }
  return { runEnds, end: end ?? runEnds.at(-1)! };
}

async function startQemu(
  hardware: VmHardware,
  mode: RunMode,
  directory: string,
  name: string,
  qemu: QemuIdentity,
): Promise<QemuProcess> {
  const qmp = `${directory}/${name}.qmp`;
  const paths = { qmp, console: `${directory}/${name}.console`, overlays: [] };
  const argv = buildCommandLine(hardware, mode, paths, { qemu, paused: true })
    .map((word) => word.startsWith("tap,") ? "hubport,id=n0,hubid=0" : word);
  const logPath = `${directory}/${name}.log`;
  return await QemuProcess.start({ name: hardware.name, argv, enter: [], qmpPath: qmp, logPath });
}

/** The replay. Seeking back starts a QEMU anew. */
export class ReplayedGuest implements DebuggedVm {
  readonly firstIcount = 0;
  readonly lastIcount: number;
  /** How often it was brought somewhere. */
  seeks = 0;
  /** How many QEMUs it has had. */
  starts = 0;
  readonly #runEnds: ReadonlySet<number>;
  #qemu: QemuProcess | undefined;
  #waker: Waker | undefined;
  #waking: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly guest: RecordedGuest) {
    this.#runEnds = new Set(guest.runEnds);
    this.lastIcount = this.standBefore(guest.end);
  }

  get name(): string {
    return this.guest.hardware.name;
  }

  /** What the present QEMU's guest has printed. */
  get console(): string {
    return Deno.readTextFileSync(`${this.guest.directory}/replay.console`);
  }

  get qemu(): QemuProcess {
    if (this.#qemu === undefined) throw new Error("the replay has not been started");
    return this.#qemu;
  }

  async start(): Promise<void> {
    await this.end();
    this.starts++;
    const { hardware, directory, rrLog, qemu } = this.guest;
    const [waker, gdb] = [`${directory}/waker`, `${directory}/gdb`];
    const mode: RunMode = { kind: "replay", rrLog, waker, gdb };
    this.#qemu = await startQemu(hardware, mode, directory, "replay", qemu);
    this.#waker = new Waker(waker);
  }

  async end(): Promise<void> {
    clearInterval(this.#waking);
    this.#waker?.close();
    this.#waker = undefined;
    await this.#qemu?.end(0);
    this.#qemu = undefined;
  }

  async connectStub(): Promise<Deno.Conn> {
    return await Deno.connect({ transport: "unix", path: `${this.guest.directory}/gdb` });
  }

  async icount(): Promise<number> {
    return (await queryReplay(this.qemu.qmp)).icount;
  }

  standBefore(icount: number): number {
    let at = icount;
    // Runs of one instruction have no inside.
    while (at > this.firstIcount && this.#runEnds.has(at)) at--;
    return at;
  }

  async breakAt(icount: number): Promise<void> {
    await replayBreak(this.qemu.qmp, icount);
  }

  running(): Promise<void> {
    this.#waking = setInterval(() => this.#waker?.wake(), WAKE_EVERY_MS);
    return Promise.resolve();
  }

  stopped(): Promise<void> {
    clearInterval(this.#waking);
    return Promise.resolve();
  }

  /** A stop would come where the CPU sleeps, at the end of a run: a break stands inside one. */
  async interrupt(): Promise<void> {
    for (let ahead = INTERRUPT_AHEAD;; ahead *= 2) {
      const at = this.#standAfter(await this.icount() + ahead);
      if (at >= this.lastIcount) return; // it stops there anyway
      try {
        return await this.breakAt(at);
      } catch (error) {
        // The VM was past it already.
        if (!(error instanceof QmpError) || error.errorClass !== "GenericError") throw error;
      }
    }
  }

  #standAfter(icount: number): number {
    let at = icount;
    while (this.standBefore(at) !== at) at++;
    return at;
  }

  async seek(icount: number): Promise<void> {
    this.seeks++;
    await this.start();
    if (icount === this.firstIcount) return;
    await this.breakAt(icount);
    const stopped = nextEvent(this.qemu.qmp, "STOP", ENDED_WITHIN_MS);
    await this.running();
    await this.qemu.cont();
    await stopped;
    await this.stopped();
    const { running } = await queryStatus(this.qemu.qmp);
    const at = await this.icount();
    if (running || at !== icount) throw new Error(`sought ${icount}, came to ${at}`);
  }
}

/** Gives `work` a proxy to a replay of `guest` that stands at its first instruction. */
export async function withDebugger(
  guest: RecordedGuest,
  work: (vm: ReplayedGuest, proxy: GdbProxy) => Promise<void>,
  pace?: TimelinePace,
): Promise<void> {
  const vm = new ReplayedGuest(guest);
  await vm.start();
  const proxy = GdbProxy.listen(vm, { port: 0 }, pace);
  try {
    await work(vm, proxy);
  } finally {
    await proxy.close();
    await vm.end();
  }
}

/** A gdb that works through `script`, a command a line. */
export class Gdb {
  readonly pid: number;
  /** Everything it printed, once it has ended. */
  readonly output: Promise<string>;
  readonly #child: Deno.ChildProcess;

  constructor(symbols: string, address: string, script: string, timeoutMs = 60_000) {
    const settings = ["pagination off", "confirm off", "width 0", "debuginfod enabled off"];
    const before = [...settings.map((setting) => `set ${setting}`), `target remote ${address}`];
    const commands = [...before, ...script.split("\n").map((line) => line.trim())];
    const file = Deno.makeTempFileSync({ prefix: "clusterrr-gdb-" });
    Deno.writeTextFileSync(file, commands.join("\n") + "\n");
    this.#child = new Deno.Command("gdb", {
      args: ["-batch", "-nx", "-x", file, symbols],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal: AbortSignal.timeout(timeoutMs),
    }).spawn();
    this.pid = this.#child.pid;
    this.output = this.#child.output().then(({ stdout, stderr, signal }) => {
      Deno.removeSync(file);
      const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
      if (signal === "SIGTERM") throw new Error(`gdb did not end in ${timeoutMs} ms:\n${text}`);
      return text;
    });
  }

  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }
}

/** Runs gdb to the end of its script and returns what it printed. */
export async function gdb(
  symbols: string,
  proxy: GdbProxy,
  script: string,
  timeoutMs?: number,
): Promise<string> {
  return await new Gdb(symbols, proxy.address, script, timeoutMs).output;
}

/** What a script printed with `printf "NAME=…\\n"`, in order. */
export function valuesOf(output: string, name: string): string[] {
  return [...output.matchAll(new RegExp(`^${name}=(.*)$`, "gm"))].map((match) => match[1]!);
}
