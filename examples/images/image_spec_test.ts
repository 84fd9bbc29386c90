import assert from "node:assert/strict";
import { parseImageSpec } from "./image_spec.ts";

Deno.test("image.yaml: defaults", () => {
  const defaults = {
    kernel: "linux-image-cloud-amd64",
    modules: ["vmxnet3", "virtio_pci", "virtio_blk"],
    packages: [],
  };
  assert.deepEqual(parseImageSpec("i", ""), defaults);
  assert.deepEqual(parseImageSpec("i", "packages: [curl]"), { ...defaults, packages: ["curl"] });
});

Deno.test("image.yaml: mistakes", () => {
  const refused = (text: string, message: string) =>
    assert.throws(() => parseImageSpec("i", text), { name: "SpecError", message });
  refused(
    "\npackages: curl",
    "i:2:11: packages: Invalid input: expected array, received string",
  );
  refused("package: [a]", "i:1:1: package: unknown key; known here: kernel, modules, packages");
  refused("{a: b", "i:1:6: not valid YAML: Flow map must end with a }");
});
