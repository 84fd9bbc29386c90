/** `clusterrr ca init`: makes the certificate authority of a cluster of hosts. */
import { object } from "@optique/core/constructs";
import { withDefault } from "@optique/core/modifiers";
import { command, option } from "@optique/core/primitives";
import { path } from "@optique/run/valueparser";
import { identityDirectory, identityOption } from "./cluster_options.ts";
import { defineSubcommand, jsonFlag, sentence } from "./subcommand.ts";
import { printJson } from "./terminal.ts";
import { label } from "./values.ts";

/** Where the coordinator keeps its state. */
export const COORDINATOR_STATE = "/var/lib/clusterrr/coordinator";

export const ca = defineSubcommand({
  name: "ca",
  brief: "Make the certificate authority of the hosts.",
  description: [
    "`ca init` makes the authority that every coordinator, agent and operator has its certificate from, the " +
    "coordinator's own certificate, and that of the first operator, which is you. Run it once, where the " +
    "coordinator will run. Whoever can read STATE/ca can let anybody in.",
  ],
  examples: ["ca init", "ca init --state /srv/coordinator --operator ann"],
  parser: object({
    init: command(
      "init",
      object({
        state: withDefault(
          option("--state", path({ metavar: "STATE", type: "directory" }), {
            description: sentence(
              `The coordinator's state directory. Default ${COORDINATOR_STATE}.`,
            ),
          }),
          COORDINATOR_STATE,
        ),
        operator: withDefault(
          option("--operator", label("name"), {
            description: sentence("The first operator's name. Default: admin."),
          }),
          "admin",
        ),
        identity: identityOption,
      }),
      { brief: sentence("Make it.") },
    ),
    json: jsonFlag(),
  }),
  async run({ init: { state, operator, identity }, json }, { operations, terminal }) {
    const report = await operations.cluster.initAuthority({
      state,
      operator,
      identity: identityDirectory(identity),
    });
    if (json) printJson(terminal, report);
    else {
      terminal.out(
        `Certificate authority in ${report.ca}\n` +
          `  fingerprint  ${report.fingerprint}\n` +
          `  coordinator  ${report.coordinator}\n` +
          `  operator     ${report.operator} (${operator})\n\n` +
          "Start it:  clusterrr coordinator --listen 0.0.0.0:7400" +
          (state === COORDINATOR_STATE ? "" : ` --state ${state}`) + "\n" +
          "Invite a host:  clusterrr hosts invite NAME\n",
      );
    }
    return 0;
  },
});
