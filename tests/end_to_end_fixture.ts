/**
 * What end-to-end tests stand on: clusterrr as the built file, copied alone into a folder of the tests' own, real
 * QEMU and taps, a time limit for each test, and after each a look whether anything was left on the host.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { build } from "../build/build.ts";
import { buildImage } from "../examples/images/build.ts";
import { checkHost } from "../host/doctor.ts";
import { Leftovers, qemuProcesses, type RunningQemu, runOfProcess } from "./leftovers.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
/** The built file, for the copies of all test beds of this process. */
const BUILT = `${ROOT}dist/tested/clusterrr`;
/** What a killed or finished run may need until the kernel has taken everything away. */
const SETTLE_MS = 3_000;

const missing = (await checkHost()).filter(({ ok, needed }) => needed && !ok);
if (missing.length > 0) {
  console.warn("End-to-end tests are skipped: this host lacks something they need.");
  for (const { name, detail, mend } of missing) console.warn(`  ${name}: ${detail}: ${mend}`);
  if (Deno.env.get("CI") === "true") throw new Error("In CI nothing is skipped.");
}

/** How a process ended and what it said. */
export interface Outcome {
  /** The exit status; 128 + the signal's number where a signal ended it. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running clusterrr. */
export class Tool {
  readonly ended: Promise<Outcome>;
  readonly #child: Deno.ChildProcess;
  #stderr = "";
  #running = true;

  constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.ended = this.#collect();
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** What it has said on standard error so far. */
  get stderr(): string {
    return this.#stderr;
  }

