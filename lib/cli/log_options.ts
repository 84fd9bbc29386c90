/** `--log-level`, which the commands that stay have. */
import { optional } from "@optique/core/modifiers";
import { option } from "@optique/core/primitives";
import { choice } from "@optique/core/valueparser";
import { LOG_LEVEL_DEFAULT, LOG_LEVEL_VARIABLE, LOG_LEVELS } from "../telemetry/log.ts";
import { sentence } from "./subcommand.ts";

/** Its value goes to `logLevelFrom`. */
export const logLevelOption = optional(
  option("--log-level", choice(LOG_LEVELS, { metavar: "LEVEL", caseInsensitive: true }), {
    description: sentence(
      `Log what is at least this severe. Default: ${LOG_LEVEL_VARIABLE} of the environment, or ` +
        `${LOG_LEVEL_DEFAULT}.`,
    ),
  }),
);
