/** `clusterrr status`: what goes on on the hosts of a coordinator, now or live. */
import { object } from "@optique/core/constructs";
import { withDefault } from "@optique/core/modifiers";
import { flag } from "@optique/core/primitives";
import type { RunStatus } from "../protocol/control.ts";
import { sleepUnless } from "../sleep.ts";
import { clusterOptions, withCluster } from "./cluster_options.ts";
import type { ClusterStatus } from "./cluster_ports.ts";
import { hostsTable } from "./hosts.ts";
import { formatBytes, formatCount, formatSeconds } from "./quantities.ts";
import { defineSubcommand, type ExitStatus, jsonFlag, sentence } from "./subcommand.ts";
import { renderTable } from "./table.ts";
import { paint, printJson, type Terminal } from "./terminal.ts";

const EVERY_MS = 1_000;
const CLEAR_SCREEN = "\x1b[H\x1b[2J";

export const status = defineSubcommand({
  name: "status",
  brief: "Show the hosts and what runs on them.",
  description: [
    "With --watch it goes on until Ctrl-C: on a terminal the screen is drawn anew each second, otherwise one " +
    "report follows the other; with --json one object a line.",
  ],
  examples: ["status", "status --watch", "status --json"],
  parser: object({
    watch: withDefault(
      flag("-w", "--watch", { description: sentence("Go on until Ctrl-C.") }),
      false,
    ),
    cluster: clusterOptions,
    json: jsonFlag(),
  }),
  async run({ watch, cluster, json }, context) {
    const { terminal, signal } = context;
    return await withCluster(context, cluster, async (client): Promise<ExitStatus> => {
      do {
        const now = await client.status();
        if (json && watch) terminal.out(`${JSON.stringify(now)}\n`);
        else if (json) printJson(terminal, now);
        else {
          const clear = watch && terminal.outLive ? CLEAR_SCREEN : "";
          terminal.out(clear + describe(now, terminal));
        }
      } while (watch && await sleepUnless(EVERY_MS, signal));
      return 0;
    });
  },
});

function describe({ version, upS, hosts, runs }: ClusterStatus, terminal: Terminal): string {
  const style = paint(terminal.outColor);
  const head = `coordinator ${version}, up ${formatSeconds(upS)}, ` +
    `${hosts.filter(({ connected }) => connected).length} of ${hosts.length} hosts connected\n\n`;
  const going = runs.length === 0
    ? "\nNothing runs.\n"
    : runs.map((run) =>
      `\n${style.bold(run.name)} ${run.kind} ${run.run}: ${run.phase}\n${tableOf(run, terminal)}`
    )
      .join("");
  return head + hostsTable(hosts, terminal) + going;
}

function tableOf(run: RunStatus, terminal: Terminal): string {
  const style = paint(terminal.outColor);
  const rows = run.hosts.flatMap(({ host, connected, record, replay }) => {
    const place = connected ? host : `${host} (away)`;
    if (record !== undefined) {
      return record.vms.map((vm) => [
        place,
        vm.name,
        vm.ended === "no" ? record.phase : "ended",
        formatCount(vm.framesInternal + vm.framesExternal + vm.framesUnmatched),
        formatBytes(vm.storedBytes),
        `epoch ${record.epoch}`,
      ]);
    }
    return (replay?.vms ?? []).map((vm) => [
      place,
      vm.name,
      replay!.phase,
      formatCount(vm.framesMatched),
      "",
      `${vm.percent.toFixed(0)} %`,
    ]);
  });
  if (rows.length === 0) return "";
  return renderTable(
    [
      { title: "HOST" },
      { title: "VM" },
      { title: "STATE" },
      { title: "FRAMES", align: "right" },
      { title: "STORED", align: "right" },
      { title: "AT", align: "right" },
    ],
    rows,
    style,
  );
}
