/** The clusters that the laboratory runs: every folder of `examples/` with a `cluster.yaml`. */
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { buildImage } from "../../examples/images/build.ts";
import { UsageError } from "../../lib/errors.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples", import.meta.url));

/** What `lab.json` of an example may say. */
const settingsSchema = z.strictObject({
  /** Its guests fail in some runs, and that is what it is there for. */
  mayFail: z.boolean().default(false),
});

/** One example. */
export interface Example {
  readonly name: string;
  readonly folder: string;
  /** Its cluster file. */
  readonly spec: string;
  readonly mayFail: boolean;
  /** A script for the host, which runs beside each recording. */
  readonly hostScript?: string;
}

/**
 * The examples in `names`, or all, by name.
 * @throws {UsageError} where there is no such example
 */
export function findExamples(names: readonly string[], root = EXAMPLES): Example[] {
  const all = [...Deno.readDirSync(root)].map(({ name }) => name)
    .filter((name) => isFile(`${root}/${name}/cluster.yaml`)).sort();
  const missing = names.filter((name) => !all.includes(name));
  if (missing.length > 0) {
    throw new UsageError(`No example ${missing.join(", ")}. There are: ${all.join(", ")}.`);
  }
  return all.filter((name) => names.length === 0 || names.includes(name)).map((name) => {
    const folder = `${root}/${name}`;
    const hostScript = `${folder}/host.sh`;
    return {
      name,
      folder,
      spec: `${folder}/cluster.yaml`,
      mayFail: settingsOf(`${folder}/lab.json`).mayFail,
      ...isFile(hostScript) ? { hostScript } : {},
    };
  });
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw error;
  }
}

function settingsOf(path: string): z.infer<typeof settingsSchema> {
  if (!isFile(path)) return settingsSchema.parse({});
  const settings = settingsSchema.safeParse(JSON.parse(Deno.readTextFileSync(path)));
  if (settings.success) return settings.data;
  throw new UsageError(`${path}: ${z.prettifyError(settings.error)}`);
}

/** Builds the guests' images, where that has not been done. @throws {ClusterrrError} */
export async function buildImages(example: Example): Promise<void> {
  if (isFile(`${example.folder}/image.yaml`)) await buildImage(example.folder);
}
