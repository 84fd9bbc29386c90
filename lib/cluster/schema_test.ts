import assert from "node:assert/strict";
import { clusterJsonSchema } from "./schema.ts";

const FILE = new URL("cluster.schema.json", import.meta.url);
/** How to write the committed file anew after a change of the schema. */
const REWRITE = `deno eval 'import { clusterJsonSchema } from "./lib/cluster/schema.ts"; ` +
  `Deno.writeTextFileSync("lib/cluster/cluster.schema.json", ` +
  `JSON.stringify(clusterJsonSchema(), null, 2) + "\\n")'`;

Deno.test("cluster.schema.json is the schema of the code", async () => {
  const committed = JSON.parse(await Deno.readTextFile(FILE));
  assert.deepEqual(committed, clusterJsonSchema(), `it is stale; write it anew:\n${REWRITE}`);
});

Deno.test("the JSON Schema refuses unknown keys and describes what a user sets", () => {
  const schema = clusterJsonSchema() as {
    additionalProperties: boolean;
    required: string[];
    properties: { vms: { items: { additionalProperties: boolean; required: string[] } } };
  };
  assert.equal(schema.additionalProperties, false);
  assert.deepEqual(schema.required, ["name", "vms"]);
  assert.equal(schema.properties.vms.items.additionalProperties, false);
  assert.deepEqual(schema.properties.vms.items.required, ["name"]);
});
