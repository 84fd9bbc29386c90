/** `--place` and `--on`: on which hosts VMs are replayed. */
import { object } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { multiple, optional } from "@optique/core/modifiers";
import { option } from "@optique/core/primitives";
import type { ValueParser } from "@optique/core/valueparser";
import { UsageError } from "../errors.ts";
import { clusterOptions, type ClusterOptionValues } from "./cluster_options.ts";
import { sentence } from "./subcommand.ts";
import { names } from "./values.ts";

/** A VM, by its number in the cluster file, and a host. */
export interface Place {
  readonly vm: number;
  readonly host: string;
}

/** `3=alpha`. */
function place(): ValueParser<"sync", Place> {
  return {
    mode: "sync",
    metavar: "NUMBER=HOST",
    placeholder: { vm: 1, host: "host" },
    parse(input) {
      const [, vm, host] = /^([1-9]\d{0,3})=([a-z][a-z0-9-]*)$/.exec(input) ?? [];
      if (vm !== undefined) return { success: true, value: { vm: Number(vm), host: host! } };
      return {
        success: false,
        error:
          message`Expected the number of a VM in the cluster file and a host, such as 3=alpha, but got ${input}.`,
      };
    },
    format: ({ vm, host }) => `${vm}=${host}`,
  };
}

/** The options of commands that replay on hosts. */
export const replayClusterOptions = object({
  cluster: clusterOptions,
  on: optional(option("--on", names("HOST", "hosts", "alpha,beta"), {
    description: sentence(
      "With --coordinator: spread the VMs over these hosts, whichever recorded them.",
    ),
  })),
  places: multiple(option("--place", place(), {
    description: sentence("With --coordinator: replay the VM with this number on this host."),
  })),
});

export interface ReplayPlaces {
  readonly cluster: ClusterOptionValues;
  readonly on: readonly string[] | undefined;
  readonly places: readonly Place[];
}

/** @throws {UsageError} where they are given without a coordinator */
export function requireCoordinatorFor({ cluster, on, places }: ReplayPlaces): void {
  if (cluster.coordinator === undefined && (on !== undefined || places.length > 0)) {
    throw new UsageError("--on and --place go with --coordinator.");
  }
}

/** What a coordinator is asked for. */
export function placementOf({ on, places }: ReplayPlaces) {
  return {
    placement: places.map(({ vm, host }) => ({ host, vms: [vm] })),
    ...(on === undefined ? {} : { hosts: on }),
  };
}
