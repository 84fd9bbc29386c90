/** `clusterrr rm`: deletes a recording, or only forgets it. */
import { object } from "@optique/core/constructs";
import { withDefault } from "@optique/core/modifiers";
import { argument, flag } from "@optique/core/primitives";
import { deleteRecording, idOfRecording, realDirectory } from "../catalog/directories.ts";
import type { CatalogEntry } from "../catalog/entry.ts";
import type { Catalog } from "../catalog/catalog.ts";
import { ClusterrrError, UsageError } from "../errors.ts";
import type { RecordingEntry } from "../protocol/control.ts";
import { formatBytes } from "./quantities.ts";
import { clusterOptions, type ClusterOptionValues, withCluster } from "./cluster_options.ts";
import {
  type Context,
  defineSubcommand,
  type ExitStatus,
  sentence,
  withCatalog,
} from "./subcommand.ts";
import { nextLine } from "./terminal.ts";
import { recordingReference } from "./values.ts";

export const rm = defineSubcommand({
  name: "rm",
  brief: "Delete a recording.",
  description: [
    "Deletes a recording's directory and its entry in the catalog, after asking. Only a directory " +
    "that holds a recording is ever deleted. With --keep-files the entry alone goes. With --coordinator the parts on " +
    "all its hosts are deleted, or with --keep-files left there.",
  ],
  examples: ["rm before-the-fix", "rm trio.clusterrr --yes", "rm 3f9a --keep-files"],
  parser: object({
    reference: argument(recordingReference(), {
      description: sentence(
        "The recording: its directory, its name, or the beginning of its id. With --coordinator: its name, if only one " +
          "has it, or at least 4 digits of its id.",
      ),
    }),
    keepFiles: withDefault(
      flag("--keep-files", { description: sentence("Only forget it: leave the files.") }),
      false,
    ),
    yes: withDefault(flag("--yes", { description: sentence("Do not ask.") }), false),
    cluster: clusterOptions,
  }),
  run({ reference, keepFiles, yes, cluster }, context) {
    if (cluster.coordinator !== undefined) {
      return removeOnHosts(reference, keepFiles, yes, cluster, context);
    }
    return withCatalog(context, async (catalog) => {
      const copy = await copyOfKnown(catalog, reference);
      if (copy !== undefined) return await removeCopy(copy, keepFiles, yes, context);
      const entry = await findOrAdd(catalog, reference);
      const size = formatBytes(entry.storedBytes);
      const question = `Delete ${entry.path} (${entry.name}, ${size})?`;
      if (!keepFiles && !yes && !await confirmed(context, question)) return 1;
      await catalog.remove(entry, { files: !keepFiles });
      context.terminal.out(
        keepFiles ? `Forgot ${entry.name}; ${entry.path} stays.\n` : `Deleted ${entry.path}.\n`,
      );
      return 0;
    });
  },
});

/** A directory with a recording that the catalog knows in another directory, where it is too. */
interface KnownCopy {
  readonly path: string;
  readonly entry: CatalogEntry;
}

async function copyOfKnown(catalog: Catalog, reference: string): Promise<KnownCopy | undefined> {
  const path = await realDirectory(reference);
  if (path === undefined) return undefined;
  const id = idOfRecording(path);
  const entry = (await catalog.list()).find((each) => each.id === id);
  if (entry === undefined || entry.path === path || entry.host !== catalog.host) return undefined;
  return idOfRecording(entry.path) === id ? { path, entry } : undefined; // else it has moved, and is the one
}

/** The entry stays that of the other directory. */
async function removeCopy(
  { path, entry }: KnownCopy,
  keepFiles: boolean,
  yes: boolean,
  context: Context,
): Promise<ExitStatus> {
  if (keepFiles) {
    throw new ClusterrrError(
      `The catalog knows ${entry.name} as ${entry.path}, and nothing of its copy ${path}.`,
    );
  }
  const question = `Delete ${path} (a copy of ${entry.name}, which is in ${entry.path} too)?`;
  if (!yes && !await confirmed(context, question)) return 1;
  await deleteRecording(path, entry.id);
  context.terminal.out(`Deleted ${path}.\n`);
  return 0;
}

async function removeOnHosts(
  reference: string,
  keepFiles: boolean,
  yes: boolean,
  cluster: ClusterOptionValues,
  context: Context,
): Promise<ExitStatus> {
  const { terminal } = context;
  return await withCluster(context, cluster, async (client): Promise<ExitStatus> => {
    const { id, name, placement } = onlyOne(await client.recordings(), reference);
    if (keepFiles) {
      await client.forgetRecording(id);
      terminal.out(`Forgot ${name} (${id}); its files stay on their hosts.\n`);
      return 0;
    }
    const hosts = placement.map(({ host }) => host).join(", ");
    if (!yes && !await confirmed(context, `Delete ${name} (${id}) on ${hosts}?`)) return 1;
    await client.removeRecording(id);
    terminal.out(`Deleted ${name} (${id}) on ${hosts}.\n`);
    return 0;
  });
}

/** A shorter beginning of an id would be a name that was cut off. */
const ID_CHARACTERS_MIN = 4;

/** The recording that is meant. Of several of one name none is: what is deleted is gone. */
function onlyOne(recordings: readonly RecordingEntry[], reference: string): RecordingEntry {
  const named = recordings.filter(({ name }) => name === reference);
  const found = named.length > 0 || reference.length < ID_CHARACTERS_MIN
    ? named
    : recordings.filter(({ id }) => id.startsWith(reference));
  if (found.length === 1) return found[0]!;
  throw new ClusterrrError(
    found.length === 0
      ? `The hosts have no recording "${reference}". What they have: clusterrr ls --coordinator HOST:PORT`
      : `The hosts have ${found.length} recordings "${reference}": ` +
        `${found.map(({ id }) => id).join(", ")}. Say which by its id.`,
  );
}

/** Asks a person. @throws {UsageError} where nobody can answer */
async function confirmed({ terminal, signal }: Context, question: string): Promise<boolean> {
  if (!terminal.interactive) {
    throw new UsageError("rm asks before it deletes, and nobody can answer here: add --yes");
  }
  terminal.err(`${question} [y/N] `);
  const answer = await nextLine(terminal, signal);
  const yes = /^y(es)?$/i.test(answer?.trim() ?? "");
  if (!yes) terminal.err("Nothing was deleted.\n");
  return yes;
}

/** A recording that the catalog does not know yet is added when it is named by its directory. */
export async function findOrAdd(catalog: Catalog, reference: string): Promise<CatalogEntry> {
  try {
    return await catalog.find(reference);
  } catch (error) {
    if (!(error instanceof ClusterrrError)) throw error;
    if (await realDirectory(reference) === undefined) throw error;
    return await catalog.add(reference);
  }
}
