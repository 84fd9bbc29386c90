/** `clusterrr tag`: names and tags of a recording. */
import { object } from "@optique/core/constructs";
import { multiple, optional } from "@optique/core/modifiers";
import { argument, option } from "@optique/core/primitives";
import { findOrAdd } from "./rm.ts";
import { defineSubcommand, sentence, withCatalog } from "./subcommand.ts";
import { label, recordingReference } from "./values.ts";

export const tag = defineSubcommand({
  name: "tag",
  brief: "Name and tag a recording.",
  description: [
    "Changes the name and the tags under which the catalog lists a recording; without a flag, prints " +
    "them. The recording's own files stay as they are.",
  ],
  examples: [
    "tag 3f9a --name before-the-fix",
    "tag before-the-fix --add ci --add flaky --remove new",
  ],
  parser: object({
    reference: argument(recordingReference(), {
      description: sentence("The recording: its directory, its name, or the beginning of its id."),
    }),
    add: multiple(option("--add", label("tag"), {
      description: sentence("A tag to add; may be given several times."),
    })),
    remove: multiple(option("--remove", label("tag"), {
      description: sentence("A tag to remove; may be given several times."),
    })),
    name: optional(option("--name", label("name"), {
      description: sentence("A new name."),
    })),
  }),
  async run({ reference, add, remove, name }, context) {
    const entry = await withCatalog(context, async (catalog) => {
      let entry = await findOrAdd(catalog, reference);
      if (name !== undefined) entry = await catalog.rename(entry.id, name);
      if (remove.length > 0) entry = await catalog.untag(entry.id, remove);
      if (add.length > 0) entry = await catalog.tag(entry.id, add);
      return entry;
    });
    const tags = entry.tags.length === 0 ? "no tags" : `tags ${entry.tags.join(", ")}`;
    context.terminal.out(`${entry.name} (${entry.id.slice(0, 8)}): ${tags}\n`);
    return 0;
  },
});
