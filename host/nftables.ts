/** What nft tells of the host's packet filter, as JSON, libnftables-json(5). */
import { HostError } from "../lib/errors.ts";
import { run } from "./command.ts";

const NO_SUCH_PROGRAM = 127;
/** What nft says on a kernel without netlink of netfilter, or with nothing of nf_tables behind it. */
const NO_NF_TABLES =
  /(Protocol|Operation) not supported|cache initialization failed: Invalid argument/;

/** How the devices of all runs begin (net/names.ts). */
const RUN_DEVICES = "clrr";

/**
 * The tables or chains of one family, or of all; none where nftables is not installed, or not in the kernel.
 * @throws {HostError}
 */
export async function listNftables(
  kind: "table" | "chain",
  family?: "ip",
): Promise<Record<string, string>[]> {
  const which = family === undefined ? [] : [family];
  try {
    const answer = JSON.parse(await run(["nft", "-j", "list", `${kind}s`, ...which]));
    return answer.nftables.flatMap((o: Record<string, unknown>) => o[kind] ?? []);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    if (error.code === NO_SUCH_PROGRAM || NO_NF_TABLES.test(error.stderr)) return [];
    throw error;
  }
}

/**
 * Chains that may keep NAT from working, as nft names them (`ip filter FORWARD`): they drop what is forwarded unless a
 * rule accepts it, as Docker's and ufw's do, and none of their rules names the runs' devices. None where nft does not
 * tell; never throws.
 */
export async function findForwardDrops(): Promise<string[]> {
  try {
    const chains = (await listNftables("chain"))
      .filter(({ family, hook, policy }) =>
        (family === "ip" || family === "inet") && hook === "forward" && policy === "drop"
      )
      .map(({ family, table, name }) => [family!, table!, name!]);
    const rules = await Promise.all(chains.map((chain) => run(["nft", "list", "chain", ...chain])));
    return chains.filter((_, i) => !rules[i]!.includes(`"${RUN_DEVICES}`))
      .map((chain) => chain.join(" "));
  } catch {
    return [];
  }
}

/** The command that lets the VMs' packets, and the answers to them, through such a chain. */
export function acceptCommand(chain: string): string {
  const rule = (words: string) => `insert rule ${chain} ${words} accept`;
  const out = rule(`iifname "${RUN_DEVICES}*"`);
  const back = rule(`oifname "${RUN_DEVICES}*" ct state established,related`);
  return `nft '${out}; ${back}'`;
}
