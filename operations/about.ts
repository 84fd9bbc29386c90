/** What `clusterrr --version` says: all that a bug report has to name. */
import { createHash } from "node:crypto";
import config from "../deno.json" with { type: "json" };
import { commitOf } from "../host/commit.ts";
import { buildFacts, packing } from "../host/launch.ts";
import { RR_LOG_TABLES } from "../hypervisor/rr_log/tables.ts";
import recorder from "../net/bpf/recorder.bpf.o" with { type: "bytes" };

/** Hex digits of a digest that tell two objects apart. */
const DIGEST_DIGITS = 16;

/** @param root the directory of the sources, where clusterrr runs from them */
export async function describeProgram(root: string | undefined): Promise<string> {
  const commit = buildFacts?.commit ??
    (root === undefined ? undefined : await commitOf(root)) ?? "unknown";
  const digest = createHash("sha256").update(recorder).digest("hex").slice(0, DIGEST_DIGITS);
  return [
    `clusterrr ${config.version}`,
    `commit      ${commit}`,
    `packing     ${packing()}`,
    `Deno        ${Deno.version.deno}`,
    `recorder    ${digest} (SHA-256 of the eBPF object)`,
    `event logs  QEMU ${RR_LOG_TABLES.map(({ qemu }) => qemu).join(", ")}`,
  ].map((line) => `${line}\n`).join("");
}
