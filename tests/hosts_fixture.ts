/**
 * What tests of several hosts stand on: each host is a network namespace with an agent, the first one has the
 * coordinator too, and operators run there. All of it is the built file in processes of its own.
 *
 * ```
 * host1 ── eth0 ═══ port1 ─┐
 *   coordinator, agent     ├─ switch, or a relay that delays
 * host2 ── eth0 ═══ port2 ─┘
 *   agent
 * ```
 * What a coordinator or an agent knows is in a folder of the test bed: hosts that are made again in the same
 * folder are the same ones, with their recordings.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { run as runCommand } from "../host/command.ts";
import { type Host, type Underlay, withHosts } from "../net/host_fixture.ts";
import type { ClusterClient } from "../lib/cli/cluster_ports.ts";
import { connectCluster } from "../operations/cluster_client.ts";
import { disableChecksumOffload } from "../net/offload.ts";
import { type Outcome, sleep, type TestBed, type Tool } from "./end_to_end_fixture.ts";
import { SlowSwitch } from "./slow_switch.ts";

/** What the hosts are called, in this order. */
export const HOST_NAMES = ["alpha", "beta", "gamma"] as const;
export type HostName = (typeof HOST_NAMES)[number];

const PORT = 7400;
const LINK_PORT = 7401;
export const METRICS = "127.0.0.1:9400";
export const AGENT_METRICS = "127.0.0.1:9401";
/** For what takes a second or two on an idle host. */
const SOON_MS = 60_000;

/** How the hosts are set up. */
export interface HostsSetup {
  /** How many. */
  readonly count: number;
  /** The folder of their state in the test bed. Default: a new one. */
  readonly folder?: string;
  /** For how long the coordinator waits for a host. Default: clusterrr's. */
  readonly lostAfter?: string;
  /** For how long an agent waits for the coordinator. Default: clusterrr's. */
  readonly alone?: string;
}

// deno-lint-ignore no-explicit-any -- tests look at single fields of what scripts get
type Json = any;

let folders = 0;

/** Runs `work` with hosts that are connected; then ends them in order and looks at what is left on each. */
export async function withClusterHosts(
  bed: TestBed,
  setup: HostsSetup,
  work: (hosts: ClusterHosts) => Promise<void>,
): Promise<void> {
  const folder = bed.path(setup.folder ?? `hosts${++folders}`);
  await withHosts(setup.count, 1500, async (underlay) => {
    const hosts = new ClusterHosts(bed, underlay, folder, setup);
    try {
      await hosts.begin();
      await work(hosts);
      await hosts.end();
    } catch (error) {
      console.error(`${hosts.said()}\n--- ${error}`);
      throw error;
    } finally {
      await hosts.kill();
    }
  });
}

/** Hosts with their agents and their coordinator. */
export class ClusterHosts {
  readonly names: readonly HostName[];
  readonly #agents = new Map<HostName, Tool>();
  readonly #ended: { readonly what: string; readonly tool: Tool }[] = [];
  #coordinator: Tool | undefined;
  #relay: SlowSwitch | undefined;
  #client: ClusterClient | undefined;

  constructor(
    private readonly bed: TestBed,
    readonly underlay: Underlay,
    private readonly folder: string,
    private readonly setup: HostsSetup,
  ) {
    this.names = HOST_NAMES.slice(0, underlay.hosts.length);
  }

