/** For tests: a terminal in memory, stand-ins for the operations, and a way to run command lines. */
import { join } from "node:path";
import { openCatalog } from "../catalog/catalog.ts";
import type { DiffReport } from "../diff/observation.ts";
import type {
  BootReport,
  DumpItem,
  Operations,
  RecordReport,
  ReplayReport,
  TimelineItem,
  Verdict,
  VerifyReport,
  VerifyRun,
} from "./ports.ts";
import { ClusterrrError } from "../errors.ts";
import type { SessionAnswer } from "../session/commands.ts";
import { runProgram } from "./program.ts";
import type { Terminal } from "./terminal.ts";
import { verification } from "./verification_fixture.ts";

/** A terminal that keeps what is written. */
export class MemoryTerminal implements Terminal {
  stdout = "";
  stderr = "";
  outColor = false;
  errColor = false;
  errLive = false;
  outLive = false;
  columns = 100;
  rows = 24;
  interactive = false;
  /** What stands on standard input. */
  input: readonly string[] = [];

  out(text: string): void {
    this.stdout += text;
  }

  err(text: string): void {
    this.stderr += text;
  }

  size(): { columns: number; rows: number } {
    return { columns: this.columns, rows: this.rows };
  }

  async *lines(): AsyncGenerator<string> {
    for (const line of this.input) yield await Promise.resolve(line);
  }
}

/** One call of an operation: its name and options. */
export type Call = readonly [operation: string, options: unknown];

const VM_TOTALS = {
  name: "client",
  instructions: 123,
  bytes: { rrLog: 3000, hybrid: 2000, stored: 1000 },
  frames: { internal: 5, external: 6, stored: 7, sent: 8 },
  checks: 2,
};

