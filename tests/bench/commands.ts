/**
 * Runs `clusterrr` as users do: a process of its own, `--json` on its standard output. It has its own
 * catalog, and a session of its own, so that Ctrl-C reaches it once, from here: a second one would
 * make it leave its network behind.
 */
import { fileURLToPath } from "node:url";
import type { RecordReport, ReplayReport, VerifyReport } from "../../lib/cli/ports.ts";
import { ClusterrrError, HostError } from "../../lib/errors.ts";
import { ProcessMeter, type ProcessUse } from "./process_usage.ts";

const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));
const SOURCES = [Deno.execPath(), "run", "-A", MAIN];
/** Far above what any example takes; the benchmark must end. */
const BOUND_S = 900;

/** What a command reported, how long the whole of it took, and what its process used. */
export interface Timed<Report> {
  readonly report: Report;
  readonly wholeS: number;
  readonly use: ProcessUse;
}

/** Our commands, with a catalog in `directory`. */
export class Commands {
  /**
   * @param prefix argv before each command: where it is to run
   * @param program clusterrr's own argv; default: from the sources
   */
  constructor(
    private readonly directory: string,
    private readonly signal: AbortSignal,
    private readonly prefix: readonly string[] = [],
    private readonly program: readonly string[] = SOURCES,
  ) {}

  /** Records `spec` into the new directory `out`. @throws {ClusterrrError} where it fails */
  async record(spec: string, out: string): Promise<Timed<RecordReport>> {
    const timed = await this.#run<RecordReport>(["record", spec, "--out", out], [0]);
    const { endedBy, message, complete } = timed.report;
    if (endedBy === "poweroff" && complete) return timed;
    throw new ClusterrrError(`The recording ended by ${endedBy}: ${message ?? "it is cut off"}`);
  }

  /** Replays once; a difference is a result, not an error. */
  async replay(
    recording: string,
    options: readonly string[] = [],
  ): Promise<Timed<ReplayReport>> {
    return await this.#run<ReplayReport>(["replay", recording, ...options], [0, 1]);
  }

  /** Replays `runs` times and compares everything. */
  async verify(recording: string, runs: number): Promise<Timed<VerifyReport>> {
    const args = ["verify", recording, "--runs", `${runs}`];
    return await this.#run<VerifyReport>(args, [0, 1], runs * BOUND_S);
  }

  /** Any other command, which has to succeed. */
  async command<Report>(args: string[]): Promise<Timed<Report>> {
    return await this.#run<Report>(args, [0]);
  }

  async #run<Report>(args: string[], good: number[], boundS = BOUND_S): Promise<Timed<Report>> {
    this.signal.throwIfAborted();
    const startedAt = performance.now();
    const child = new Deno.Command("setpriv", {
      // Should we be killed, the command ends in an orderly way.
      args: [
        ...["--pdeathsig", "INT", "--", ...this.prefix, ...this.program],
        ...[...args, "--json"],
      ],
      env: {
        CLUSTERRR_CATALOG: `${this.directory}/catalog.sqlite3`,
        CLUSTERRR_CACHE: `${this.directory}/cache`,
      },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      detached: true,
    }).spawn();
    const interrupt = () => {
      try {
        child.kill("SIGINT");
      } catch {
        return; // it has just ended
      }
    };
    const meter = new ProcessMeter(child.pid);
    const timer = setTimeout(interrupt, boundS * 1000);
    this.signal.addEventListener("abort", interrupt, { once: true });
    const { code, stdout, stderr } = await child.output();
    const wholeS = (performance.now() - startedAt) / 1000;
    const use = meter.stop();
    this.signal.removeEventListener("abort", interrupt);
    clearTimeout(timer);
    this.signal.throwIfAborted();
    const said = new TextDecoder().decode(stderr);
    const text = new TextDecoder().decode(stdout);
    // A command that could not do its work says so on standard error only.
    if (!good.includes(code) || text === "") {
      throw new HostError(`clusterrr ${args.join(" ")}`, code, said);
    }
    return { report: JSON.parse(text), wholeS, use };
  }
}
