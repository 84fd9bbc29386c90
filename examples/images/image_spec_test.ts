import assert from "node:assert/strict";
import { parseImageSpec } from "./image_spec.ts";

Deno.test("image.yaml: defaults", () => {
  const defaults = {
    kernel: "linux-image-cloud-amd64",
    modules: ["vmxnet3", "virtio_pci", "virtio_blk"],
    packages: [],
    leaveOut: [],
    users: [],
    disks: [],
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
  refused(
    "package: [a]",
    "i:1:1: package: unknown key; known here: kernel, modules, packages, leaveOut, users, disks",
  );
  refused(
    "disks: [{name: data, size: 5}]",
    "i:1:28: disks[0].size: Invalid input: expected string, received number",
  );
  refused(
    "disks: [{name: data, size: 5T}]",
    'i:1:28: disks[0].size: expected a size such as "256M" or "1G"',
  );
  refused(
    "disks: [{name: data, size: 5M, from: a}]",
    "i:1:32: disks[0].from: unknown key; known here: name, size",
  );
  refused("leaveOut: [/usr/lib]", "i:1:12: leaveOut[0]: expected a path without / at its ends");
  refused("users: [Bob]", "i:1:9: users[0]: expected a user's name");
  refused("{a: b", "i:1:6: not valid YAML: Flow map must end with a }");
});

Deno.test("image.yaml: a disk, users, and what is left out", () => {
  const spec = parseImageSpec(
    "i",
    "users: [postgres]\nleaveOut: [usr/share/x]\ndisks: [{name: data, size: 256M}]\n",
  );
  assert.deepEqual(spec.users, ["postgres"]);
  assert.deepEqual(spec.leaveOut, ["usr/share/x"]);
  assert.deepEqual(spec.disks, [{ name: "data", size: "256M" }]);
});
