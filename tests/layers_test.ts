/** The house's one rule: who may import whom. See ARCHITECTURE.md. */
import assert from "node:assert/strict";

/** For each top-level folder, the folders its files may import from. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  lib: ["lib"],
  host: ["host", "lib"],
  net: ["net", "host", "lib"],
  hypervisor: ["hypervisor", "host", "lib"],
};

const root = new URL("../", import.meta.url);

function* sourceFiles(directory: URL): Generator<URL> {
  for (const entry of Deno.readDirSync(directory)) {
    if (entry.isDirectory) yield* sourceFiles(new URL(`${entry.name}/`, directory));
    else if (entry.name.endsWith(".ts") && !entry.name.endsWith("_test.ts")) {
      yield new URL(entry.name, directory);
    }
  }
}

for (const [layer, allowed] of Object.entries(ALLOWED)) {
  Deno.test(`${layer}/ imports only ${allowed.join(", ")}`, () => {
    let imports = 0;
    for (const file of sourceFiles(new URL(`${layer}/`, root))) {
      const text = Deno.readTextFileSync(file);
      for (const [, specifier] of text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)) {
        imports++;
        const target = new URL(specifier!, file).href.slice(root.href.length).split("/")[0]!;
        assert.ok(allowed.includes(target), `${file.pathname} imports ${specifier}`);
      }
    }
    assert.ok(
      imports > 0,
      `no imports found below ${layer}/: is the test looking in the right place?`,
    );
  });
}
