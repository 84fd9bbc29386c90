import assert from "node:assert/strict";
import { HostError } from "../../lib/errors.ts";
import { parseRecord } from "./debian_packages.ts";

const RECORD = `Package: curl
Version: 1:7.88-1
Architecture: amd64
Pre-Depends: init (>= 1)
Depends: libc6 (>= 2.34), libcurl4 (= 7.88), zlib1g:any, a | b
Section: web
Description: command line tool
 Depends: not this one
SHA256: 00ff`;

Deno.test("apt record: fields and first alternatives", () => {
  assert.deepEqual(parseRecord(RECORD), {
    name: "curl",
    version: "1:7.88-1",
    architecture: "amd64",
    section: "web",
    depends: ["init", "libc6", "libcurl4", "zlib1g", "a"],
    sha256: "00ff",
  });
});

Deno.test("apt record: without an archive it is refused", () => {
  const local = RECORD.replace(/\nSHA256.*/, "");
  assert.throws(
    () => parseRecord(local),
    (error) =>
      error instanceof HostError &&
      /curl failed \(0\): the record has no SHA256/.test(error.message),
  );
});
