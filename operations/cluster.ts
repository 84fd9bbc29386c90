/** What `clusterrr` does with many hosts. */
import { joinCoordinator } from "../host/tls/join.ts";
import type { ClusterOperations } from "../lib/cli/cluster_ports.ts";
import { runAgent } from "./agent_process.ts";
import { connectCluster } from "./cluster_client.ts";
import { initAuthority, runCoordinator } from "./coordinator.ts";

export const clusterOperations: ClusterOperations = {
  initAuthority,
  join: async ({ coordinator, token, name, identity }, signal) => {
    await joinCoordinator({ address: coordinator, token, name, directory: identity, signal });
  },
  runCoordinator,
  runAgent,
  connect: connectCluster,
};
