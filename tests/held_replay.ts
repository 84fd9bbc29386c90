/** A replay that stands where it was told to, for tests that look at it and move it. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { SessionState } from "../lib/session/session.ts";
import { askSession } from "../operations/sessions.ts";
import type { TestBed, Tool } from "./end_to_end_fixture.ts";

const MIB = 2 ** 20;
const NEVER = new AbortController().signal; // each test has a time of its own

/** A stopped replay, driven from other processes. */
export class HeldReplay {
  private constructor(private readonly bed: TestBed, readonly tool: Tool, readonly name: string) {}

  static async open(
    bed: TestBed,
    directory: string,
    args: readonly string[],
  ): Promise<HeldReplay> {
    const tool = bed.start(["replay", directory, ...args, "--hold"]);
    await tool.said("This replay is ");
    return new HeldReplay(bed, tool, /This replay is (\w+)\./.exec(tool.stderr)![1]!);
  }

  /** Asks it from this process: a command takes a second to start. */
  // deno-lint-ignore no-explicit-any -- tests look at single fields of what scripts get
  async ask(...words: string[]): Promise<any> {
    return (await askSession(words, this.name, NEVER)).value;
  }

  /** The same by a command, as a user would. */
  // deno-lint-ignore no-explicit-any -- likewise
  command(...words: string[]): Promise<any> {
    return this.bed.json([...words, "--session", this.name]);
  }

  seek(point: string | number): Promise<SessionState> {
    return this.ask("seek", `${point}`);
  }

  /** Everything that makes up the state of the cluster. */
  async digest(): Promise<unknown> {
    const { vms, inFlight }: SessionState = await this.ask("state");
    const file = this.bed.path(`ram-${this.name}`);
    const states = [];
    for (const { lamport: _, ...vm } of vms) {
      await this.ask("pmemsave", vm.name, "0", `${128 * MIB}`, file);
      const ram = createHash("sha256").update(await Deno.readFile(file)).digest("hex");
      states.push({ ...vm, ram });
    }
    await Deno.remove(file);
    return { states, inFlight };
  }

  async quit(): Promise<void> {
    await this.ask("quit");
    assert.equal((await this.tool.ended).status, 0, this.tool.stderr);
  }
}
