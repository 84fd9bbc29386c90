/**
 * Lets the VMs of a run reach what the host reaches: one nftables table with a masquerade rule, and
 * the host's `net.ipv4.ip_forward`.
 *
 * `ip_forward` belongs to the whole host. A run that finds it 0 sets it to 1 and says so by an empty
 * chain `ip_forward_was_0` in its table; a run that finds such a chain in another run's table carries
 * one too. Removing a run sets it back to 0 only if its table has the chain and no other run has a
 * table. So the mark lives as long as the setting: both end with the kernel, and a crash leaves them
 * for `clusterrr clean`. Whoever sets `ip_forward` to 1 for another purpose while runs are going on
 * has to set it again afterwards.
 */
import { run } from "../host/command.ts";
import { listNftables } from "../host/nftables.ts";
import { namesOf, runOf } from "./names.ts";

const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
const LOCK = "/run/clusterrr-nat.lock";
const MARK = "ip_forward_was_0";
const ADVICE = "NAT on the uplink needs nftables: apt install nftables, or set nat to false.";

interface Chain {
  readonly table: string;
  readonly name: string;
}

/** Runs `work` while no other process of ours changes tables or `ip_forward`. */
async function locked<T>(work: () => Promise<T>): Promise<T> {
  using file = await Deno.open(LOCK, { create: true, write: true, mode: 0o600 });
  await file.lock(true);
  return await work();
}

async function ourChains(): Promise<Chain[]> {
  return (await listNftables("chain", "ip")).map((c) => ({ table: c["table"]!, name: c["name"]! }))
    .filter((c) => runOf("natTable", c.table) !== undefined);
}

/** The runs that have a table. @throws {HostError} */
export async function findNatRuns(): Promise<string[]> {
  return (await listNftables("table", "ip")).flatMap((table) =>
    runOf("natTable", table["name"]!) ?? []
  );
}

/** Masquerades what leaves `subnet` through any device but the run's uplink. @throws {HostError} */
export async function enableNat(runId: string, subnet: string): Promise<void> {
  const { natTable: table, uplink } = namesOf(runId);
  await locked(async () => {
    const wasOff = (await Deno.readTextFile(FORWARDING)).trim() === "0";
    const mark = wasOff || (await ourChains()).some((chain) => chain.name === MARK);
    const ruleset = [
      `create table ip ${table}`,
      `add chain ip ${table} postrouting { type nat hook postrouting priority srcnat; }`,
      `add rule ip ${table} postrouting ip saddr ${subnet} oifname != "${uplink}" masquerade`,
      ...(mark ? [`add chain ip ${table} ${MARK}`] : []),
    ];
    await run(["nft", "-f", "-"], { stdin: ruleset.join("\n") + "\n", advice: ADVICE });
    if (wasOff) await Deno.writeTextFile(FORWARDING, "1");
  });
}

/** Takes the run's table away, if there is one; says whether there was. @throws {HostError} */
export async function disableNat(runId: string): Promise<boolean> {
  const { natTable: table } = namesOf(runId);
  if (!(await findNatRuns()).includes(runId)) return false;
  return await locked(async () => {
    const runs = await findNatRuns();
    if (!runs.includes(runId)) return false;
    const mark = (await ourChains()).some((c) => c.table === table && c.name === MARK);
    await run(["nft", "delete", "table", "ip", table]);
    if (mark && runs.length === 1) await Deno.writeTextFile(FORWARDING, "0");
    return true;
  });
}
