/**
 * A coordinator and agents for benchmarks: real processes of `main.ts`, each agent in a network
 * namespace of its own. They end with this process, and with {@link withInstallation}.
 */
import { fileURLToPath } from "node:url";
import { CertificateAuthority, initializeAuthority } from "../../lib/identity/authority.ts";
import { ClusterrrError } from "../../lib/errors.ts";
import type { HostState } from "../../lib/protocol/control.ts";
import { sleep } from "../../lib/sleep.ts";
import { type Host, withHosts } from "../../net/host_fixture.ts";
import { NETNS_DIRECTORY } from "../../net/names.ts";
import { Commands } from "./commands.ts";

const MAIN = fileURLToPath(new URL("../../main.ts", import.meta.url));
const COORDINATOR_PORT = 7400;
const LINK_PORT = 7401;
const MTU = 1500;
const READY_MS = 60_000;

/** Argv that runs a command in the namespace of a host. */
export function inHost({ netns }: Pick<Host, "netns">): string[] {
  return ["nsenter", `--net=${NETNS_DIRECTORY}/${netns}`];
}

/** A process of ours that runs until it is ended. */
export class Service implements AsyncDisposable {
  private constructor(private readonly child: Deno.ChildProcess, readonly log: string) {}

  /**
   * Starts `clusterrr ARGS`; what it prints goes to the file `log`.
   * @param prefix argv before it
   */
  static start(args: readonly string[], log: string, prefix: readonly string[] = []): Service {
    const argv = [...prefix, Deno.execPath(), "run", "-A", MAIN, ...args];
    const child = new Deno.Command("setpriv", {
      // Should we be killed, it ends in an orderly way.
      args: ["--pdeathsig", "TERM", "--", "sh", "-c", 'exec "$@" > "$0" 2>&1', log, ...argv],
      stdin: "null",
      detached: true,
    }).spawn();
    return new Service(child, log);
  }

  get pid(): number {
    return this.child.pid;
  }

  /** Resolves once it has printed `text`. @throws {ClusterrrError} it ended, or takes too long */
  async printed(text: string): Promise<void> {
    const deadline = performance.now() + READY_MS;
    let ended = false;
    void this.child.status.then(() => ended = true);
    for (;;) {
      const said = await Deno.readTextFile(this.log).catch(() => "");
      if (said.includes(text)) return;
      if (ended || performance.now() > deadline) {
        throw new ClusterrrError(`It did not say "${text}": ${said}`);
      }
      await sleep(20);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.child.kill("SIGTERM");
    } catch {
      // It has ended by itself.
    }
    await this.child.status;
  }
}

/** What there is while the work goes on. */
export interface Installation {
  /** Names of the hosts. */
  readonly hosts: readonly string[];
  /** Our commands, run on the first host; {@link operator} makes one speak to the coordinator. */
  readonly commands: Commands;
  /** Options that make a command one of an operator. */
  readonly operator: readonly string[];
  readonly agents: readonly Service[];
}

/** Runs `work` with a coordinator on the first of `count` hosts, and an agent on each. */
export async function withInstallation(
  count: number,
  scratch: string,
  signal: AbortSignal,
  work: (installation: Installation) => Promise<void>,
): Promise<void> {
  await withHosts(count, MTU, async ({ hosts }) => {
    await using services = new AsyncDisposableStack();
    const first = hosts[0]!;
    const coordinator = `${first.address}:${COORDINATOR_PORT}`;
    const state = `${scratch}/coordinator`;
    const identity = `${scratch}/operator`;
    await makeAuthority(state, identity);
    services.use(await startCoordinator(coordinator, state, scratch, inHost(first)));
    const commands = new Commands(scratch, signal, inHost(first));
    const operator = ["--coordinator", coordinator, "--identity", identity];
    const names = hosts.map((_, i) => `host${i + 1}`);
    const agents: Service[] = [];
    for (const [i, host] of hosts.entries()) {
      const invited = await commands.command<{ token: string }>([
        ...["hosts", "invite", names[i]!, ...operator],
      ]);
      const agent = Service.start(
        [
          ...["agent", "--coordinator", coordinator, "--link", `${host.address}:${LINK_PORT}`],
          ...["--state", `${scratch}/${names[i]}`, "--name", names[i]!],
          ...["--join", invited.report.token],
        ],
        `${scratch}/${names[i]}.log`,
        inHost(host),
      );
      agents.push(services.use(agent));
    }
    await allConnected(commands, operator, count);
    await work({ hosts: names, commands, operator, agents });
  });
}

/** Makes a CA with the coordinator's and an operator's identity, as `clusterrr ca init` does. */
export async function makeAuthority(
  state: string,
  identity: string,
): Promise<CertificateAuthority> {
  const { authority } = await initializeAuthority(
    { ca: `${state}/ca`, coordinator: `${state}/identity`, operator: identity },
    "bench",
  );
  return authority;
}

/** Starts a coordinator and waits until it listens. */
export async function startCoordinator(
  address: string,
  state: string,
  scratch: string,
  prefix: readonly string[] = [],
): Promise<Service> {
  const args = ["coordinator", "--listen", address, "--state", state];
  const service = Service.start(args, `${scratch}/coordinator.log`, prefix);
  try {
    await service.printed("listening on ");
    return service;
  } catch (error) {
    await service[Symbol.asyncDispose]();
    throw error;
  }
}

async function allConnected(
  commands: Commands,
  operator: readonly string[],
  count: number,
): Promise<void> {
  const deadline = performance.now() + READY_MS;
  for (;;) {
    const { report } = await commands.command<HostState[]>(["hosts", ...operator]);
    if (report.filter(({ connected }) => connected).length === count) return;
    if (performance.now() > deadline) throw new ClusterrrError("Not every agent has connected.");
    await sleep(200);
  }
}