  /** Starts everything; the first time, makes the CA and lets the hosts join. */
  async begin(): Promise<void> {
    const first = !existsSync(`${this.folder}/ca`);
    if (first) {
      await Deno.mkdir(this.folder, { recursive: true });
      await this.must(["ca", "init", "--state", `${this.folder}/ca`]);
    }
    await this.startCoordinator();
    const tokens: string[] = []; // one after the other: whoever asks does so from the coordinator's host
    for (const name of first ? this.names : []) {
      tokens.push(await this.#ask((client) => client.invite("agent", name, SOON_MS)));
    }
    await Promise.all(this.names.map((name, i) => this.startAgent(name, tokens[i])));
    await this.untilConnected();
  }

  /** Ends everything by SIGTERM, which has to work, and leave nothing on any host. */
  async end(): Promise<void> {
    await this.untilIdle();
    await Promise.all([...this.#agents.keys()].map((name) => this.stopAgent(name)));
    if (this.#coordinator !== undefined) await this.stopCoordinator();
    for (const { netns } of this.underlay.hosts) {
      assert.deepEqual(await devicesOf(netns), ["eth0", "lo"], "devices on a host");
    }
  }

  /** Ends what is still there. */
  async kill(): Promise<void> {
    this.#forgetClient();
    this.#relay?.close();
    const left = [...this.#agents.values(), ...this.#coordinator ? [this.#coordinator] : []];
    for (const tool of left) tool.signal("SIGKILL");
    await Promise.all(left.map((tool) => tool.ended));
  }

  /** What all processes have said, for whoever looks for a failure's cause. */
  said(): string {
    const now = [
      ...[...this.#agents].map(([what, tool]) => ({ what, tool })),
      ...(this.#coordinator === undefined
        ? []
        : [{ what: "coordinator", tool: this.#coordinator }]),
    ];
    return [...this.#ended, ...now].map(({ what, tool }) => `--- ${what}\n${tool.stderr}`).join(
      "\n",
    );
  }

  host(name: HostName): Host {
    return this.underlay.hosts[HOST_NAMES.indexOf(name)]!;
  }

  agent(name: HostName): Tool {
    return this.#agents.get(name)!;
  }

  get coordinator(): Tool {
    return this.#coordinator!;
  }

  /** The state directory of an agent. */
  state(name: HostName): string {
    return `${this.folder}/${name}`;
  }

  get identity(): string {
    return `${this.folder}/operator`;
  }

  get address(): string {
    return `${this.host("alpha").address}:${PORT}`;
  }

  async startCoordinator(): Promise<void> {
    const { lostAfter } = this.setup;
    this.#coordinator = this.#start(this.host("alpha"), [
      ...["coordinator", "--listen", this.address, "--state", `${this.folder}/ca`],
      ...["--metrics", METRICS],
      ...(lostAfter === undefined ? [] : ["--lost-after", lostAfter]),
    ]);
    await this.#coordinator.said("listening on port");
  }

  async stopCoordinator(): Promise<void> {
    this.#forgetClient();
    await this.#stop("coordinator", this.#coordinator!);
    this.#coordinator = undefined;
  }

  /** SIGKILL, and a new one. */
  async restartCoordinator(awayMs = 500): Promise<void> {
    this.#forgetClient();
    this.coordinator.signal("SIGKILL");
    await this.coordinator.ended;
    this.#ended.push({ what: "coordinator, killed", tool: this.coordinator });
    await sleep(awayMs);
    await this.startCoordinator();
  }

  #forgetClient(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  async startAgent(name: HostName, token?: string): Promise<void> {
    const { alone } = this.setup;
    const host = this.host(name);
    const tool = this.#start(host, [
      ...["agent", "--coordinator", this.address, "--link", `${host.address}:${LINK_PORT}`],
      ...["--state", this.state(name), "--metrics", AGENT_METRICS],
      ...(alone === undefined ? [] : ["--lost-after", alone]),
      ...(token === undefined ? [] : ["--name", name, "--join", token]),
    ]);
    this.#agents.set(name, tool);
    await tool.said(`host ${name} is there`);
  }

  async stopAgent(name: HostName): Promise<void> {
    await this.#stop(name, this.agent(name));
    this.#agents.delete(name);
  }

  /** SIGKILL: what it had of a run stays as it is. */
  async killAgent(name: HostName): Promise<void> {
    const tool = this.agent(name);
    tool.signal("SIGKILL");
    await tool.ended;
    this.#ended.push({ what: `${name}, killed`, tool });
    this.#agents.delete(name);
  }

  async #stop(what: string, tool: Tool): Promise<void> {
    tool.signal("SIGTERM");
    const { status, stderr } = await within(SOON_MS, `${what} ends`, tool.ended);
    this.#ended.push({ what, tool });
    assert.equal(status, 0, `${what}: ${stderr}`);
    assert.doesNotMatch(stderr, /internal error|This is a bug|^\s+at /m);
  }

  #start(host: Host, args: readonly string[]): Tool {
    return this.bed.start(args, {
      prefix: ["nsenter", `--net=/run/netns/${host.netns}`],
      env: { CLUSTERRR_IDENTITY: this.identity, CLUSTERRR_COORDINATOR: this.address },
    });
  }

  /** Starts a command of an operator. */
  start(args: readonly string[]): Tool {
    return this.#start(this.host("alpha"), args);
  }

  /** Runs a command of an operator. */
  run(args: readonly string[]): Promise<Outcome> {
    return this.start(args).ended;
  }

  /** Runs a command of an operator, which has to succeed. */
  async must(args: readonly string[]): Promise<Outcome> {
    const outcome = await this.run(args);
    assert.equal(outcome.status, 0, `${args.join(" ")}: ${outcome.stderr}${outcome.stdout}`);
    return outcome;
  }

  /** Runs a command of an operator, which has to succeed, and returns what `--json` printed. */
  async json(args: readonly string[]): Promise<Json> {
    return JSON.parse((await this.must([...args, "--json"])).stdout);
  }

  /** Starts a command that goes by the coordinator, such as `verify NAME`. */
  startThere(args: readonly string[]): Tool {
    return this.start([...args, "--coordinator", this.address, "--json"]);
  }

  /** Runs such a command, which has to succeed. */
  async there(args: readonly string[]): Promise<Json> {
    return await this.json([...args, "--coordinator", this.address]);
  }

  /** What the coordinator says goes on, asked for by this process: a command takes a second to start. */
  async status(): Promise<Json> {
    return await this.#ask((client) => client.status());
  }

  async #ask<T>(question: (client: ClusterClient) => Promise<T>): Promise<T> {
    return await this.host("alpha").act(async () => {
      const patience = AbortSignal.timeout(SOON_MS);
      this.#client ??= await connectCluster(
        { coordinator: this.address, identity: this.identity },
        patience,
      );
      return await question(this.#client);
    });
  }

  /** Waits until `holds` of what goes on. */
  async until(what: string, holds: (status: Json) => boolean, withinMs = SOON_MS): Promise<Json> {
    const deadline = performance.now() + withinMs;
    let last: Json;
    do {
      if (holds(last = await this.status())) return last;
      await sleep(100);
    } while (performance.now() < deadline);
    assert.fail(`not within ${withinMs} ms: ${what}; status: ${JSON.stringify(last, null, 1)}`);
  }

  async untilConnected(names: readonly string[] = this.names): Promise<void> {
    await this.until(
      `${names} connected`,
      ({ hosts }) =>
        names.every((name) => hosts.some((host: Json) => host.name === name && host.connected)),
    );
  }

  /** Waits until nothing runs any more, by the coordinator and by what is on the hosts. */
  async untilIdle(): Promise<void> {
    if (this.#coordinator !== undefined) {
      await this.until("nothing runs", (now) => now.runs.length === 0);
    }
    const deadline = performance.now() + SOON_MS;
    const busy = () => [...this.#agents].filter(([, tool]) => tool.hasRun).map(([name]) => name);
    while (busy().length > 0 && performance.now() < deadline) await sleep(100);
    assert.deepEqual(busy(), [], "agents that still have a run");
  }

  /** What `http://…/PATH` answers in the namespace of a host. */
  async fetch(
    name: HostName,
    address: string,
    path: string,
  ): Promise<{ status: number; text: string }> {
    return await this.host(name).act(async () => {
      // One address on every host: a connection that is kept would lead to another host's.
      using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
      const signal = AbortSignal.timeout(5_000);
      const answer = await fetch(`http://${address}/${path}`, { client, signal });
      return { status: answer.status, text: await answer.text() };
    });
  }

  /** Pulls the cable of a host, or puts it back. */
  async cable(name: HostName, state: "up" | "down"): Promise<void> {
    const { netns } = this.underlay;
    await runCommand(["ip", "-n", netns, "link", "set", this.host(name).port, state]);
  }

  /** From now on every host loses `percent` of what arrives: of the tunnels' packets, and of TCP's. */
  async lose(percent: number): Promise<void> {
    const ruleset = [
      "add table ip faults",
      "add chain ip faults in { type filter hook input priority 0; }",
      `add rule ip faults in iifname "eth0" numgen random mod 100 < ${percent} counter drop`,
    ].join("\n") + "\n";
    for (const { netns } of this.underlay.hosts) {
      await inNetns(netns, ["nft", "-f", "-"], ruleset);
    }
  }

  /** No loss any more; returns how many packets were lost. */
  async loseNothing(): Promise<number> {
    let lost = 0;
    for (const { netns } of this.underlay.hosts) {
      const listed = await inNetns(netns, ["nft", "list", "table", "ip", "faults"]);
      lost += Number(/packets (\d+)/.exec(listed)![1]);
      await inNetns(netns, ["nft", "delete", "table", "ip", "faults"]);
    }
    return lost;
  }

  /** From now on each frame between hosts takes from 0 to `delayMsMax`, so they come in another order. */
  async delay(delayMsMax: number, seed: number): Promise<SlowSwitch> {
    const { netns, hosts } = this.underlay;
    for (const { device, port, act } of hosts) {
      await act(() => Promise.resolve(disableChecksumOffload(device))); // nobody else would fill them in
      await runCommand(["ip", "-n", netns, "link", "set", port, "nomaster"]);
    }
    const ports = hosts.map(({ port }) => port);
    return this.#relay = new SlowSwitch(`/run/netns/${netns}`, ports, delayMsMax, seed);
  }

  /** The switch again. */
  async delayNothing(): Promise<void> {
    this.#relay?.close();
    this.#relay = undefined;
    const { netns, hosts } = this.underlay;
    for (const { port } of hosts) {
      await runCommand(["ip", "-n", netns, "link", "set", port, "master", "switch"]);
    }
  }
}

async function inNetns(netns: string, command: string[], stdin?: string): Promise<string> {
  const entered = ["nsenter", `--net=/run/netns/${netns}`, ...command];
  return await runCommand(entered, stdin === undefined ? {} : { stdin });
}

async function devicesOf(netns: string): Promise<string[]> {
  const listed = JSON.parse(await runCommand(["ip", "-n", netns, "-json", "link", "show"]));
  return listed.map(({ ifname }: { ifname: string }) => ifname).sort();
}

async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