  async #collect(): Promise<Outcome> {
    const decoder = new TextDecoder();
    const errors = (async () => {
      for await (const bytes of this.#child.stderr) {
        this.#stderr += decoder.decode(bytes, { stream: true });
      }
    })();
    const stdout = await new Response(this.#child.stdout).text();
    await errors;
    const { code } = await this.#child.status;
    this.#running = false;
    return { status: code, stdout, stderr: this.#stderr };
  }

  signal(signal: Deno.Signal): void {
    if (this.#running) this.#child.kill(signal);
  }

  /** Signals all processes of its group, as a terminal does; it was started with one of its own. */
  signalGroup(signal: Deno.Signal): void {
    if (this.#running) Deno.kill(-this.pid, signal);
  }

  /** Waits until it says `words` on standard error. Fails if it ends before. */
  said(words: string): Promise<void> {
    return this.until(`it says "${words}"`, () => this.#stderr.includes(words));
  }

  /** Waits until `holds`. Fails if the process ends before. */
  async until(what: string, holds: () => boolean): Promise<void> {
    while (!holds()) {
      assert.ok(this.#running, `it ended before ${what}: ${this.#stderr}`);
      await sleep(20);
    }
  }

  /** Its run's directory. */
  get runDirectory(): string {
    const run = runOfProcess(this.pid);
    assert.ok(run !== undefined, "it has no run directory");
    return `/run/clusterrr/${run}`;
  }

  /** Whether it has a run now. */
  get hasRun(): boolean {
    return runOfProcess(this.pid) !== undefined;
  }

  /** Its QEMU processes by VM. */
  qemus(): RunningQemu[] {
    const run = runOfProcess(this.pid);
    return qemuProcesses().filter((qemu) => qemu.run === run);
  }
}

/** How clusterrr is started. */
export interface StartOptions {
  /** A command that runs it differently: another user, another PATH. */
  readonly prefix?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Gives it a process group of its own, as a shell does; default: that of the tests. */
  readonly group?: boolean;
}

/** A VM of a test's cluster. */
export interface TestVm {
  readonly name: string;
  /** A script of `guests/guest`. */
  readonly role: string;
  /** Last byte of its address. */
  readonly host: number;
  /** Last bytes of the addresses it talks to; 254 is the host that records. */
  readonly peers?: readonly number[];
  /** More lines of the cluster file. */
  readonly more?: Readonly<Record<string, unknown>>;
}

/** The tests of one file: their folder, their processes, the state of the host before them. */
export class TestBed {
  /** A folder of the tests' own; the built file, what it unpacks, and the catalog are in it. */
  readonly folder = Deno.makeTempDirSync({ prefix: "clusterrr-test-" });
  /** clusterrr. */
  readonly program = `${this.folder}/bin/clusterrr`;
  readonly #tools = new Set<Tool>();
  #image = "";
  #leftovers: Leftovers | undefined;

  /** Registers a test that has to end within `timeoutS` and to leave nothing behind. */
  test(name: string, timeoutS: number, body: () => Promise<void>): void {
    Deno.test({
      name,
      ignore: missing.length > 0,
      fn: async () => {
        await this.#install();
        this.#leftovers ??= await Leftovers.take();
        let ok = false;
        let timer: ReturnType<typeof setTimeout> | undefined;
        const timeout = new Promise<never>((_, reject) => {
          const late = () => reject(new Error(`not done after ${timeoutS} s\n${this.#said()}`));
          timer = setTimeout(late, timeoutS * 1000);
        });
        try {
          await Promise.race([body(), timeout]);
          await this.#expectNothingLeft();
          ok = true;
        } finally {
          clearTimeout(timer);
          await this.#endTools();
          // What a failed test left is not the next one's.
          if (!ok) this.#leftovers = undefined;
        }
      },
    });
  }

  readonly #install = once(async () => {
    await Deno.mkdir(`${this.folder}/bin`);
    await Deno.copyFile(await builtFile(), this.program);
    const { status, stderr } = await this.run(["--version"]); // unpacks it, outside any test's time
    assert.equal(status, 0, stderr);
  });

  #said(): string {
    return [...this.#tools].map((tool) => `process ${tool.pid} said: ${tool.stderr}`).join("\n");
  }

  async #endTools(): Promise<void> {
    for (const tool of this.#tools) tool.signal("SIGKILL");
    await Promise.all([...this.#tools].map((tool) => tool.ended));
    this.#tools.clear();
  }

  async #expectNothingLeft(): Promise<void> {
    const deadline = performance.now() + SETTLE_MS;
    let left = await this.#leftovers!.since(this.folder);
    while (left.length > 0 && performance.now() < deadline) {
      await sleep(50);
      left = await this.#leftovers!.since(this.folder);
    }
    assert.deepEqual(left, [], "left on the host");
  }

  /** Starts clusterrr. */
  start(
    args: readonly string[],
    { prefix = [], env = {}, group = false }: StartOptions = {},
  ): Tool {
    const [program, ...rest] = [...prefix, this.program, ...args];
    const tool = new Tool(
      new Deno.Command(program!, {
        args: rest,
        env: {
          CLUSTERRR_CATALOG: this.path("catalog.db"),
          CLUSTERRR_CACHE: this.path("cache"),
          NO_COLOR: "1",
          ...env,
        },
        stdin: "null",
        stdout: "piped",
        stderr: "piped",
        detached: group,
      }).spawn(),
    );
    this.#tools.add(tool);
    return tool;
  }

  /** Runs clusterrr to its end. */
  run(args: readonly string[], options?: StartOptions): Promise<Outcome> {
    return this.start(args, options).ended;
  }

  /** Runs clusterrr, which has to succeed, and returns what `--json` printed. */
  // deno-lint-ignore no-explicit-any -- tests look at single fields of what scripts get
  async json(args: readonly string[]): Promise<any> {
    const { status, stdout, stderr } = await this.run([...args, "--json"]);
    assert.equal(status, 0, `${args.join(" ")}: ${stderr}${stdout}`);
    return JSON.parse(stdout);
  }

  /** Verifies a recording: every frame, check and console of every VM, and of each at least so many checks. */
  // deno-lint-ignore no-explicit-any -- likewise
  async expectIdentical(directory: string, checksMin: number): Promise<any> {
    const { vms } = await this.json(["show", directory]);
    const report = await this.json(["verify", directory]);
    assert.equal(report.ok, true, JSON.stringify(report));
    assert.equal(report.vms.length, vms.length);
    for (const [i, { name, frames, checks, console }] of report.vms.entries()) {
      const recorded = vms[i];
      assert.deepEqual([name, frames.recorded, frames.matched, checks.length, console], [
        ...[recorded.name, recorded.frames.sent, recorded.frames.sent, recorded.checks, true],
      ]);
      assert.ok(checks.length >= checksMin, `${name}: ${checks.length} checks`);
    }
    return report;
  }

  path(name: string): string {
    return `${this.folder}/${name}`;
  }

  /** Writes a cluster file and builds the guest's image first, if it is not there. */
  async cluster(
    name: string,
    vms: readonly TestVm[],
    more: Readonly<Record<string, unknown>> = {},
  ): Promise<string> {
    this.#image ||= await Deno.realPath(await buildImage(`${ROOT}tests/guests`));
    const subnet = freshSubnet();
    const spec = {
      name,
      network: { uplink: { address: `${subnet}.254/24`, nat: false } },
      defaults: {
        memory: "128M",
        kernel: `${this.#image}/vmlinux`,
        initrd: `${this.#image}/initrd`,
      },
      vms: vms.map(({ name, role, host, peers = [], more = {} }) => ({
        name,
        args: `role=${role} ip=${subnet}.${host}/24 peers=${
          peers.map((peer) => `${subnet}.${peer}`).join(",")
        }`,
        ...more,
      })),
      ...more,
    };
    const path = this.path(`${name}.yaml`);
    await Deno.writeTextFile(path, JSON.stringify(spec, null, 2)); // JSON is YAML
    return path;
  }

  /** Waits until the console of every VM in `vms` shows `words` so often; `directory` is the recording's. */
  async consolesShow(
    tool: Tool,
    directory: string,
    vms: readonly string[],
    words: string,
    times = 1,
  ): Promise<void> {
    for (const vm of vms) {
      const shows = () => readConsole(directory, vm).split(words).length > times;
      await tool.until(`VM ${vm} prints "${words}"`, shows);
    }
  }

  remove(): void {
    Deno.removeSync(this.folder, { recursive: true });
  }
}

/** A test bed that is removed after the tests of the file. */
export function testBed(): TestBed {
  const bed = new TestBed();
  addEventListener("unload", () => bed.remove());
  return bed;
}

/** What VM `vm` of the recording `directory` has printed so far. */
export function readConsole(directory: string, vm: string): string {
  try {
    return Deno.readTextFileSync(`${directory}/vms/${vm}/console.log`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

/** clusterrr's file, built from the sources as they are: a second at most, once the runtime has been packed. */
export const builtFile = once(async () => {
  await build({ out: BUILT, packing: "self-extracting" });
  return BUILT;
});

/** Calls `make` at most once. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => made ??= make();
}

/** Copies the recording `from`, so that a test can damage it. */
export async function copyDirectory(from: string, to: string): Promise<string> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copyDirectory(`${from}/${name}`, `${to}/${name}`);
    else await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
  }
  return to;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The first three bytes of a subnet that hardly anybody uses. */
function freshSubnet(): string {
  const [a, b] = crypto.getRandomValues(new Uint8Array(2));
  return `10.${200 + a! % 50}.${b}`;
}
