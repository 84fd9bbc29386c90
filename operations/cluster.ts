/**
 * What `clusterrr` does with many hosts. Certificates and TLS take a while to load: commands that do not need them do
 * not wait for that.
 */
import type { ClusterOperations } from "../lib/cli/cluster_ports.ts";

export const clusterOperations: ClusterOperations = {
  async initAuthority(options) {
    const { initAuthority } = await import("./coordinator.ts");
    return await initAuthority(options);
  },
  async join({ coordinator, token, name, identity }, signal) {
    const { joinCoordinator } = await import("../host/tls/join.ts");
    const joined = await joinCoordinator({
      address: coordinator,
      token,
      name,
      directory: identity,
      signal,
    });
    return joined.identity.peer.role;
  },
  async runCoordinator(...args) {
    const { runCoordinator } = await import("./coordinator.ts");
    await runCoordinator(...args);
  },
  async runAgent(...args) {
    const { runAgent } = await import("./agent_process.ts");
    await runAgent(...args);
  },
  async connect(...args) {
    const { connectCluster } = await import("./cluster_client.ts");
    return await connectCluster(...args);
  },
};