/** Operations that note their options and return something plausible; `changes` replaces some. */
export function standInOperations(calls: Call[], changes: Partial<Operations> = {}): Operations {
  const note = (operation: string, options: unknown) => calls.push([operation, options]);
  return {
    boot(options): Promise<BootReport> {
      note("boot", options);
      return Promise.resolve({
        name: options.save,
        directory: `/snapshots/${options.save}`,
        bytes: 2_000_000,
        bootS: 7.5,
        vms: [{ name: "client", instructions: 123, stateBytes: 1_900_000, framesInFlight: 3 }],
      });
    },
    judge(options): Promise<Verdict> {
      note("judge", options);
      return Promise.resolve({ failed: true, reason: "VM client printed FAIL" });
    },
    snapshots() {
      note("snapshots", undefined);
      return Promise.resolve([{
        name: "ready",
        directory: "/snapshots/ready",
        bytes: 2_000_000,
        sha256: "ab".repeat(32),
        savedAt: "2026-01-31T12:00:00.000Z",
        vms: ["client", "server"],
      }]);
    },
    cluster: {
      initAuthority: () => Promise.reject(new ClusterrrError("no hosts in this test")),
      join: () => Promise.reject(new ClusterrrError("no hosts in this test")),
      runCoordinator: () => Promise.reject(new ClusterrrError("no hosts in this test")),
      runAgent: () => Promise.reject(new ClusterrrError("no hosts in this test")),
      connect: () => Promise.reject(new ClusterrrError("no hosts in this test")),
    },
    removeSnapshot(name) {
      note("removeSnapshot", name);
    },
    record(options): Promise<RecordReport> {
      note("record", options);
      return Promise.resolve({
        id: "abcdef0123456789",
        name: options.name ?? "trio",
        directory: options.out,
        endedBy: "poweroff",
        complete: true,
        recordS: 12.4,
        vms: [VM_TOTALS, { ...VM_TOTALS, name: "server" }],
      });
    },
    replay(options): Promise<ReplayReport> {
      note("replay", options);
      return Promise.resolve({
        ok: true,
        replayS: 5,
        recordS: 12.4,
        queueBytesMax: 4096,
        vms: [{
          name: "client",
          framesRecorded: 1364,
          framesMatched: 1364,
          instructions: 1_234_567,
          consoleEqual: true,
          replayS: 5,
          endedBy: "end of log",
        }],
      });
    },
    verify(options): Promise<VerifyReport> {
      note("verify", options);
      const run: VerifyRun = { ok: true, replayS: 5, recordS: 12.4, vms: [verification("client")] };
      return Promise.resolve({ ok: true, runs: options.runs, vms: run.vms, perRun: [run] });
    },
    diff(options): Promise<DiffReport> {
      note("diff", options);
      return Promise.resolve({
        identical: true,
        a: { ...options.a, name: "trio", id: "abcdef0123456789" },
        b: { ...options.b, name: "trio", id: "abcdef0123456789" },
        vms: [],
        setup: [],
        notCompared: [],
        seconds: 1,
      });
    },
    openSession(options) {
      note("openSession", options);
      const { promise, resolve } = Promise.withResolvers<SessionAnswer>();
      return Promise.resolve({
        name: "abc123",
        gdb: (options.gdb ?? []).map((vm) => ({ vm, address: "127.0.0.1:4321" })),
        over: promise,
        run(words) {
          note("run", words);
          if (words[0] === "bad") return Promise.reject(new ClusterrrError("no such command"));
          const over = words[0] === "quit";
          const answer = { text: `${words.join(" ")}\n`, value: { words }, over };
          if (over) resolve(answer);
          return Promise.resolve(answer);
        },
        close() {
          note("close", undefined);
          return Promise.resolve();
        },
      });
    },
    askSession(words, session) {
      note("askSession", [words, session]);
      return Promise.resolve({ text: `${words.join(" ")}\n`, value: { words } });
    },
    index(options) {
      note("index", options);
      const checkpoints = [{ epoch: 20, bytes: 1000 }];
      return Promise.resolve({ checkpoints, taken: 1, lastCheckpoint: 30, bytes: 1000, indexS: 2 });
    },
    pack(options) {
      note("pack", options);
      return Promise.resolve({
        file: options.file,
        id: "abcdef0123456789",
        name: "trio",
        bytes: 5_000_000,
        files: 9,
        contentBytes: 20_000_000,
        images: options.images ? 2 : 0,
        snapshot: false,
        leftOut: ["index/"],
        packS: 1.5,
      });
    },
    unpack(options) {
      note("unpack", options);
      return Promise.resolve({
        directory: options.out,
        id: "abcdef0123456789",
        name: "trio",
        files: 9,
        bytes: 20_000_000,
        images: 2,
        snapshot: false,
        unpackS: 1.5,
      });
    },
    async *dump(options): AsyncGenerator<DumpItem> {
      note("dump", options);
      yield { vm: "client", icount: 7, kind: "INSTRUCTION", text: "+7", fields: { count: 7 } };
      yield { vm: "client", icount: 7, kind: "CLOCK", text: "host 5", fields: { value: 5n } };
      await Promise.resolve();
    },
    async *timeline(options): AsyncGenerator<TimelineItem> {
      note("timeline", options);
      const line = { kind: "line", text: "ready" } as const;
      yield { ...line, vm: "client", seconds: 1.25, icount: 123_456_789 };
      const frame = { kind: "frame", text: "ARP", from: "server", sendNumber: 7 } as const;
      yield { ...frame, vm: "client", seconds: 2.5, icount: null };
      yield { ...frame, vm: "server", seconds: 3, icount: 9, from: null, sendNumber: 0 };
      await Promise.resolve();
    },
    clean() {
      note("clean", undefined);
      return Promise.resolve(["netns clrr-ab12cd"]);
    },
    checkHost() {
      note("checkHost", undefined);
      return Promise.resolve([
        { name: "rights", ok: true, needed: true, detail: "root", mend: "" },
        { name: "disk", ok: false, needed: false, detail: "1 B free", mend: "make room" },
      ]);
    },
    ...changes,
  };
}

/** What a command line did. */
export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly calls: readonly Call[];
}

/** Runs command lines against a catalog of its own in `dir`. */
export function commandLine(dir: string, changes: Partial<Operations> = {}) {
  return async (
    args: readonly string[],
    terminal = new MemoryTerminal(),
    signal = new AbortController().signal,
  ): Promise<Outcome> => {
    const calls: Call[] = [];
    const status = await runProgram(args, {
      version: "9.9.9",
      operations: standInOperations(calls, changes),
      terminal,
      signal,
      openCatalog: () => openCatalog({ path: join(dir, "catalog.sqlite3") }),
    });
    return { status, stdout: terminal.stdout, stderr: terminal.stderr, calls };
  };
}

/** Runs `work` with a temporary directory. */
export async function withDirectory(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.realPath(await Deno.makeTempDir({ prefix: "clrr-cli-" }));
  try {
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}
