/** What nft tells of the host's packet filter, as JSON, libnftables-json(5). */
import { HostError } from "../lib/errors.ts";
import { run } from "./command.ts";

const NO_SUCH_PROGRAM = 127;
/** What nft says on a kernel without netlink of netfilter, or with nothing of nf_tables behind it. */
const NO_NF_TABLES =
  /(Protocol|Operation) not supported|cache initialization failed: Invalid argument/;

/**
 * The tables or chains of family ip; none where nftables is not installed, or not in the kernel.
 * @throws {HostError}
 */
export async function listNftables(kind: "table" | "chain"): Promise<Record<string, string>[]> {
  try {
    const answer = JSON.parse(await run(["nft", "-j", "list", `${kind}s`, "ip"]));
    return answer.nftables.flatMap((o: Record<string, unknown>) => o[kind] ?? []);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    if (error.code === NO_SUCH_PROGRAM || NO_NF_TABLES.test(error.stderr)) return [];
    throw error;
  }
}
