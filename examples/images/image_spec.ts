/**
 * What an example's `image.yaml` may say. See `README.md` beside this file.
 */
import { z } from "zod";
import { YamlSource } from "../../lib/cluster/yaml_source.ts";
import { SpecError } from "../../lib/errors.ts";

const imageSchema = z.strictObject({
  /** Debian package whose first dependency is the kernel's image package. */
  kernel: z.string().default("linux-image-cloud-amd64"),
  /** Kernel modules to load at boot; what they need comes before them by itself. */
  modules: z.array(z.string()).default(["vmxnet3", "virtio_pci", "virtio_blk"]),
  /** Debian packages whose programs the guest has, beside busybox. */
  packages: z.array(z.string()).default([]),
});

const KEYS = Object.keys(imageSchema.shape).join(", ");

/** A guest image as `image.yaml` asks for it, defaults filled in. */
export type ImageSpec = z.infer<typeof imageSchema>;

/** Parses the text of an `image.yaml`. @throws {SpecError} */
export function parseImageSpec(file: string, text: string): ImageSpec {
  const source = new YamlSource(text);
  if (source.syntaxProblems.length > 0) throw new SpecError(file, source.syntaxProblems);
  const parsed = imageSchema.safeParse(source.value ?? {});
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.flatMap((issue) => {
    const path = issue.path as (string | number)[];
    if (issue.code !== "unrecognized_keys") return [source.problem(path, issue.message)];
    return issue.keys.map((key) =>
      source.problem([key], `unknown key; known here: ${KEYS}`, "key")
    );
  });
  throw new SpecError(file, problems);
}
