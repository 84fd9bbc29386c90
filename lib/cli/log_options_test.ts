import assert from "node:assert/strict";
import { object } from "@optique/core/constructs";
import { formatMessage } from "@optique/core/message";
import { parseSync, suggestSync } from "@optique/core/parser";
import { LOG_LEVELS, logLevelFrom } from "../telemetry/log.ts";
import { logLevelOption } from "./log_options.ts";

const parser = object({ logLevel: logLevelOption });

Deno.test("--log-level: a level, however it is written; none is none", () => {
  for (const [args, expected] of [[["--log-level", "DEBUG"], "debug"], [[], undefined]] as const) {
    const result = parseSync(parser, args);
    assert(result.success);
    assert.equal(result.value.logLevel, expected);
    assert.equal(logLevelFrom(result.value.logLevel, "error"), expected ?? "error");
  }
});

Deno.test("--log-level: anything else is refused, and the levels are completed", () => {
  const result = parseSync(parser, ["--log-level", "loud"]);
  assert(!result.success);
  assert.equal(
    formatMessage(result.error, { colors: false, quotes: false }),
    "--log-level: Expected one of trace, debug, info, warning, error, and fatal, but got loud.",
  );
  const offered = suggestSync(parser, ["--log-level", ""])
    .map((each) => each.kind === "literal" ? each.text : "");
  assert.deepEqual(offered, [...LOG_LEVELS]);
});
