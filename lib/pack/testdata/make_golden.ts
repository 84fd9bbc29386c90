/**
 * Writes the golden packs anew: `deno run -A lib/pack/testdata/make_golden.ts`.
 * Only for a change of the format; the version and `FORMAT.md` change with it.
 */
import { compressed } from "../compression.ts";
import { gather, GOLDEN_FILES, packOf, portions } from "../pack_fixture.ts";

const pack = await packOf(GOLDEN_FILES);
await Deno.writeFile(new URL("./golden.tar", import.meta.url), pack);
const zipped = await gather(compressed(portions(pack)));
await Deno.writeFile(new URL("./golden.tar.zst", import.meta.url), zipped);
