/** `clusterrr hosts`: who belongs to a coordinator. */
import { object, or } from "@optique/core/constructs";
import { map, optional, withDefault } from "@optique/core/modifiers";
import { argument, command, flag, option } from "@optique/core/primitives";
import type { HostState } from "../protocol/control.ts";
import { clusterOptions, withCluster } from "./cluster_options.ts";
import type { ClusterClient } from "./cluster_ports.ts";
import { formatTime } from "./quantities.ts";
import { defineSubcommand, type ExitStatus, jsonFlag, sentence } from "./subcommand.ts";
import { renderTable } from "./table.ts";
import { paint, printJson, type Terminal } from "./terminal.ts";
import { duration, label } from "./values.ts";

const INVITATION_MS = 3_600_000;

/** What is to be done, and what is said of it. */
type Action = (client: ClusterClient) => Promise<{ readonly text: string; readonly json: unknown }>;

const name = argument(label("name"), { description: sentence("The host's name.") });

function change(
  word: string,
  brief: string,
  done: (name: string) => string,
  act: (client: ClusterClient, name: string) => Promise<void>,
) {
  return command(
    word,
    map(object({ name }), ({ name }): Action => async (client) => {
      await act(client, name);
      return { text: `${done(name)}\n`, json: { [word]: name } };
    }),
    { brief: sentence(brief) },
  );
}

const invite = command(
  "invite",
  map(
    object({
      name: argument(label("name"), {
        description: sentence(
          "The name that the token is for, of a host or of an operator: a-z, 0-9 and -, starting with a letter, " +
            "at most 31 long.",
        ),
      }),
      operator: withDefault(
        flag("--operator", { description: sentence("For an operator, not for a host.") }),
        false,
      ),
      validMs: withDefault(
        option("--valid", duration(), {
          description: sentence("How long the token can be used, at most 168h. Default 1h."),
        }),
        INVITATION_MS,
      ),
    }),
    ({ name, operator, validMs }): Action => async (client) => {
      const token = await client.invite(operator ? "operator" : "agent", name, validMs);
      return { text: `${token}\n`, json: { name, token } };
    },
  ),
  { brief: sentence("Make a token with which a host or an operator can join, once.") },
);

const revoke = command(
  "revoke",
  map(
    object({
      name: argument(label("name"), { description: sentence("Of a host, or of an operator.") }),
      operator: withDefault(
        flag("--operator", { description: sentence("It is an operator.") }),
        false,
      ),
    }),
    ({ name, operator }): Action => async (client) => {
      await client.revoke(operator ? "operator" : "agent", name);
      const what = operator ? "Operator" : "Host";
      return { text: `${what} ${name} is revoked.\n`, json: { revoke: name } };
    },
  ),
  { brief: sentence("Make its certificates worthless.") },
);

export const hosts = defineSubcommand({
  name: "hosts",
  brief: "List the hosts; invite, drain, remove or revoke one.",
  description: [
    "A drained host keeps what runs on it and gets nothing new but replays that name it. A removed one is forgotten, and its certificate " +
    "revoked; what it has of recordings stays in its state directory. A revoked one is refused from now on, and " +
    "stays in the list.",
  ],
  examples: [
    "hosts",
    "hosts invite alpha --valid 10m",
    "hosts invite bob --operator",
    "hosts drain alpha",
    "hosts revoke alpha",
  ],
  parser: object({
    action: optional(or(
      invite,
      change(
        "drain",
        "Place nothing new on a host.",
        (n) => `Host ${n} is drained.`,
        (c, n) => c.drain(n, true),
      ),
      change(
        "undrain",
        "Place VMs on it again.",
        (n) => `Host ${n} takes VMs again.`,
        (c, n) => c.drain(n, false),
      ),
      change(
        "remove",
        "Forget a host, and revoke it.",
        (n) => `Host ${n} is removed.`,
        (c, n) => c.remove(n),
      ),
      revoke,
    )),
    cluster: clusterOptions,
    json: jsonFlag(),
  }),
  async run({ action, cluster, json }, context) {
    const { terminal } = context;
    return await withCluster(context, cluster, async (client): Promise<ExitStatus> => {
      if (action !== undefined) {
        const done = await action(client);
        if (json) printJson(terminal, done.json);
        else terminal.out(done.text);
        return 0;
      }
      const all = await client.hosts();
      if (json) printJson(terminal, all);
      else terminal.out(hostsTable(all, terminal));
      return 0;
    });
  },
});

/** The hosts, a line each. */
export function hostsTable(hosts: readonly HostState[], terminal: Terminal): string {
  if (hosts.length === 0) return "No hosts yet. Invite one: clusterrr hosts invite NAME\n";
  const style = paint(terminal.outColor);
  return renderTable(
    [
      { title: "HOST" },
      { title: "STATE" },
      { title: "VMS", align: "right" },
      { title: "CORES", align: "right" },
      { title: "MEMORY", align: "right" },
      { title: "LINK" },
      { title: "QEMU" },
      { title: "CLUSTERRR" },
      { title: "LAST SEEN" },
    ],
    hosts.map((host) => [
      host.name,
      stateOf(host),
      String(host.vms),
      host.host === null ? "?" : String(host.host.cores),
      host.host === null ? "?" : `${host.host.memoryMiB} MiB`,
      host.link === null ? "?" : `${host.link.host}:${host.link.port}`,
      host.qemu?.version ?? "?",
      host.toolVersion ?? "?",
      host.lastSeen === null ? "not since the coordinator started" : formatTime(host.lastSeen),
    ]),
    style,
    (text, row, column) =>
      column === 1 && !hosts[row]!.connected
        ? style.warn(text)
        : column === 0
        ? style.bold(text)
        : text,
  );
}

function stateOf({ connected, drained, revoked }: HostState): string {
  const words = [connected ? "connected" : "away"];
  if (drained) words.push("drained");
  if (revoked) words.push("revoked");
  return words.join(", ");
}
