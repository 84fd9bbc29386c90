/** `--coordinator` and `--identity`, which say that a command is for a cluster of hosts. */
import { object } from "@optique/core/constructs";
import { optional } from "@optique/core/modifiers";
import { option } from "@optique/core/primitives";
import { string } from "@optique/core/valueparser";
import { path } from "@optique/run/valueparser";
import { UsageError } from "../errors.ts";
import type { ClusterAddress, ClusterClient } from "./cluster_ports.ts";
import { type Context, sentence } from "./subcommand.ts";

/** The environment variables that stand in for the options. */
export const COORDINATOR_VARIABLE = "CLUSTERRR_COORDINATOR";
export const IDENTITY_VARIABLE = "CLUSTERRR_IDENTITY";

/** An address: `host:port`. */
export const coordinatorOption = optional(
  option("--coordinator", string({ metavar: "HOST:PORT" }), {
    description: sentence(
      "The coordinator of the hosts. record, replay, verify, ls and rm work on this host without it; the default " +
        `of the others is ${COORDINATOR_VARIABLE} of the environment.`,
    ),
  }),
);

/** A directory with a key and a certificate. */
export const identityOption = optional(
  option("--identity", path({ metavar: "DIR", type: "directory" }), {
    description: sentence(
      `The operator's key and certificate. Default: ${IDENTITY_VARIABLE}, or ` +
        "~/.config/clusterrr/identity.",
    ),
  }),
);

/** Both. */
export const clusterOptions = object({
  coordinator: coordinatorOption,
  identity: identityOption,
});

export interface ClusterOptionValues {
  readonly coordinator: string | undefined;
  readonly identity: string | undefined;
}

/** Where an operator's identity is. */
export function identityDirectory(
  given: string | undefined,
  env: (name: string) => string | undefined = Deno.env.get,
): string {
  return given || env(IDENTITY_VARIABLE) ||
    `${env("XDG_CONFIG_HOME") || `${env("HOME") || "/root"}/.config`}/clusterrr/identity`;
}

/** The coordinator that is meant. @throws {UsageError} where none is named */
export function clusterAddress(
  { coordinator, identity }: ClusterOptionValues,
  env: (name: string) => string | undefined = Deno.env.get,
): ClusterAddress {
  const address = coordinator || env(COORDINATOR_VARIABLE);
  if (!address) {
    throw new UsageError(
      `Which coordinator? Give --coordinator HOST:PORT, or set ${COORDINATOR_VARIABLE}.`,
    );
  }
  return { coordinator: address, identity: identityDirectory(identity, env) };
}

/** Runs `work` with the coordinator connected. */
export async function withCluster<T>(
  context: Context,
  options: ClusterOptionValues,
  work: (client: ClusterClient) => Promise<T>,
): Promise<T> {
  const client = await context.operations.cluster.connect(clusterAddress(options), context.signal);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}
